"""Runs revisions as local processes, from the same lock and the same runtime as their images.

Below ``data_dir``: ``environments/`` holds installed locks, ``deployments/{revision}/`` a
revision: ``revision.json`` while it exists, ``model/``, and ``logs/``, which outlive it. After a
restart of the server every revision is known and none runs, until it is applied again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO

from merlin.artifacts.folders import download_folder
from merlin.progress import Progress, step
from merlin_server.database import now
from merlin_server.deployers import DeployerContext
from merlin_server.deployers.port import Condition, LogLine, RevisionSpec, RevisionStatus
from merlin_server.deployers.process.environment import Environments
from merlin_server.deployers.process.errors import (
    DeployerClosed,
    DiskFull,
    FolderInUse,
    ModelFolderEmpty,
)
from merlin_server.deployers.process.leftovers import kill_leftovers, mark
from merlin_server.deployers.process.output import OutputFile, read_lines
from merlin_server.deployers.process.supervisor import (
    Launch,
    RestartPolicy,
    State,
    SupervisedProcess,
    Supervisor,
)

KEPT_LOGS = 5
"""Logs of that many revisions of an endpoint are kept."""

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


def open_process_deployer(context: DeployerContext) -> ProcessDeployer:
    """Open the deployer; whatever a dead server left running in its folder is killed first."""
    netrc = {"NETRC": str(context.netrc_file)} if context.netrc_file else {}
    return ProcessDeployer(context.data_dir, {**os.environ, **netrc})


class ProcessDeployer:
    """Implements `Deployer` and `Closes`. Raises `FolderInUse` if another process has the folder.

    Models get only harmless parts of ``environ``: what the server knows may be secret.
    """

    def __init__(
        self,
        data_dir: Path,
        environ: Mapping[str, str],
        *,
        policy: RestartPolicy | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._folder = (data_dir / "deployments").resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._owned = _own(self._folder)
        kill_leftovers(self._folder)
        self._mark = mark(self._folder)
        self._environments = Environments(data_dir / "environments", {**environ, **self._mark})
        self._environ = {name: environ[name] for name in _INHERITED if name in environ}
        self._policy = policy or RestartPolicy()
        self._clock = clock
        self._supervisor = Supervisor()
        self._running: dict[str, SupervisedProcess] = {}
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._closing = threading.Event()

    def apply(self, spec: RevisionSpec, progress: Progress) -> None:
        folder = self._revision_folder(spec.name)
        with self._locks[spec.name]:
            known = self._running.get(spec.name)
            if known and not known.state.failed:
                return
            self._halt(spec.name, grace_seconds=0)
            try:
                folder.mkdir(exist_ok=True)
                (folder / "revision.json").write_text(json.dumps({"full_name": spec.full_name}))
                python = self._environments.prepare(
                    spec.python, spec.lock_key, spec.lock_text, progress
                )
                _fetch_model(spec, folder / "model", progress)
                with step(progress, f"start {spec.full_name}"):
                    self._start(spec, python, folder)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise DiskFull(f"The disk of {self._folder} is full.") from error
                raise
        self._prune_logs(spec.name)

    def status(self, name: str) -> RevisionStatus | None:
        folder = self._revision_folder(name)
        try:
            full_name = json.loads((folder / "revision.json").read_text())["full_name"]
        except (FileNotFoundError, ValueError):
            return None
        running = self._running.get(name)
        state = running.state if running else self._not_started()
        condition = Condition(
            "Ready", state.ready, state.reason, state.message, state.time, state.culprit
        )
        return RevisionStatus(
            name=name,
            ready=state.ready,
            failed=state.failed,
            address=running.address if running and state.ready else "",
            conditions=(condition,),
            containers=(full_name,),
        )

    def stop(self, name: str, *, grace_seconds: float) -> None:
        folder = self._revision_folder(name)
        with self._locks[name]:
            self._halt(name, grace_seconds=grace_seconds)
            shutil.rmtree(folder / "model", ignore_errors=True)
            (folder / "revision.json").unlink(missing_ok=True)

    def names(self) -> list[str]:
        return sorted(file.parent.name for file in self._folder.glob("*/revision.json"))

    def logs(
        self, name: str, *, tail: int | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        folder = self._revision_folder(name)
        container = name if (known := self.status(name)) is None else known.containers[0]

        def goes_on() -> bool:
            return (folder / "revision.json").exists() and not self._closing.is_set()

        lines = read_lines(
            folder / "logs",
            tail=tail,
            more=goes_on if follow else None,
            wait=lambda: self._closing.wait(0.2),
        )
        for time, text in lines:
            yield LogLine(time, container, text)

    def close(self) -> None:
        """Stop all processes, giving requests in flight five seconds; revisions stay known.
        Idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._environments.close()
        halting = [
            threading.Thread(target=self._halt_known, args=(name,)) for name in list(self._running)
        ]
        for thread in halting:
            thread.start()
        for thread in halting:
            thread.join()
        self._supervisor.close()
        self._owned.close()

    def _start(self, spec: RevisionSpec, python: Path, folder: Path) -> None:
        async def start() -> SupervisedProcess:
            if self._closing.is_set():
                raise DeployerClosed("The server is stopping.")
            output = OutputFile(folder / "logs", clock=self._clock)
            launch = Launch(
                full_name=spec.full_name,
                command=_command(spec, python, folder),
                environ=self._environment(spec, python, folder),
                cwd=folder / "model",
            )
            return SupervisedProcess(launch, output, policy=self._policy, clock=self._clock)

        self._running[spec.name] = self._supervisor.call(start())

    def _environment(self, spec: RevisionSpec, python: Path, folder: Path) -> dict[str, str]:
        path = f"{python.parent}:{self._environ.get('PATH', os.defpath)}"
        return {
            "LANG": "C.UTF-8",
            **self._environ,
            "HOME": str(folder),
            "PYTHONUNBUFFERED": "1",
            **spec.env,
            # These are Merlin's (merlin.md 4.5); a user's variable of the same name is ignored.
            "PATH": path,
            "MODEL_NAME": spec.full_name,
            "CARAML_MODEL_NAME": spec.model,
            "CARAML_MODEL_VERSION": spec.version,
            "CARAML_MODEL_FULL_NAME": spec.full_name,
            "CARAML_PROJECT": spec.project,
            "CARAML_PROTOCOL": "HTTP_JSON",
            **self._mark,
        }

    def _halt(self, name: str, *, grace_seconds: float) -> None:
        if running := self._running.pop(name, None):
            self._supervisor.call(running.stop(grace_seconds))

    def _halt_known(self, name: str) -> None:
        with self._locks[name]:
            self._halt(name, grace_seconds=5)

    def _not_started(self) -> State:
        message = "The server was restarted; the model is not started yet."
        return State(
            ready=False, failed=False, reason="Restarting", message=message, time=self._clock()
        )

    def _prune_logs(self, name: str) -> None:
        endpoint, _, revision = name.rpartition(".r")
        if not revision.isdecimal():
            return
        for folder in self._folder.glob(f"{endpoint}.r*"):
            number = folder.name.rpartition(".r")[2]
            old = number.isdecimal() and int(number) <= int(revision) - KEPT_LOGS
            if old and not (folder / "revision.json").exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _revision_folder(self, name: str) -> Path:
        if not name or name.startswith(".") or "/" in name:
            raise ValueError(f"{name!r} cannot name a revision.")
        return self._folder / name


def _own(folder: Path) -> IO[str]:
    file = (folder / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise FolderInUse(f"Another Merlin server runs models from {folder}.") from None
    return file


def _command(spec: RevisionSpec, python: Path, folder: Path) -> list[str]:
    serve = [str(python), "-m", "merlin_runtime", "serve"]
    model = ["--model-dir", str(folder / "model"), "--name", spec.full_name]
    return [*serve, *model, "--fd", "{fd}", "--exit-with-parent", str(os.getpid())]


def _fetch_model(spec: RevisionSpec, target: Path, progress: Progress) -> None:
    """Download the model folder; a folder that is there is whole and is kept."""
    if target.exists():
        return
    unfinished = target.with_name("model.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    sizes: list[int] = []
    with step(progress, f"fetch {spec.full_name}") as running:
        files = download_folder(
            spec.store, spec.folder, unfinished, durable=True, on_bytes=sizes.append
        )
        if not files:
            raise ModelFolderEmpty(f"The model folder of {spec.full_name} is empty.")
        unfinished.rename(target)
        running.detail = f"{files} files, {sum(sizes) / 1e6:.1f} MB"
