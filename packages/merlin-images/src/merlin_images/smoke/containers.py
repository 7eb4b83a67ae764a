"""podman and docker, as far as a smoke test needs them: fetch an image, run it once, clean up.

A container gets nothing but the image: no network, no capability, nothing writable but temporary
folders, no more open files and processes than any machine allows. It is removed however the test
ends, and so is the image, unless it was here before.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from merlin.progress import Progress, step
from merlin_images.smoke.errors import ContainerProgramFailed, NoContainerProgram

PROGRAMS = ("podman", "docker")

_CONFINED = (
    *("--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all"),  # noqa: S108
    *("--security-opt", "no-new-privileges"),
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
)
_ANSWERS_IN_SECONDS = 60
_TOLD_LINES = 20
_LONGEST_LINE = 500


@dataclass(frozen=True)
class Ended:
    """How a container ended: ``code`` is above 128 for a signal; ``last_lines`` are of its log."""

    code: int
    last_lines: tuple[str, ...]
    timed_out: bool


class ContainerProgram:
    """podman or docker; ``command`` may have options of the program behind its name."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self.name = Path(command[0]).name

    @contextmanager
    def pulled(self, image: str, *, plain_http: bool, progress: Progress) -> Iterator[str]:
        """Have an image of a registry here, fetched with the program's own credentials."""
        known = self._try("image", "inspect", image).returncode == 0
        if not known:
            # docker decides by its daemon's settings, and speaks HTTP to its own machine anyway.
            options = ["--tls-verify=false"] if plain_http and self.name == "podman" else []
            with step(progress, f"Pull the image with {self.name}"):
                self._do("fetch the image", "pull", "--quiet", *options, image)
        try:
            yield image
        finally:
            if not known:
                self._try("rmi", image)

    @contextmanager
    def loaded(self, archive: Path, name: str, *, progress: Progress) -> Iterator[str]:
        """Have the image of a Docker archive here, under the name it has in there."""
        with step(progress, f"Load the image with {self.name}"):
            self._do("load the image", "load", "--quiet", "--input", str(archive))
        try:
            yield name
        finally:
            self._try("rmi", name)

    def run(
        self,
        image: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdin: bytes | None,
        seconds: float,
        line: Callable[[str], object],
    ) -> Ended:
        """Run the image's entry point with arguments added; ``line`` is given its output."""
        name = f"merlin-smoke-{secrets.token_hex(8)}"
        run = ["run", "--rm", "--name", name, "--interactive", *_CONFINED]
        for variable, value in environment.items():
            run += ["--env", f"{variable}={value}"]
        timed_out = threading.Event()

        def stop() -> None:
            timed_out.set()
            # Not `rm`, which asks first; nor does either find a container that is still being made.
            if self._try("kill", name).returncode != 0:
                process.kill()

        with tempfile.TemporaryFile() as request:
            request.write(stdin or b"")
            request.seek(0)
            process = subprocess.Popen(
                [*self._command, *run, image, *arguments],
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        lines: deque[str] = deque(maxlen=_TOLD_LINES)
        log = threading.Thread(target=_keep, args=(process.stderr, lines))
        log.start()
        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            for text in process.stdout or ():
                line(text)
            code = process.wait()
        except BaseException:
            self._try("rm", "--force", name)
            process.wait()
            raise
        finally:
            timer.cancel()
            timer.join()
            if timed_out.is_set():
                self._try("rm", "--force", name)
            log.join()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return Ended(code, tuple(lines), timed_out.is_set())

    def check(self) -> str:
        """Return why the program cannot be used, in a sentence; nothing if it can."""
        if shutil.which(self._command[0]) is None:
            return f"There is no {self._command[0]} here."
        done = self._try("info")
        if done.returncode == 0:
            return ""
        return f"{self.name} does not work: {_last(done.stderr)}."

    def _do(self, what: str, *arguments: str) -> None:
        done = self._try(*arguments, seconds=None)
        if done.returncode != 0:
            raise ContainerProgramFailed(
                f"{self.name} could not {what}: {_last(done.stderr)}.",
                hint=f"Check what `{self.name} {arguments[0]} {arguments[-1]}` says; a registry "
                f"may want you to sign in with `{self.name} login`.",
                culprits=[{"exit_code": done.returncode, "last_lines": _tail(done.stderr)}],
            )

    def _try(
        self, *arguments: str, seconds: float | None = _ANSWERS_IN_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *arguments]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 1, "", str(error))


def find_program(asked: str = "") -> ContainerProgram:
    """Return the program asked for, or the first that works here. Raises `NoContainerProgram`."""
    commands = [shlex.split(asked)] if asked.strip() else [[name] for name in PROGRAMS]
    complaints = []
    for command in commands:
        program = ContainerProgram(command)
        complaint = program.check()
        if not complaint:
            return program
        complaints.append(complaint)
    raise NoContainerProgram(f"Nothing here can run containers. {' '.join(complaints)}")


def _keep(stream: Iterator[str], lines: deque[str]) -> None:
    lines.extend(text.rstrip("\n")[:_LONGEST_LINE] for text in stream if text.strip())


def _tail(text: str) -> list[str]:
    return [line[:_LONGEST_LINE] for line in text.strip().splitlines()[-_TOLD_LINES:]]


def _last(text: str) -> str:
    return next(reversed(_tail(text)), "it said nothing").rstrip(".")
