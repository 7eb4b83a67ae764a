"""How a Job is doing, told from the Job's conditions and its Pods (merlin.md 3.6).

Success and failure come from the Job's conditions only: a failed Pod may be tried again (W20). What
went wrong comes from the newest Pod that knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from merlin.output.human import table

State = Literal["active", "succeeded", "failed"]

# A Pod that waits for one of these will hardly ever stop waiting.
STUCK = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
_LAST_LINES = 20


@dataclass(frozen=True)
class Condition:
    """A condition of the Job that holds."""

    type: str
    reason: str
    message: str
    time: str


@dataclass(frozen=True)
class Step:
    """A step's container. ``state`` is waiting, running or terminated; ``message`` is what the
    kubelet says or, of a terminated container, its termination message."""

    name: str
    state: str
    reason: str = ""
    message: str = ""
    exit_code: int | None = None


@dataclass(frozen=True)
class JobStatus:
    """A Job at one moment. ``pod`` names the newest Pod; ``pod_reason`` and ``pod_message`` are
    what the cluster says of it as a whole: Evicted, NodeLost, Unschedulable."""

    state: State
    conditions: tuple[Condition, ...] = ()
    steps: tuple[Step, ...] = ()
    pod: str = ""
    pod_reason: str = ""
    pod_message: str = ""
    failures: int = 0

    @property
    def culprit(self) -> Step | None:
        """The step at fault: the one that failed, else the one that cannot start."""
        failed = [step for step in self.steps if step.exit_code]
        stuck = [step for step in self.steps if step.reason in STUCK]
        return next(iter(failed + stuck), None)

    @property
    def running(self) -> str:
        """The name of the step that runs, if one does."""
        return next((step.name for step in self.steps if step.state == "running"), "")

    @property
    def digest(self) -> str:
        """What the last step left as its termination message, if it succeeded."""
        last = self.steps[-1] if self.steps else None
        return last.message.strip() if last and last.exit_code == 0 else ""


def read_status(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> JobStatus:
    """Tell how a Job is doing. ``pods`` are its own, oldest first, and may be none."""
    status = job.get("status") or {}
    conditions = tuple(
        Condition(
            each["type"],
            each.get("reason", ""),
            each.get("message", ""),
            each.get("lastTransitionTime", ""),
        )
        for each in status.get("conditions") or ()
        if each.get("status") == "True"
    )
    held = {condition.type for condition in conditions}
    state: State = "active"
    if "Complete" in held:
        state = "succeeded"
    elif "Failed" in held:
        state = "failed"
    told = JobStatus(state, conditions, failures=int(status.get("failed") or 0))
    pod = _telling(pods, state)
    return _with_pod(told, pod) if pod else told


def tables(status: JobStatus) -> str:
    """Return Merlin's text: the Job's conditions, what its containers wait for or ended with, and
    the last termination message, each where it is known."""
    parts = []
    if status.conditions:
        rows = [(c.time, c.type, c.reason, c.message) for c in status.conditions]
        parts.append(_table("Job conditions:", ("TIMESTAMP", "TYPE", "REASON", "MESSAGE"), rows))
    ended = [step for step in status.steps if step.state in ("waiting", "terminated")]
    if ended:
        header = ("CONTAINER NAME", "STATUS", "EXIT CODE", "REASON")
        shown = [
            (s.name, s.state, "-" if s.exit_code is None else str(s.exit_code), s.reason)
            for s in ended
        ]
        parts.append(_table("Pod container status:", header, shown))
    last = next((s for s in reversed(status.steps) if s.state == "terminated" and s.message), None)
    if last:
        parts.append(f"Pod last termination message:\n{last.message.rstrip()}")
    return "\n\n".join(parts)


def last_lines(text: str) -> list[str]:
    """Return the end of a log as lines."""
    return text.splitlines()[-_LAST_LINES:]


def _telling(pods: Sequence[Mapping[str, Any]], state: State) -> Mapping[str, Any] | None:
    """The Pod to tell of: of a success the one that succeeded, else the newest."""
    if state == "succeeded":
        done = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Succeeded"]
        return done[-1] if done else None
    return pods[-1] if pods else None


def _with_pod(told: JobStatus, pod: Mapping[str, Any]) -> JobStatus:
    status = pod.get("status") or {}
    reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    for condition in status.get("conditions") or ():
        unschedulable = condition["type"] == "PodScheduled" and condition["status"] == "False"
        disrupted = condition["type"] == "DisruptionTarget" and condition["status"] == "True"
        if not reason and (unschedulable or disrupted):
            reason, message = condition.get("reason", ""), condition.get("message", "")
    containers = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    return JobStatus(
        told.state,
        told.conditions,
        tuple(_step(container) for container in containers),
        pod["metadata"]["name"],
        reason,
        message,
        told.failures,
    )


def _step(container: Mapping[str, Any]) -> Step:
    for state, detail in (container.get("state") or {}).items():
        return Step(
            container["name"],
            state,
            str(detail.get("reason", "")),
            str(detail.get("message", "")),
            detail.get("exitCode"),
        )
    return Step(container["name"], "waiting")


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:

    return f"{title}\n{table(header, rows)}"
