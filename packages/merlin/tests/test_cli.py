"""The command line in this process, against a server on a socket."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from merlin.cli import exit_codes, profile
from merlin.cli.app import COMMANDS, make_app
from merlin.cli.extensions import KNOWN
from merlin.cli.main import run
from merlin.errors import Kind


class Cli:
    """Runs commands; ``out`` and ``err`` are what the last one wrote."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = run(arguments)
        self.out, self.err = self._capsys.readouterr()
        return code

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err.splitlines()[-1])


@pytest.fixture
def cli(
    server: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Cli:
    monkeypatch.setenv("MERLIN_CONFIG", str(tmp_path / "config.toml"))
    for name in ("MERLIN_URL", "MERLIN_TOKEN", "MERLIN_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    profile.save(server.url, "kept-token", "demo")
    return Cli(capsys)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model dir"
    folder.mkdir()
    (folder / "model.joblib").write_bytes(b"weights")
    return folder


def test_every_kind_of_error_has_an_exit_code_of_its_own() -> None:
    assert set(exit_codes.BY_KIND) == set(Kind)
    assert len(set(exit_codes.BY_KIND.values())) == len(Kind)
    assert exit_codes.OK not in exit_codes.BY_KIND.values()


def test_exit_codes_never_change() -> None:
    codes = {kind.value: code for kind, code in exit_codes.BY_KIND.items()}
    assert codes == {
        "failed": 1,
        "usage": 64,
        "invalid": 65,
        "not_found": 66,
        "unavailable": 69,
        "internal": 70,
        "too_large": 72,
        "conflict": 73,
        "exhausted": 75,
        "upstream": 76,
        "denied": 77,
    }


@pytest.mark.parametrize("command", [*COMMANDS, "projects create", "projects list"])
def test_every_command_shows_examples(cli: Cli, command: str) -> None:
    assert cli(*command.split(), "--help") == 0
    if command != "projects":
        assert "For example:" in cli.out
        assert f"merlin {command}" in cli.out.split("For example:")[1]


def test_the_help_names_every_command_of_merlins_packages(cli: Cli) -> None:
    assert cli("--help") == 0
    for name in [*COMMANDS, *KNOWN]:
        assert f" {name} " in cli.out


def test_deploying_a_folder_ends_with_the_address(cli: Cli, server: Any, model_dir: Path) -> None:
    (model_dir / "request.json").write_text("{}")
    code = cli("deploy", "cancer", "--model-dir", str(model_dir), "--model-type", "sklearn")
    assert code == 0, cli.err
    assert cli.out == f"{server.url}/stable/v1/predict\n"
    assert "Upload files: 2 files" in cli.err
    assert "Start model: running" in cli.err
    assert f"-d '@{model_dir}/request.json' {server.url}/stable/v1/predict" in cli.err
    assert server.runs["run1"]["status"] == "FINISHED"
    assert {call.headers.get("authorization") for call in server.calls} == {"Bearer kept-token"}


def test_a_new_version_replaces_the_one_that_served(cli: Cli, server: Any, model_dir: Path) -> None:
    deploy = ("deploy", "cancer", "--model-dir", str(model_dir), "--model-type", "sklearn")
    cli(*deploy)
    assert cli(*deploy) == 0
    assert "Stop version 1" in cli.err
    assert [row["status"] for row in server.endpoints] == ["terminated", "serving"]
    assert cli(*deploy, "--keep-previous") == 0
    assert [row["status"] for row in server.endpoints] == ["terminated", "running", "serving"]
    assert cli("deploy", "cancer:2", "--no-serve") == 0
    assert cli.out.strip().endswith("/versions/2/v1/models/m-2:predict")


def test_json_output_is_one_document_and_progress_is_lines(
    cli: Cli, server: Any, model_dir: Path
) -> None:
    arguments = ["--model-dir", str(model_dir), "--model-type", "sklearn", "--output", "json"]
    assert cli("deploy", "cancer", *arguments, "--env-var", "A=1=2", "--min-replica", "1") == 0
    assert cli.document["url"] == f"{server.url}/stable/v1/predict"
    assert (cli.document["version"], cli.document["project"]) == (1, "demo")
    events = [json.loads(line) for line in cli.err.splitlines()]
    assert events[0]["step"] == "Upload files"
    sent = server.last("POST", "/v1/models/1/versions/1/endpoint").json
    assert sent["env_vars"] == [{"name": "A", "value": "1=2"}]
    assert sent["resource_request"] == {"min_replica": 1}


def test_a_folder_that_is_no_model_makes_no_version(cli: Cli, server: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    options = ["--model-dir", str(tmp_path / "empty"), "--model-type", "sklearn"]
    assert cli("deploy", "cancer", *options) == exit_codes.BY_KIND[Kind.INVALID]
    assert "has no model.joblib or model.pkl" in cli.err
    assert server.versions == []


def test_a_failed_deploy_shows_the_last_lines_and_exits_1(
    cli: Cli, server: Any, model_dir: Path
) -> None:
    server.outcome, server.message = "failed", "The model does not import."
    culprit = {"container": "model", "exit_code": 1, "last_lines": ["ModuleNotFoundError: nosuch"]}
    server.condition = {
        "type": "Ready",
        "status": False,
        "reason": "Exited",
        "message": "It exited.",
        "culprit": culprit,
    }
    options = ["--model-dir", str(model_dir), "--model-type", "sklearn"]
    assert cli("deploy", "cancer", *options) == 1
    assert cli.out == ""
    assert "error: Deploying cancer version 1 failed: The model does not import." in cli.err
    assert "  | ModuleNotFoundError: nosuch" in cli.err
    assert " hint: See `merlin logs cancer:1`." in cli.err
    assert "Traceback" not in cli.err
    assert cli("status", "cancer", "--explain") == 0
    assert "Ready: no Exited: It exited." in cli.out
    assert "    model exited with 1" in cli.out
    assert "    | ModuleNotFoundError: nosuch" in cli.out


@pytest.fixture
def deployed(cli: Cli, model_dir: Path) -> None:
    options = ["--model-dir", str(model_dir), "--model-type", "sklearn"]
    assert cli("deploy", "cancer", *options) == 0


@pytest.mark.usefixtures("deployed")
def test_predicting(cli: Cli, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = b'{"instances": [[1]]}'
    (tmp_path / "request.json").write_bytes(request)
    stdin = SimpleNamespace(buffer=io.BytesIO(request))
    monkeypatch.setattr(sys, "stdin", stdin)
    for source in (["--json", request.decode()], ["--file", str(tmp_path / "request.json")], ["-"]):
        assert cli("predict", "cancer", *source) == 0, cli.err
        assert cli.document == {"predictions": [1]}
        assert server.last("POST", "/stable/v1/predict").body == request
    assert cli("predict", "cancer:1", "--json", "{}", "--output", "json") == 0
    assert server.calls[-1].path == "/versions/1/v1/models/m-1:predict"


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        ((500, {"status_code": 500, "reason": "ValueError: x"}), 1, "failed: ValueError: x"),
        ((400, {"reason": "Unrecognized request format"}), 65, "Unrecognized request format"),
        ((503, {"error": "Nothing is ready.", "code": "no_backend"}), 69, "Nothing is ready"),
        ((413, {"error": "The body is too large."}), 72, "too large"),
        ((200, b"not json"), 1, "something other than JSON"),
    ],
)
def test_a_prediction_that_fails_says_how(
    cli: Cli, server: Any, answer: tuple[int, Any], code: int, sentence: str
) -> None:
    server.prediction = answer
    assert cli("predict", "cancer", "--json", "{}") == code
    assert sentence in cli.err
    assert cli.out == ""


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["predict", "cancer"], 64, "given nowhere"),
        (["predict", "cancer", "--json", "{}", "--file", "x"], 64, "more than once"),
        (["predict", "cancer", "--json", '{"a": }'], 65, "not JSON: .* line 1, column 7"),
        (["predict", "cancer", "--file", "absent.json"], 65, "Cannot read absent.json"),
        (["predict", "nosuch", "--json", "{}"], 66, "no model 'nosuch'"),
        (["predict", "cancer", "--json", "{}", "--env", "mars"], 66, "no environment 'mars'"),
        (["predict", "cancer", "--json", "{}", "--env", "localx"], 66, "does not run in localx"),
        (["deploy", "cancer:x"], 64, "names no model"),
        (["deploy", "cancer:1", "--model-dir", "."], 64, "number from the server"),
        (["deploy", "cancer", "--env-var", "A"], 64, "not NAME=VALUE"),
        (["deploy", "cancer", "--min-replica", "2", "--max-replica", "1"], 64, "larger than"),
        (["deploy", "cancer", "--model-type", "forest"], 64, "forest"),
        (["deploy"], 64, "MODEL"),
        (["undeploy", "cancer:9"], 66, "no version 9"),
        (["logs", "cancer", "--tail", "-1"], 64, "must not be negative"),
        (["status", "--nosuch"], 64, "--nosuch"),
        (["stauts"], 64, "Did you mean `merlin status`"),
        (["status", "--project", "dem"], 66, "no project 'dem'"),
        (["projects", "create", "demo"], 73, "demo is taken"),
    ],
)
def test_what_cannot_be_meant_is_answered_in_words(
    cli: Cli, arguments: list[str], code: int, sentence: str
) -> None:
    assert cli(*arguments) == code
    assert cli.err.startswith("error: ")
    assert "Traceback" not in cli.err
    import re

    assert re.search(sentence, cli.err)


