"""The SDK against a server on a socket: what it asks, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import merlin
from merlin.client.errors import (
    ArtifactPlaceUnsupported,
    BadAnswer,
    BuildFailed,
    DeploymentFailed,
    InvalidArgument,
    ModelFolderInvalid,
    NoSuchName,
    NotFound,
    NotSetUp,
    WaitedTooLong,
)
from merlin.client.models import RUNNING_PYTHON, Model
from merlin.client.versions import ModelVersion
from merlin.client.waiting import Patience
from merlin.endpoint import Status
from merlin.logger import Logger, LoggerConfig
from merlin.model import ModelType, PyFuncModel
from merlin.resource_request import ResourceRequest
from merlin.transformer import StandardTransformer, Transformer

ENDPOINT = "/v1/models/1/versions/1/endpoint"


@pytest.fixture
def model(server: Any) -> Model:
    project = merlin.MerlinClient(server.url).get_project("demo")
    return project.get_or_create_model("cancer", ModelType.SKLEARN)


@pytest.fixture
def version(model: Model) -> ModelVersion:
    return model.new_model_version()


@pytest.fixture
def patience() -> Patience:
    clock = iter(range(10_000))
    return Patience(
        timeout_seconds=50, monotonic=lambda: float(next(clock)), sleep=lambda seconds: None
    )


class Recorded:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def start(self, step: str, *, total: int | None = None) -> None:
        self.events.append(("start", step))

    def advance(self, step: str, amount: int) -> None:
        """Bytes are not looked at here."""

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        self.events.append(("failed" if failed else "finish", step, detail))


@pytest.mark.usefixtures("fresh_session")
@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (merlin.list_project, "set_url"),
        (lambda: merlin.set_project("demo"), "set_url"),
        (lambda: merlin.set_model("cancer"), "set_url"),
        (merlin.deploy, "set_url"),
        (lambda: merlin.log_metric("a", 1), "set_url"),
        (lambda: merlin.serve_traffic({}), "set_url"),
    ],
)
def test_a_call_before_set_up_names_the_missing_call(call: Callable[[], Any], hint: str) -> None:
    with pytest.raises(NotSetUp, match=hint):
        call()


@pytest.mark.usefixtures("fresh_session")
def test_each_missing_step_is_named_in_turn(server: Any) -> None:
    merlin.set_url(server.url)
    with pytest.raises(NotSetUp, match="set_project"):
        merlin.set_model("cancer")
    merlin.set_project("demo")
    with pytest.raises(NotSetUp, match="set_model"):
        merlin.list_model_endpoints()
    merlin.set_model("cancer", ModelType.SKLEARN)
    with pytest.raises(NotSetUp, match="new_model_version"):
        merlin.log_param("a", 1)


@pytest.mark.usefixtures("fresh_session")
def test_the_way_of_a_notebook(server: Any, tmp_path: Path) -> None:
    merlin.set_url(server.url, use_google_oauth=False)
    merlin.create_project("other")
    merlin.set_model("cancer", "sklearn")
    (tmp_path / "model.joblib").write_bytes(b"weights")
    with merlin.new_model_version(labels={"team": "a"}) as version:
        merlin.log_params({f"p{number}": number for number in range(250)})
        merlin.log_metric("accuracy", 0.97)
        merlin.set_tag("stage", "test")
        merlin.set_tag("gone", "x")
        merlin.delete_tag("gone")
        merlin.log_model(str(tmp_path))
        assert merlin.get_param("p249") == "249"
        assert merlin.get_metric("accuracy") == 0.97
        assert merlin.list_tag() == {"stage": "test"}
    assert server.runs["run1"]["status"] == "FINISHED"
    assert server.versions[0]["python_version"] == RUNNING_PYTHON
    assert server.files == {"1/run1/artifacts/model/model.joblib": b"weights"}
    endpoint = merlin.deploy(version)
    assert endpoint.status is Status.RUNNING
    assert endpoint.url.endswith("/v1/models/m-1:predict")
    traffic = {endpoint: 100}
    stable = merlin.serve_traffic(traffic)
    assert stable.url == f"{server.url}/stable/v1/predict"
    assert traffic == {endpoint: 100}
    merlin.stop_serving_traffic()
    merlin.undeploy(version)
    assert server.endpoints[0]["status"] == "terminated"
    merlin.download_artifact(tmp_path / "back")
    assert (tmp_path / "back/model/model.joblib").read_bytes() == b"weights"


@pytest.mark.usefixtures("fresh_session")
def test_an_exception_ends_the_run_as_failed(server: Any) -> None:
    merlin.set_url(server.url)
    merlin.set_project("demo")
    merlin.set_model("cancer", ModelType.SKLEARN)
    with pytest.raises(ZeroDivisionError), merlin.new_model_version():
        _ = 1 / 0
    assert server.runs["run1"]["status"] == "FAILED"


def test_names_are_matched_exactly(server: Any, model: Model) -> None:
    server.models[0]["name"] = "cancer-v2"
    with pytest.raises(NoSuchName, match="no model 'cancer'"):
        model.project.get_model("cancer")
    fresh = model.project.get_or_create_model("cancer", ModelType.SKLEARN)
    assert (fresh.id, fresh.name) == (2, "cancer")
    client = merlin.MerlinClient(server.url)
    with pytest.raises(NoSuchName, match="merlin projects create dem"):
        client.get_project("dem")
    assert client.get_environment("loca") is None


def test_a_model_keeps_its_type(model: Model) -> None:
    with pytest.raises(InvalidArgument, match="is of type sklearn, not xgboost"):
        model.project.get_or_create_model("cancer", ModelType.XGBOOST)
    with pytest.raises(InvalidArgument, match="no model type 'forest'"):
        model.project.get_or_create_model("new", "forest")
    with pytest.raises(NoSuchName, match="needs a type"):
        model.project.get_or_create_model("new")


def test_google_sign_in_of_older_code_is_only_warned_about(server: Any) -> None:
    with pytest.warns(UserWarning, match="token"):
        client = merlin.MerlinClient(server.url, use_google_oauth=True)
    assert [project.name for project in client.list_project()] == ["demo"]


def test_a_deploy_sends_only_what_was_given(server: Any, version: ModelVersion) -> None:
    version.deploy()
    assert server.last("POST", ENDPOINT).json == {"environment_name": "local"}
    version.deploy(
        env_vars={"A": "1"},
        resource_request=ResourceRequest(min_replica=1),
        transformer=Transformer("image", env_vars={"B": "2"}),
        logger=Logger(model=LoggerConfig(enabled=True)),
    )
    sent = server.last("PUT", f"{ENDPOINT}/endpoint-1").json
    assert sent["env_vars"] == [{"name": "A", "value": "1"}]
    assert sent["resource_request"] == {"min_replica": 1}
    assert sent["transformer"]["env_vars"] == [{"name": "B", "value": "2"}]
    assert sent["logger"] == {"model": {"enabled": True, "mode": "all"}}
    assert (sent["id"], sent["status"]) == ("endpoint-1", "running")
    assert "secrets" not in sent
    version.deploy(env_vars={})
    assert server.last("PUT", f"{ENDPOINT}/endpoint-1").json["env_vars"] == []


def test_a_serving_version_is_redeployed_in_place(server: Any, version: ModelVersion) -> None:
    version.model.serve_traffic({version.deploy(): 100})
    assert version.deploy().status is Status.SERVING
    assert server.last("PUT", f"{ENDPOINT}/endpoint-1").json["status"] == "serving"


def test_a_failed_deploy_names_the_reason_and_the_culprit(
    server: Any, version: ModelVersion
) -> None:
    server.outcome, server.message = "failed", "No module named 'sklearn'"
    culprit = {"container": "model", "exit_code": 1, "last_lines": ["Traceback", "boom"]}
    condition = {"type": "Ready", "status": False, "reason": "Exited", "culprit": culprit}
    server.condition = condition
    recorded = Recorded()
    with pytest.raises(merlin.ModelEndpointDeploymentError, match="No module named") as caught:
        version.deploy(progress=recorded)
    assert caught.value.version == 1
    assert caught.value.data["culprits"] == [culprit]
    assert recorded.events[-1][:2] == ("failed", "Start model")


def test_a_failed_redeploy_is_seen_though_the_old_one_runs(
    server: Any, version: ModelVersion
) -> None:
    version.deploy()
    server.spoilt[f"GET {ENDPOINT}/endpoint-1"] = [
        (200, {"id": "endpoint-1", "status": "running", "version_id": 1})
    ]
    server.deployments.append({"id": 9, "status": "failed", "error": "It does not import."})
    with pytest.raises(DeploymentFailed, match="It does not import"):
        version.deploy()


def test_a_build_is_followed_step_by_step(server: Any, version: ModelVersion) -> None:
    image = "/v1/models/1/versions/1/image"
    lock = {"step": "lock", "seconds": 0.2, "detail": "reused", "failed": False}
    push = {"step": "push", "seconds": None, "detail": "", "failed": False}
    active = {"image_building_job_status": {"state": "active"}}
    pushed = {**push, "seconds": 1.0}
    layers = [{"action": "uploaded"}, {"action": "present"}, {"action": "present"}]
    done = {
        "exists": True,
        "image_building_job_status": {"state": "succeeded"},
        "steps": [lock, pushed],
        "report": {"reused": False, "layers": layers},
    }
    server.spoilt[f"GET {image}"] = [
        *[(200, {"steps": [{"name": "of an earlier build", "seconds": 1}]})] * 2,
        (200, {**active, "steps": []}),
        (200, {**active, "steps": [lock, push]}),
        (200, done),
        (200, done),
    ]
    recorded = Recorded()
    quick = Patience(poll_seconds=0, sleep=lambda seconds: None)
    server.spoilt[f"GET {ENDPOINT}/endpoint-1"] = [
        (200, {"id": "endpoint-1", "status": "pending"})
    ] * 3
    version.deploy(progress=recorded, patience=quick)
    assert recorded.events == [
        ("start", "Build image"),
        ("start", "Build image > lock"),
        ("finish", "Build image > lock", "reused, 200 ms"),
        ("start", "Build image > push"),
        ("finish", "Build image > push", ""),
        ("finish", "Build image", "1 uploaded, 2 present"),
        ("start", "Start model"),
        ("finish", "Start model", "running"),
    ]


def test_a_failed_build_says_why(server: Any, version: ModelVersion) -> None:
    status = {"state": "failed", "message": "No wheel of nosuch==1 for Python 3.11."}
    server.spoilt["GET /v1/models/1/versions/1/image"] = [
        (200, {}),
        (200, {"image_building_job_status": status}),
    ]
    with pytest.raises(BuildFailed, match=r"No wheel of nosuch==1.*logs cancer:1 --build"):
        version.build_image()
    assert version.build_image().exists


def test_waiting_has_an_end(server: Any, version: ModelVersion, patience: Patience) -> None:
    pending = (200, {"id": "endpoint-1", "status": "pending"})
    server.spoilt[f"GET {ENDPOINT}/endpoint-1"] = [pending] * 1000
    with pytest.raises(WaitedTooLong, match="cancer version 1 is not done after 50 s"):
        version.deploy(patience=patience)


def test_waiting_outlives_a_restart_of_the_server(patience: Patience) -> None:
    answers = iter([merlin.client.errors.ServerUnreachable("gone")] * 5)

    def observe() -> str | None:
        for error in answers:
            raise error
        return "ready"

    assert patience.until(observe, "It") == "ready"


@pytest.mark.parametrize("weights", [[], [99], [50, 51], [150, -50]])
def test_traffic_is_all_or_an_error(version: ModelVersion, weights: list[int]) -> None:
    endpoint = version.deploy()
    others = [endpoint.model_copy(update={"id": str(n)}) for n in range(len(weights))]
    with pytest.raises(InvalidArgument, match="sum to 100"):
        version.model.serve_traffic(dict(zip(others, weights, strict=True)))


def test_traffic_goes_to_what_runs(version: ModelVersion) -> None:
    stopped = version.deploy().model_copy(update={"status": Status.FAILED})
    with pytest.raises(InvalidArgument, match="is failed, not running"):
        version.model.serve_traffic({stopped: 100})


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.usefixtures("fresh_session")
def test_deprecated_functions_still_work(server: Any) -> None:
    merlin.set_url(server.url)
    merlin.set_project("demo")
    merlin.set_model("cancer", ModelType.SKLEARN)
    with merlin.new_model_version() as version:
        version.deploy()
    assert merlin.set_traffic({version: 100}).id == 7
    with pytest.raises(ModelFolderInvalid):
        merlin.log_pytorch_model("absent")


def test_undeploying_what_is_not_deployed_says_so(version: ModelVersion) -> None:
    with pytest.raises(NoSuchName, match="is not deployed in local"):
        version.undeploy()


def test_an_unknown_version_is_not_found(model: Model) -> None:
    with pytest.raises(NotFound, match="no version 9"):
        model.get_version(9)


def test_versions_are_read_page_by_page_and_filtered(server: Any, model: Model) -> None:
    for _ in range(2):
        model.new_model_version()
    found = model.list_version(labels={"team": ["a", "b"], "none": []})
    assert [version.id for version in found] == [2, 1]
    query = server.last("GET", "/v1/models/1/versions").query
    assert query == {"limit": "50", "search": "labels:team in (a, b)"}


def test_an_answer_of_another_shape_is_named_by_its_field(server: Any, model: Model) -> None:
    server.spoilt["GET /v1/models/1/versions/1"] = [(200, {"id": "x", "mlflow_run_id": "r"})]
    with pytest.raises(BadAnswer, match="ModelVersion that cannot be read: id"):
        model.get_version(1)


def test_files_in_a_place_of_no_kind_we_know_are_not_looked_for(server: Any, model: Model) -> None:
    version = model.new_model_version().model_copy(update={"artifact_uri": "ftp://bucket/1"})
    with pytest.raises(ArtifactPlaceUnsupported, match="ftp://bucket"):
        version.download_artifact("never")


def test_files_in_a_blob_store_are_moved_without_the_server(
    server: Any, model: Model, tmp_path: Path
) -> None:
    place = (tmp_path / "store/1/abc/artifacts").as_uri()
    version = model.new_model_version().model_copy(update={"artifact_uri": place})
    (tmp_path / "local/deep").mkdir(parents=True)
    (tmp_path / "local/deep/weights").write_bytes(b"weights")
    version.log_artifact(tmp_path / "local")
    version.log_artifact(tmp_path / "local/deep/weights", "alone")
    version.log_artifacts(tmp_path / "local", "model")
    version.download_artifact(tmp_path / "back")
    found = {
        file.relative_to(tmp_path / "back").as_posix()
        for file in (tmp_path / "back").rglob("*")
        if file.is_file()
    }
    assert found == {"local/deep/weights", "alone/weights", "model/deep/weights"}
    with pytest.raises(InvalidArgument, match="no file or folder"):
        version.log_artifact(tmp_path / "nothing")
    empty = model.new_model_version().model_copy(update={"artifact_uri": f"{place}/none"})
    with pytest.raises(NotFound, match="no files"):
        empty.download_artifact(tmp_path / "never")


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a/b", ""])
def test_a_listed_name_never_leaves_the_folder(
    server: Any, version: ModelVersion, tmp_path: Path, name: str
) -> None:
    listing = {"files": [{"path": name, "is_dir": False, "file_size": 1}]}
    server.spoilt["GET /api/2.0/mlflow-artifacts/artifacts"] = [(200, listing)]
    with pytest.raises(BadAnswer, match="impossible name"):
        version.download_artifact(tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_names_with_odd_characters_round_trip(version: ModelVersion, tmp_path: Path) -> None:
    odd = tmp_path / "in" / "a b%20?#+☃.txt"
    odd.parent.mkdir()
    odd.write_text("odd")
    version.log_artifact(odd, "notes")
    version.log_artifact(odd.parent, "notes")
    version.download_artifact(tmp_path / "back")
    back = tmp_path / "back" / "notes"
    assert (back / odd.name).read_text() == (back / "in" / odd.name).read_text() == "odd"


def test_a_python_function_model_is_logged_as_a_folder(server: Any, model: Model) -> None:
    pyfunc = model.project.get_or_create_model("wrapped", ModelType.PYFUNC)
    version = pyfunc.new_model_version()
    version.log_pyfunc_model(PyFuncModel(), {"dependencies": [{"pip": ["numpy"]}]})
    names = {key.rpartition("/")[2] for key in server.files}
    assert names == {"MLmodel", "conda.yaml", "python_model.pkl"}
    conda = server.files["1/run1/artifacts/model/conda.yaml"].decode()
    assert f"python={RUNNING_PYTHON}" in conda
    with pytest.raises(InvalidArgument, match="type sklearn, not pyfunc"):
        model.new_model_version().log_pyfunc_model(PyFuncModel(), {})


def test_an_estimator_is_logged_without_a_folder(server: Any, version: ModelVersion) -> None:
    dummy = pytest.importorskip("sklearn.dummy")
    version.log_model(dummy.DummyClassifier().fit([[0]], [1]))
    assert list(server.files) == ["1/run1/artifacts/model/model.joblib"]


def test_a_custom_model_says_which_image_serves_it(server: Any, model: Model) -> None:
    custom = model.project.get_or_create_model("own", ModelType.CUSTOM)
    custom.new_model_version().log_custom_model("registry/own:1", command="serve")
    expected = {"image": "registry/own:1", "command": "serve", "args": ""}
    assert server.versions[0]["custom_predictor"] == expected


def test_secrets_are_named_and_never_read(server: Any, model: Model) -> None:
    path = "/v1/projects/1/secrets"
    server.spoilt[f"GET {path}"] = [(200, [{"id": 4, "name": "key"}])] * 2
    server.spoilt[f"DELETE {path}/4"] = [(204, None)]
    assert model.project.list_secret() == ["key"]
    model.project.delete_secret("key")
    assert server.calls[-1].method == "DELETE"


def test_resources_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="larger than max_replica"):
        ResourceRequest(min_replica=2, max_replica=1)


def test_a_standard_transformer_sends_its_file(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("transformerConfig: {preprocess: {}}")
    transformer = StandardTransformer(str(tmp_path / "t.yaml"))
    assert transformer.env_vars == {
        "STANDARD_TRANSFORMER_CONFIG": '{"transformerConfig": {"preprocess": {}}}'
    }
