"""MLflow's search language on both databases."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merlin_server.tracking.errors import InvalidTrackingRequest
from merlin_server.tracking.model import Dataset, DatasetInput, Metric, Param, Tag
from merlin_server.tracking.runs import RunChange
from merlin_server.tracking.search.grammar import (
    Comparison,
    Field,
    Order,
    parse_filter,
    parse_order,
)
from merlin_server.tracking.search.pages import Page
from merlin_server.tracking.service import EmbeddedTracking
from merlin_server.tracking.store import ACTIVE, DELETED, TrackedRunRow

NAN, INFINITY = math.nan, math.inf


@pytest.mark.parametrize(
    ("text", "comparisons"),
    [
        ("", []),
        ("  ", []),
        ("metrics.loss < 1", [("metrics", "loss", "<", 1.0)]),
        ("metric.loss<-1.5e-3", [("metrics", "loss", "<", -0.0015)]),
        ("params.`a b` = 'x'", [("params", "a b", "=", "x")]),
        ('parameters."a=b" != "x\'y"', [("params", "a=b", "!=", "x'y")]),
        ("tags.mlflow.source.type like '%'", [("tags", "mlflow.source.type", "LIKE", "%")]),
        ("status = 'FINISHED'", [("attributes", "status", "=", "FINISHED")]),
        ("attr.run_id in ('a', \"b\")", [("attributes", "run_id", "IN", ("a", "b"))]),
        ("run.run_id NOT  in ('a')", [("attributes", "run_id", "NOT IN", ("a",))]),
        ("tags.a is  null", [("tags", "a", "IS NULL", None)]),
        ("datasets.name == 'd'", [("datasets", "name", "=", "d")]),
        (
            "metrics.a>=1 and metrics.b<>2 AND\nparams.c ILIKE 'd'",
            [
                ("metrics", "a", ">=", 1.0),
                ("metrics", "b", "!=", 2.0),
                ("params", "c", "ILIKE", "d"),
            ],
        ),
    ],
)
def test_a_filter_is_read(text: str, comparisons: list[tuple[str, str, str, object]]) -> None:
    read = [(c.field.kind, c.field.key, c.operator, c.operand) for c in parse_filter(text)]
    assert read == comparisons


@pytest.mark.parametrize(
    "text",
    [
        "metrics.loss",
        "metrics.loss <",
        "metrics.loss < one",
        "< 1",
        "metrics.loss < 1 or metrics.loss > 2",
        "metrics.loss < 1 metrics.loss > 2",
        "metrics.loss < 1 AND",
        "unknown.loss < 1",
        "params.a = 'open",
        "run_id IN ()",
        "run_id IN ('a'",
        "run_id IN 'a'",
        "metrics.a < 1; DROP TABLE tracking_runs",
        "params.a BETWEEN 'a' AND 'b'",
        "metrics.a < 1.2.3",
        " AND ".join(["metrics.a < 1"] * 101),
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidTrackingRequest):
        parse_filter(text)


@given(text=st.text(max_size=60) | st.text("metricsparams.`'\"<>=!() ,1aAND", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        comparisons = parse_filter(text)
    except InvalidTrackingRequest:
        return
    assert all(isinstance(comparison, Comparison) for comparison in comparisons)


def test_an_order_is_read() -> None:
    assert parse_order("metrics.loss") == Order(Field("metrics", "loss"), ascending=True)
    assert parse_order("params.`a b` desc") == Order(Field("params", "a b"), ascending=False)
    assert parse_order("start_time ASC").ascending
    for text in ("", "metrics.loss UP", "metrics.loss DESC, start_time"):
        with pytest.raises(InvalidTrackingRequest):
            parse_order(text)


@pytest.fixture
def runs(tracking: EmbeddedTracking) -> EmbeddedTracking:
    """Four runs called a to d, in order of their start."""
    experiment = tracking.create_experiment("searched")
    values = {
        "a": ({"acc": 0.5, "loss": NAN}, {"kind": "tree", "note": "100%"}, {"team": "Fraud"}),
        "b": ({"acc": 0.9, "loss": INFINITY}, {"kind": "Tree", "note": "100x"}, {"team": "fraud"}),
        "c": ({"acc": -1.0, "loss": 2.0}, {"kind": "linear", "note": "a*b?[c]"}, {}),
        "d": ({}, {"kind": "line\\ar"}, {"odd key": "x", "it's": "quoted"}),
    }
    for start, (name, (metrics, params, tags)) in enumerate(values.items()):
        row = tracking.runs.create(experiment, name=name, start_time=start, user_id=f"user {name}")
        tracking.data.log(
            row.run_id,
            metrics=[Metric(key=key, value=value) for key, value in metrics.items()],
            params=[Param(key=key, value=value) for key, value in params.items()],
            tags=[Tag.model_construct(key=key, value=value) for key, value in tags.items()],
        )
    used = DatasetInput(dataset=Dataset(name="iris", digest="123"))
    tracking.data.log_inputs(row.run_id, [used], [])
    tracking.runs.update(row.run_id, RunChange(status="FAILED", end_time=10))
    return tracking


def search(
    tracking: EmbeddedTracking, text: str = "", *orders: str, most: int = 100, token: str = ""
) -> Page[TrackedRunRow]:
    return tracking.runs.search(
        ["1"],
        filter_text=text,
        orders=orders or ["start_time"],
        stages=[ACTIVE, DELETED],
        max_results=most,
        token=token,
    )


def names(page: Page[TrackedRunRow]) -> str:
    return "".join(row.run_name for row in page.items)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "abcd"),
        ("metrics.acc > 0", "ab"),
        ("metrics.acc >= 0.5 and metrics.acc < 0.9", "a"),
        ("metrics.acc != 0.5", "bc"),
        ("metrics.acc = -1", "c"),
        ("metrics.loss > 0", "bc"),
        ("metrics.loss > 1e308", "b"),
        ("metrics.loss < 1e999", "c"),
        ("params.kind = 'tree'", "a"),
        ("params.kind LIKE 't%'", "a"),
        ("params.kind LIKE 'T__e'", "b"),
        ("params.kind ILIKE 'TREE'", "ab"),
        ("params.kind LIKE 'line\\ar'", "d"),
        ("params.kind ILIKE 'LINE\\%'", "d"),
        ("params.kind LIKE '%\\'", ""),
        ("params.note LIKE 'a*b?[c]'", "c"),
        ("params.note LIKE '*'", ""),
        ("params.note LIKE '100_'", "ab"),
        ("params.kind != 'tree'", "bcd"),
        ("tags.team = 'fraud'", "b"),
        ("tags.team IS NULL", "cd"),
        ("tags.team IS NOT NULL AND metrics.acc > 0.6", "b"),
        ("tags.`odd key` = 'x'", "d"),
        ("tags.\"it's\" = 'quoted'", "d"),
        ("params.gone IS NULL", "abcd"),
        ("attributes.run_name IN ('a', 'c', 'x')", "ac"),
        ("run_name NOT IN ('a', 'c', 'x')", "bd"),
        ("`run name` = 'b'", "b"),
        ("status = 'FAILED'", "d"),
        ("status != 'FAILED'", "abc"),
        ("start_time >= 1 AND start_time <= 2", "bc"),
        ("start_time < 1e300", "abcd"),
        ("end_time > 5", "d"),
        ("user_id LIKE 'user%'", "abcd"),
        ("artifact_uri LIKE 'mlflow-artifacts:/1/%'", "abcd"),
        ("datasets.name = 'iris' AND dataset.digest LIKE '1%'", "d"),
    ],
)
def test_a_filter_finds(runs: EmbeddedTracking, text: str, found: str) -> None:
    assert names(search(runs, text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "metrics.acc = 'x'",
        "metrics.acc LIKE 'x'",
        "params.kind = 1",
        "params.kind > 'a'",
        "start_time = 'today'",
        "start_time IN ('1')",
        "attributes.password = 'x'",
        "datasets.source = 'x'",
        f"params.kind LIKE '{'%' * 6000}'",
    ],
)
def test_what_cannot_be_compared_is_refused(runs: EmbeddedTracking, text: str) -> None:
    with pytest.raises(InvalidTrackingRequest):
        search(runs, text)


@pytest.mark.parametrize(
    ("orders", "found"),
    [
        (["start_time DESC"], "dcba"),
        (["metrics.acc"], "cabd"),
        (["metrics.acc DESC"], "bacd"),
        (["metrics.loss DESC"], "bcda"),
        (["params.note DESC", "start_time"], "cbad"),
        (["tags.team IS"], None),
        (["status ASC", "run_name DESC"], "dcba"),
        (["datasets.name"], None),
        (["attributes.nothing"], None),
    ],
)
def test_results_come_in_order(
    runs: EmbeddedTracking, orders: list[str], found: str | None
) -> None:
    if found is None:
        with pytest.raises(InvalidTrackingRequest):
            search(runs, "", *orders)
    else:
        assert names(search(runs, "", *orders)) == found


def test_pages_hold_each_result_once(runs: EmbeddedTracking) -> None:
    found, token = "", ""
    for expected in ("abc", "d"):
        page = search(runs, most=3, token=token)
        assert names(page) == expected
        found, token = found + names(page), page.next_token
    assert (found, token) == ("abcd", "")
    assert search(runs, most=4).next_token == ""


@pytest.mark.parametrize(
    "token", ["x", "e30=", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAiMSJ9", "W10=", "ü"]
)
def test_a_made_up_token_is_refused(runs: EmbeddedTracking, token: str) -> None:
    with pytest.raises(InvalidTrackingRequest):
        search(runs, token=token)


@pytest.mark.parametrize("most", [0, -1, 50_001])
def test_a_page_has_a_size(runs: EmbeddedTracking, most: int) -> None:
    with pytest.raises(InvalidTrackingRequest):
        search(runs, most=most)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text(st.characters(exclude_characters="\x00'", codec="utf-8"), max_size=30),
    operator=st.sampled_from(["=", "!=", "LIKE", "ILIKE"]),
)
def test_any_text_can_be_compared(runs: EmbeddedTracking, value: str, operator: str) -> None:
    assert len(search(runs, f"params.kind {operator} '{value}'").items) <= 4
