"""Real environments, real processes: what the contract cannot know about the process deployer."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from merlin.progress import Silent
from merlin_server.deployers import DeployerContext, DeployerNotInstalled, open_deployer
from merlin_server.deployers.contract import DeployerContract, MakeRevision
from merlin_server.deployers.port import Closes, Deployer, RevisionSpec, RevisionStatus
from merlin_server.deployers.process.deployer import ProcessDeployer
from merlin_server.deployers.process.errors import (
    EnvironmentNotInstalled,
    FolderInUse,
    ModelFolderEmpty,
    PythonNotFound,
)
from merlin_server.deployers.process.leftovers import kill_leftovers, mark

NAME = "0a1b.r1"
SERVER = """
import os, pickle, sys, time
from pathlib import Path
from merlin.progress import Silent
from merlin_server.deployers.process.deployer import ProcessDeployer
deployer = ProcessDeployer(Path(sys.argv[1]), os.environ)
spec = pickle.loads(Path(sys.argv[2]).read_bytes())
deployer.apply(spec, Silent())
while not deployer.status(spec.name).ready:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(300)
"""


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def settled(deployer: Deployer, name: str = NAME) -> RevisionStatus:
    def final() -> RevisionStatus | None:
        status = deployer.status(name)
        assert status is not None
        return status if status.ready or status.failed else None

    return until(final)


def predict(address: str, body: Any) -> Any:
    response = httpx2.post(f"{address}/v1/models/cards-1:predict", json=body, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def marked(data_dir: Path) -> list[int]:
    """Pids of all processes started for the folder."""
    (wanted,) = (f"{k}={v}".encode() for k, v in mark(data_dir / "deployments").items())
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


class TestProcessDeployer(DeployerContract):
    @pytest.fixture
    def deployer(self, open_process: Callable[[], ProcessDeployer]) -> Deployer:
        return open_process()

    @pytest.fixture
    def reopen(
        self, deployer: Closes, open_process: Callable[[], ProcessDeployer]
    ) -> Callable[[], Deployer]:
        def reopen() -> Deployer:
            deployer.close()
            return open_process()

        return reopen

    @pytest.fixture
    def revision(self, process_revision: Callable[..., RevisionSpec]) -> MakeRevision:
        def make(name: str, *, breaks: bool = False) -> RevisionSpec:
            work = "raise ValueError('no such table')" if breaks else "print('loaded')"
            return process_revision(name, initialize=work)

        return make


@pytest.fixture
def deployer(open_process: Callable[[], ProcessDeployer]) -> ProcessDeployer:
    return open_process()


def test_it_is_found_by_name(tmp_path: Path) -> None:
    opened = open_deployer("process", DeployerContext(tmp_path))
    assert isinstance(opened, ProcessDeployer)
    opened.close()
    with pytest.raises(DeployerNotInstalled, match="no deployer 'proces'"):
        open_deployer("proces", DeployerContext(tmp_path))


def test_the_model_answers_and_sees_merlins_variables_but_not_the_servers(
    deployer: ProcessDeployer,
    process_revision: Callable[..., RevisionSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MERLIN_SECRET", "hidden")
    see = "import os; return dict(os.environ)"
    env = {"COLOUR": "red", "CARAML_PROJECT": "mine"}
    deployer.apply(process_revision(NAME, infer=see, env=env), Silent())
    address = settled(deployer).address
    seen = predict(address, {})
    assert seen["COLOUR"] == "red"
    assert seen["CARAML_PROJECT"] == "fraud"
    assert seen["CARAML_MODEL_FULL_NAME"] == seen["MODEL_NAME"] == "cards-1"
    assert (seen["CARAML_MODEL_NAME"], seen["CARAML_MODEL_VERSION"]) == ("cards", "1")
    assert address.endswith(f":{seen['CARAML_HTTP_PORT']}")
    assert not {"MERLIN_SECRET", "PYTEST_CURRENT_TEST"} & set(seen)


def test_a_model_that_cannot_load_fails_at_once_with_its_reason(
    deployer: ProcessDeployer, process_revision: Callable[..., RevisionSpec]
) -> None:
    deployer.apply(process_revision(NAME, initialize="open('/no/such/file')"), Silent())
    status = settled(deployer)
    (condition,) = status.conditions
    assert condition.reason == "ModelLoadFailed"
    assert "/no/such/file" in condition.message
    assert condition.culprit["exit_code"] == 3
    starts = [line for line in deployer.logs(NAME) if '"listening"' in line.text]
    assert len(starts) == 1
    assert not json.dumps(condition.to_dict()).count("object at")


def test_a_crash_loop_ends_as_such_with_the_last_lines(
    deployer: ProcessDeployer, process_revision: Callable[..., RevisionSpec]
) -> None:
    crash = "print('the last words', flush=True); import os; os._exit(7)"
    deployer.apply(process_revision(NAME, initialize=crash), Silent())
    (condition,) = settled(deployer).conditions
    assert condition.reason == "CrashLoopBackOff"
    assert "exited with code 7, 3 times in a row" in condition.message
    assert condition.culprit["last_lines"][-1] == "the last words"


def test_a_process_that_dies_comes_back_at_the_same_address(
    deployer: ProcessDeployer, process_revision: Callable[..., RevisionSpec]
) -> None:
    deployer.apply(process_revision(NAME, infer="import os; return os.getpid()"), Silent())
    address = settled(deployer).address
    pids = set()
    for _ in range(2):
        pid = predict(address, {})
        assert pid not in pids
        pids.add(pid)
        os.kill(pid, signal.SIGKILL)
        until(lambda: deployer.status(NAME).conditions[0].reason == "Restarting")  # type: ignore[union-attr]
        assert settled(deployer).address == address


def test_stopping_answers_what_is_in_flight_and_refuses_what_comes_after(
    deployer: ProcessDeployer, process_revision: Callable[..., RevisionSpec], tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    slow = f"import time; open({str(begun)!r}, 'w').close(); time.sleep(1); return 'done'"
    deployer.apply(process_revision(NAME, infer=slow), Silent())
    address = settled(deployer).address
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(predict(address, {})))
    caller.start()
    until(begun.exists)
    deployer.stop(NAME, grace_seconds=20)
    caller.join(20)
    assert answers == ["done"]
    with pytest.raises(httpx2.ConnectError):
        predict(address, {})


def test_stopping_kills_what_does_not_end_in_time(
    deployer: ProcessDeployer, process_revision: Callable[..., RevisionSpec], data_dir: Path
) -> None:
    stubborn = (
        "import subprocess, time; subprocess.Popen(['sleep', '300']); time.sleep(300 * request)"
    )
    deployer.apply(process_revision(NAME, infer=stubborn), Silent())
    address = settled(deployer).address
    predict(address, 0)
    assert len(marked(data_dir)) == 2
    outcome: list[Exception] = []

    def call() -> None:
        try:
            predict(address, 1)
        except httpx2.TransportError as error:
            outcome.append(error)

    hanging = threading.Thread(target=call)
    hanging.start()
    until(lambda: len(marked(data_dir)) == 3)
    deployer.stop(NAME, grace_seconds=0.2)
    hanging.join(20)
    assert len(outcome) == 1
    until(lambda: not marked(data_dir))


def test_a_missing_interpreter_is_named_with_the_next_step(
    deployer: ProcessDeployer, process_revision: Callable[..., RevisionSpec]
) -> None:
    with pytest.raises(PythonNotFound, match=r"Python 3\.99.*uv python install 3\.99"):
        deployer.apply(replace(process_revision(NAME), python="3.99"), Silent())
    assert deployer.status(NAME) is not None
    deployer.stop(NAME, grace_seconds=0)
    assert deployer.names() == []


def test_an_environment_that_cannot_be_installed_leaves_nothing(
    deployer: ProcessDeployer, process_revision: Callable[..., RevisionSpec], data_dir: Path
) -> None:
    before = sorted((data_dir / "environments").iterdir())
    with pytest.raises(EnvironmentNotInstalled, match="could not be installed"):
        deployer.apply(replace(process_revision(NAME), lock_text="not a lock"), Silent())
    assert sorted((data_dir / "environments").iterdir()) == before


def test_an_empty_model_folder_is_an_error(
    deployer: ProcessDeployer, process_revision: Callable[..., RevisionSpec]
) -> None:
    with pytest.raises(ModelFolderEmpty, match="cards-1 is empty"):
        deployer.apply(replace(process_revision(NAME), folder="elsewhere"), Silent())


def test_one_folder_belongs_to_one_server(deployer: ProcessDeployer, data_dir: Path) -> None:
    with pytest.raises(FolderInUse, match="Another Merlin server"):
        ProcessDeployer(data_dir, os.environ)


def test_what_a_killed_server_left_is_killed_by_the_next(tmp_path: Path) -> None:
    other = tmp_path / "other"
    for folder in (tmp_path / "deployments", other):
        folder.mkdir()
    sleep = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"]
    processes = [
        subprocess.Popen(sleep, env=mark(folder), stdout=subprocess.PIPE, start_new_session=True)
        for folder in (tmp_path / "deployments", other)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.stdout.close()
    mine, strangers = processes
    ProcessDeployer(tmp_path, os.environ).close()
    assert mine.wait(10) == -signal.SIGKILL
    assert strangers.poll() is None
    assert kill_leftovers(other) == [strangers.pid]
    assert strangers.wait(10) == -signal.SIGKILL


def test_models_end_with_a_server_that_is_killed(
    process_revision: Callable[..., RevisionSpec], data_dir: Path
) -> None:
    spec = data_dir / "spec"
    spec.write_bytes(pickle.dumps(process_revision(NAME)))
    command = [sys.executable, "-c", SERVER, data_dir, spec]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        assert len(marked(data_dir)) == 1
        server.kill()
    until(lambda: not marked(data_dir), seconds=10)