@pytest.mark.usefixtures("deployed")
def test_status_as_table_and_document(cli: Cli, server: Any) -> None:
    assert cli("status") == 0
    header, row = cli.out.splitlines()
    assert header.split() == ["MODEL", "TYPE", "VERSION", "ENVIRONMENT", "STATUS", "ADDRESS"]
    address = f"{server.url}/stable/v1/predict"
    assert row.split() == ["cancer", "sklearn", "1", "local", "serving", address]
    assert cli("status", "cancer:1", "--output", "json") == 0
    version = cli.document["models"][0]["versions"][0]
    assert (version["version"], version["endpoints"][0]["status"]) == (1, "serving")


def test_an_empty_project_says_so(cli: Cli) -> None:
    assert cli("status") == 0
    assert cli.out == "The project demo has no models yet.\n"


@pytest.mark.usefixtures("deployed")
def test_undeploying_stops_traffic_first_and_may_be_repeated(cli: Cli, server: Any) -> None:
    assert cli("undeploy", "cancer") == 0
    assert cli.out == "Stopped version 1.\n"
    assert server.stable[0]["status"] == "terminated"
    assert cli("undeploy", "cancer", "--output", "json") == 0
    assert cli.document["stopped"] == []
    assert cli("status") == 0
    assert "not deployed" in cli.out


