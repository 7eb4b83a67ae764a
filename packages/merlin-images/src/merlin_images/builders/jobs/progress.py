"""A Job's steps as progress: each container is a step, in every try anew."""

from __future__ import annotations

from merlin.progress import Progress
from merlin_images.builders.jobs.status import STUCK, JobStatus

_WORDS = {"fetch": "Fetch the model", "build": "Build the image", "push": "Push the image"}


class JobProgress:
    """Tells one build's progress. ``tell`` is called with every status, by one thread.

    What the progress raises, because the build was cancelled or is overdue, goes through.
    """

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._job = f"Run the Job {name}"
        self._running = ""
        self._ended: set[str] = set()
        self._pod = ""
        self._tries = 0
        self._waits = ""

    def begin(self) -> None:
        self._progress.start(self._job)

    def tell(self, status: JobStatus | None) -> None:
        self._progress.advance(self._job, 0)
        if status is None:
            return
        if status.pod and status.pod != self._pod:
            self._end(failed=True)
            self._pod, self._tries = status.pod, self._tries + 1
        for step in status.steps:
            text = self._text(step.name)
            if step.state == "waiting" or text in self._ended:
                continue
            if self._running != text:
                # A short step may have ended before it was seen to run.
                self._end()
                self._running = text
                self._progress.start(text)
            if step.state == "terminated":
                self._end(failed=bool(step.exit_code), detail=step.reason if step.exit_code else "")
        self._tell_waiting(status)

    def end(self, *, failed: bool, detail: str = "") -> None:
        self._end(failed=failed)
        if self._waits:
            self._progress.finish(self._waits, failed=failed)
            self._waits = ""
        self._progress.finish(self._job, detail, failed=failed)

    def _text(self, name: str) -> str:
        again = f", try {self._tries}" if self._tries > 1 else ""
        return f"{_WORDS.get(name, name)}{again}"

    def _end(self, *, failed: bool = False, detail: str = "") -> None:
        if self._running:
            self._ended.add(self._running)
            self._progress.finish(self._running, detail, failed=failed)
            self._running = ""

    def _tell_waiting(self, status: JobStatus) -> None:
        """What keeps a Job from going on is told while it lasts: people can mend it."""
        stuck = next((s for s in status.steps if s.state == "waiting" and s.reason in STUCK), None)
        why = ""
        if stuck:
            why = f"Wait for {stuck.name}: {stuck.reason}"
        elif status.state == "active" and not status.steps and status.pod_reason:
            why = f"Wait for a node: {status.pod_reason}"
        if why == self._waits:
            return
        if self._waits:
            self._progress.finish(self._waits)
        if why:
            self._progress.start(why)
        self._waits = why
