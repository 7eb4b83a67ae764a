"""What runs log, on both databases."""

from __future__ import annotations

import math
import threading

import pytest

from merlin_server.tracking.errors import (
    InvalidTrackingRequest,
    TrackingConflict,
    TrackingNotFound,
)
from merlin_server.tracking.model import ExperimentTag, Metric, ModelLink, Param, Tag
from merlin_server.tracking.runs import RunChange
from merlin_server.tracking.service import EmbeddedTracking


@pytest.fixture
def run_id(tracking: EmbeddedTracking) -> str:
    return tracking.create_run(tracking.create_experiment("logged")).run_id


def points(*values: tuple[float, int, int]) -> list[Metric]:
    return [
        Metric(key="loss", value=value, step=step, timestamp=time) for value, step, time in values
    ]


def shown(tracking: EmbeddedTracking, run_id: str) -> dict[str, float]:
    rows = tracking.runs.get(run_id).metrics
    return {row.key: math.nan if row.is_nan else row.value for row in rows}


@pytest.mark.parametrize(
    ("logged", "latest"),
    [
        ([(1, 0, 0), (2, 1, 0), (3, 0, 9)], 2),
        ([(1, 0, 5), (2, 0, 4)], 1),
        ([(1, 0, 0), (3, 0, 0), (2, 0, 0)], 3),
        ([(1, -5, 0), (2, -6, 0)], 1),
        ([(1, 2**63 - 1, 2**63 - 1), (2, -(2**63), 0)], 1),
        ([(math.inf, 0, 0), (1, 0, 0)], math.inf),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_the_latest_point_is_shown(
    tracking: EmbeddedTracking,
    run_id: str,
    logged: list[tuple[float, int, int]],
    latest: float,
    at_once: bool,
) -> None:
    metrics = points(*logged)
    for batch in [metrics] if at_once else [[metric] for metric in metrics]:
        tracking.data.log(run_id, metrics=batch)
    assert shown(tracking, run_id) == {"loss": latest}


def test_a_number_is_shown_before_what_is_none(tracking: EmbeddedTracking, run_id: str) -> None:
    tracking.data.log(run_id, metrics=points((math.nan, 1, 0)))
    assert math.isnan(shown(tracking, run_id)["loss"])
    tracking.data.log(run_id, metrics=points((-5, 1, 0)))
    assert shown(tracking, run_id) == {"loss": -5}


def test_a_repeated_request_logs_once(tracking: EmbeddedTracking, run_id: str) -> None:
    metrics = points((1, 0, 0), (math.nan, 0, 0), (0, 0, 0), (math.inf, 0, 0))
    for _ in range(2):
        tracking.data.log(run_id, metrics=metrics, params=[Param(key="a", value="1")])
    history = tracking.data.metric_history([run_id], "loss", max_results=100).items
    assert sorted((row.value, row.is_nan) for row in history) == [
        (0, False),
        (0, True),
        (1, False),
        (math.inf, False),
    ]


def test_a_history_comes_in_pages_and_order(tracking: EmbeddedTracking, run_id: str) -> None:
    tracking.data.log(run_id, metrics=points(*((step, step, 9 - step) for step in range(10))))
    first = tracking.data.metric_history([run_id], "loss", max_results=6)
    second = tracking.data.metric_history([run_id], "loss", max_results=6, token=first.next_token)
    assert [row.step for row in [*first.items, *second.items]] == list(range(9, -1, -1))
    with pytest.raises(TrackingNotFound):
        tracking.data.metric_history([run_id, "0" * 32], "loss", max_results=5)


def test_a_parameter_never_changes_and_a_refused_batch_logs_nothing(
    tracking: EmbeddedTracking, run_id: str
) -> None:
    tracking.data.log(run_id, params=[Param(key="rate", value="0.1")])
    with pytest.raises(InvalidTrackingRequest, match=r"rate.*0\.1.*0\.2"):
        tracking.data.log(
            run_id,
            params=[Param(key="new", value="x"), Param(key="rate", value="0.2")],
            metrics=points((1, 0, 0)),
            tags=[Tag(key="t", value="x")],
        )
    with pytest.raises(InvalidTrackingRequest):
        tracking.data.log(run_id, params=[Param(key="b", value="1"), Param(key="b", value="2")])
    row = tracking.runs.get(run_id)
    assert [(param.key, param.value) for param in row.params] == [("rate", "0.1")]
    assert list(row.metrics) == []
    assert [tag.key for tag in row.tags] == ["mlflow.runName"]


@pytest.mark.parametrize(
    "batch",
    [
        {"metrics": points(*((0, step, 0) for step in range(1001)))},
        {"params": [Param(key=f"p{number}") for number in range(101)]},
        {"tags": [Tag(key=f"t{number}") for number in range(101)]},
        {
            "metrics": points(*((0, step, 0) for step in range(950))),
            "params": [Param(key=f"p{number}") for number in range(51)],
        },
    ],
)
def test_a_batch_has_a_size(
    tracking: EmbeddedTracking, run_id: str, batch: dict[str, list[object]]
) -> None:
    with pytest.raises(InvalidTrackingRequest, match="at most"):
        tracking.data.log(run_id, **batch)  # type: ignore[arg-type]


def test_many_writers_of_one_run_agree(tracking: EmbeddedTracking, run_id: str) -> None:
    refused: list[Exception] = []

    def write(number: int) -> None:
        try:
            tracking.data.log(
                run_id,
                params=[Param(key="winner", value=str(number))],
                metrics=points((1, number, 0)),
            )
        except InvalidTrackingRequest as error:
            refused.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert len(refused) == 7
    row = tracking.runs.get(run_id)
    assert row.metrics[0].step == int(row.params[0].value)


def test_the_name_is_a_tag_too(tracking: EmbeddedTracking, run_id: str) -> None:
    tracking.data.log(run_id, tags=[Tag(key="mlflow.runName", value="by tag")])
    assert tracking.runs.get(run_id).run_name == "by tag"
    tracking.runs.update(run_id, RunChange(name="by update"))
    row = tracking.runs.get(run_id)
    assert {tag.key: tag.value for tag in row.tags} == {"mlflow.runName": "by update"}
    with pytest.raises(InvalidTrackingRequest):
        tracking.runs.create("1", name="one", tags=[Tag(key="mlflow.runName", value="other")])


def test_a_deleted_run_takes_nothing_until_it_is_restored(
    tracking: EmbeddedTracking, run_id: str
) -> None:
    tracking.runs.delete(run_id)
    tracking.runs.delete(run_id)
    for write in (
        lambda: tracking.data.log(run_id, metrics=points((1, 0, 0))),
        lambda: tracking.data.log_outputs(run_id, [ModelLink(model_id="m")]),
        lambda: tracking.runs.update(run_id, RunChange(status="FINISHED")),
    ):
        with pytest.raises(InvalidTrackingRequest, match="deleted"):
            write()
    tracking.runs.restore(run_id)
    tracking.data.log(run_id, metrics=points((1, 0, 0)))


def test_tags_are_removed_once(tracking: EmbeddedTracking, run_id: str) -> None:
    tracking.data.log(run_id, tags=[Tag(key="a", value="1")])
    tracking.data.delete_tag(run_id, "a")
    with pytest.raises(TrackingNotFound):
        tracking.data.delete_tag(run_id, "a")
    tracking.experiments.set_tag("1", ExperimentTag(key="a", value="1"))
    tracking.experiments.delete_tag("1", "a")
    with pytest.raises(TrackingNotFound):
        tracking.experiments.delete_tag("1", "a")


def test_the_default_experiment_is_there_when_asked_for(tracking: EmbeddedTracking) -> None:
    with pytest.raises(TrackingConflict):
        tracking.create_experiment("Default")
    assert tracking.experiments.get("0").name == "Default"
    assert tracking.experiments.get_by_name("Default").id == 0
    assert tracking.create_experiment("first") == "1"


def test_an_experiments_id_is_never_given_again(tracking: EmbeddedTracking) -> None:
    first = tracking.create_experiment("churn")
    tracking.delete_experiment(first)
    assert tracking.create_experiment("churn") != first


def test_a_deleted_experiment_keeps_its_name_until_it_is_gone(tracking: EmbeddedTracking) -> None:
    experiment = tracking.create_experiment("churn")
    tracking.experiments.delete(experiment)
    with pytest.raises(TrackingConflict):
        tracking.create_experiment("churn")
    with pytest.raises(InvalidTrackingRequest):
        tracking.experiments.delete(experiment)
    tracking.experiments.restore(experiment)
    tracking.create_experiment("other")
    with pytest.raises(TrackingConflict):
        tracking.experiments.rename(experiment, "other")
    tracking.experiments.rename(experiment, "churn")


def test_a_model_history_grows(tracking: EmbeddedTracking, run_id: str) -> None:
    tracking.data.append_to_list_tag(run_id, "history", {"a": 1})
    tracking.data.append_to_list_tag(run_id, "history", {"b": 2})
    tags = {tag.key: tag.value for tag in tracking.runs.get(run_id).tags}
    assert tags["history"] == '[{"a": 1}, {"b": 2}]'