@pytest.mark.usefixtures("deployed")
def test_building_an_image_and_ending_its_build(cli: Cli, server: Any) -> None:
    assert cli("build", "cancer:1", "--memory", "4Gi", "--retries", "2") == 0
    assert cli.out == "Built localhost/demo/cancer@sha256:00.\n"
    asked = server.last("PUT", "/v1/models/1/versions/1/image").json
    assert (asked["backoff_limit"], asked["resource_request"]["memory_request"]) == (2, "4Gi")
    assert cli("build", "cancer:1", "--cancel", "--output", "json") == 0
    assert cli.document["cancelled"]
    assert server.last("DELETE", "/v1/models/1/versions/1/image")
    assert cli("build", "cancer:1", "--cancel", "--cpu", "2") == 64
    assert cli("build", "cancer:1", "--retries", "-1") == 64


@pytest.mark.usefixtures("deployed")
def test_logs_ask_for_the_right_place(cli: Cli, server: Any) -> None:
    server.log_lines = ["one", "two"]
    assert cli("logs", "cancer", "-f", "--tail", "5") == 0
    assert cli.out == "one\ntwo\n"
    query = server.last("GET", "/v1/logs").query
    assert query == {
        "cluster": "local-cluster",
        "namespace": "demo",
        "component_type": "model",
        "project_name": "demo",
        "model_id": "1",
        "model_name": "cancer",
        "version_id": "1",
        "revision_id": "1",
        "timestamps": "true",
        "follow": "true",
        "tail_lines": "5",
    }
    assert cli("logs", "cancer:1", "--build", "--output", "json") == 0
    assert [json.loads(line)["text"] for line in cli.out.splitlines()] == ["one", "two"]
    assert server.last("GET", "/v1/logs").query["component_type"] == "image_builder"


