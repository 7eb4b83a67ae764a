"""Keeps processes running: starts, restarts with back-off, captures output, drains, kills.

All processes are children of one long-lived thread with an event loop of its own, because the
kernel ties "die with your parent" to the thread that started a process. Each process listens on a
socket that the supervisor holds open, so its address is the same after a restart, and connections
made meanwhile wait instead of being refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from merlin_server.deployers.process.output import MAX_LINE, OutputFile
from merlin_server.deployers.process.readiness import is_ready

ResultT = TypeVar("ResultT")

_LOAD_FAILED = 3
_HOPELESS = {2, _LOAD_FAILED, 4}
"""Exit codes of the runtime after which starting again would end the same: wrong option, model
cannot be loaded, address cannot be listened on."""


@dataclass(frozen=True)
class RestartPolicy:
    """``first`` and ``longest`` bound the doubling pause before a restart, in seconds. A process
    that was up for ``healthy`` seconds starts the count anew. One that was never ready is given up
    after ``tries`` exits; one that was ready once is always started again."""

    first: float = 1.0
    longest: float = 30.0
    healthy: float = 10.0
    tries: int = 3


@dataclass(frozen=True)
class Launch:
    """What to start. ``{fd}`` in ``command`` stands for the listening socket."""

    full_name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    cwd: Path


@dataclass(frozen=True)
class State:
    """What is known of a supervised process; replaced as a whole whenever it changes."""

    ready: bool
    failed: bool
    reason: str
    message: str
    time: datetime
    culprit: Mapping[str, Any] = field(default_factory=dict)


class Supervisor:
    """Owns the thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="process-supervisor", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine in the supervisor's thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End the thread. Everything supervised must be stopped by then."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


class SupervisedProcess:
    """One process over its restarts. Made and driven inside the supervisor's thread; `state` and
    `address` may be read anywhere."""

    def __init__(
        self,
        launch: Launch,
        output: OutputFile,
        *,
        policy: RestartPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._launch = launch
        self._output = output
        self._policy = policy
        self._clock = clock
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._port: int = self._listener.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready = False
        self.address = f"http://127.0.0.1:{self._port}"
        self._set("Starting", "The model's process is being started.")
        self._task = asyncio.create_task(self._supervise())

    async def stop(self, grace_seconds: float) -> None:
        """Refuse connections, let what is in flight finish, end it. Idempotent."""
        # While we held the socket open, clients would queue up for a process that takes no more.
        self._listener.close()
        process = self._process
        if process and process.returncode is None and grace_seconds > 0:
            with suppress(ProcessLookupError):
                process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace_seconds)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._output.close()

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        exits = 0
        while True:
            started = loop.time()
            code = await self._run_once()
            exits = 1 if loop.time() - started >= self._policy.healthy else exits + 1
            gave_up = not self._was_ready and (code in _HOPELESS or exits >= self._policy.tries)
            pause = min(self._policy.first * 2 ** (exits - 1), self._policy.longest)
            self._describe_exit(code, exits, gave_up=gave_up)
            if gave_up:
                self._listener.close()
                return
            await asyncio.sleep(pause)

    async def _run_once(self) -> int:
        """Start the process and return its exit code; negative is a signal."""
        self._output.last.clear()
        fd = self._listener.fileno()
        try:
            process = await asyncio.create_subprocess_exec(
                *(part.replace("{fd}", str(fd)) for part in self._launch.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._launch.cwd,
                env={**self._launch.environ, "CARAML_HTTP_PORT": str(self._port)},
                pass_fds=(fd,),
                start_new_session=True,
            )
        except OSError as error:
            self._output.write(f"The process cannot be started: {error}".encode())
            return 127
        self._process = process
        capture = asyncio.create_task(self._capture(process.stdout))
        readiness = asyncio.create_task(self._watch_readiness())
        try:
            return await process.wait()
        finally:
            readiness.cancel()
            # Also what it started, which may hold its output open.
            _kill_group(process.pid)
            with suppress(TimeoutError):
                await asyncio.wait_for(capture, 2)
            await process.wait()

    async def _capture(self, stream: asyncio.StreamReader | None) -> None:
        rest = b""
        while stream and (chunk := await stream.read(64 * 1024)):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._output.write(line)
        if rest:
            self._output.write(rest)

    async def _watch_readiness(self) -> None:
        while True:
            ready = await is_ready(self._port, self._launch.full_name)
            if ready and not self.state.ready:
                self._was_ready = True
                self._set("Ready", "It answers.", ready=True)
            elif self.state.ready and not ready:
                self._set("NotReady", "It runs, but does not answer that it is ready.")
            await asyncio.sleep(2.0 if ready else 0.05)

    def _describe_exit(self, code: int, exits: int, *, gave_up: bool) -> None:
        lines = list(self._output.last)
        looping = gave_up or exits >= self._policy.tries
        reason = "CrashLoopBackOff" if looping else "Restarting"
        how = f"was ended by {_signal(-code)}" if code < 0 else f"exited with code {code}"
        message = f"The model's process {how}" + (
            f", {exits} times in a row." if exits > 1 else "."
        )
        if code == _LOAD_FAILED and (failure := _load_failure(lines)):
            reason, message = "ModelLoadFailed", failure
        culprit = {"container": self._launch.full_name, "exit_code": code, "last_lines": lines}
        self._set(reason, message, failed=looping, culprit=culprit)

    def _set(
        self,
        reason: str,
        message: str,
        *,
        ready: bool = False,
        failed: bool = False,
        culprit: Mapping[str, Any] | None = None,
    ) -> None:
        self.state = State(ready, failed, reason, message, self._clock(), culprit or {})


def _load_failure(lines: Sequence[str]) -> str:
    try:
        event = json.loads(lines[-1])
        return f"{event['error']} {event.get('hint', '')}".rstrip()
    except (LookupError, TypeError, ValueError):
        return ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill_group(pid: int) -> None:
    # The process leads a group of its own: it was started in a new session.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