def test_projects_are_created_remembered_and_listed(cli: Cli) -> None:
    assert cli("projects", "create", "mine") == 0
    assert profile.load().project == "mine"
    assert profile.load().token == "kept-token"
    assert cli("projects", "create", "other", "--no-remember") == 0
    assert profile.load().project == "mine"
    assert cli("projects", "list", "--output", "json") == 0
    assert [row["name"] for row in cli.document] == ["demo", "mine", "other"]


def test_an_error_in_json_mode_is_one_object(cli: Cli) -> None:
    assert cli("projects", "create", "demo", "--output", "json") == 73
    assert cli.out == ""
    expected = {"error": "demo is taken.", "code": "project_exists", "hint": "Choose another name."}
    assert cli.error == expected
    assert cli("status", "--nosuch", "--output=json") == 64
    assert cli.error["code"] == "usage"


def test_no_project_says_how_to_choose_one(cli: Cli, server: Any) -> None:
    profile.save(server.url, None, "")
    assert cli("status") == 64
    assert "merlin projects create" in cli.err


def test_no_server_says_how_to_start_one(cli: Cli) -> None:
    assert cli("status", "--url", "http://127.0.0.1:9", "--project", "demo") == 69
    assert "`merlin up`" in cli.err


def test_login_checks_the_token_and_keeps_it(
    cli: Cli, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("fresh-token\n"))
    assert cli("login", "--url", server.url, "--token-stdin", "--output", "json") == 0
    assert cli.document["token"] is True
    assert "fresh-token" not in cli.out + cli.err
    assert profile.load().token == "fresh-token"
    monkeypatch.setattr(sys, "stdin", io.StringIO("bad\n"))
    server.spoilt["GET /v1/projects"] = [(401, {"error": "The token is not known."})]
    assert cli("login", "--token-stdin") == 77
    assert profile.load().token == "fresh-token"


def test_a_bug_is_one_line_unless_verbose(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr("merlin.cli.options.Common.open_project", fail)
    assert cli("status") == 70
    assert cli.err.splitlines()[0] == "error: Unexpected RuntimeError: inside"
    assert "Traceback" not in cli.err
    assert cli("status", "--verbose") == 70
    assert "Traceback" in cli.err


def test_an_interrupt_exits_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("merlin.cli.options.Common.open_project", interrupt)
    assert cli("status") == exit_codes.INTERRUPTED
    assert "Interrupted" in cli.err


@pytest.mark.parametrize(("name", "known"), KNOWN.items())
def test_a_command_that_is_not_installed_says_what_to_install(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, known: Any
) -> None:
    monkeypatch.setattr("merlin.cli.extensions.entry_points", lambda group: [])
    assert cli(name, "--port", "3", "x") == 64
    assert f"pip install {known.distribution}" in cli.err


def test_a_command_of_another_package_is_loaded_when_called(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [
        SimpleNamespace(name="greet", value="plug_in:greet", dist=SimpleNamespace(name="plug-in"))
    ]
    monkeypatch.setattr("merlin.cli.extensions.entry_points", lambda group: points)
    assert cli("--help") == 0
    assert "Comes with plug-in." in cli.out
    assert cli("greet") == 64
    assert "A package is missing" in cli.err

    def greet(*, name: str) -> None:
        """Greet somebody."""
        sys.stdout.write(f"hello {name}\n")

    monkeypatch.setitem(sys.modules, "plug_in", SimpleNamespace(greet=greet))
    assert cli("greet", "--name", "you") == 0
    assert cli.out == "hello you\n"
    assert cli("greet", "--help") == 0
    assert "Greet somebody." in cli.out
    assert "greet" in make_app("")
