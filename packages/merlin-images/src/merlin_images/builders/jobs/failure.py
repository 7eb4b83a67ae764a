"""Which error a failed Job becomes: of the model, of the platform, or of the cluster."""

from __future__ import annotations

from typing import Any

from merlin.cli.exit_codes import BY_KIND
from merlin.errors import Kind
from merlin_images.builders.jobs.errors import (
    BuildInterrupted,
    BuildJobError,
    BuildJobFailed,
    BuildJobOverdue,
    BuildJobTooSmall,
    BuildRefused,
)
from merlin_images.builders.jobs.log_findings import Finding, read_findings, redacted
from merlin_images.builders.jobs.status import STUCK, JobStatus, Step, last_lines, tables

_KINDS = {code: kind for kind, code in BY_KIND.items()}
_GONE = {"Evicted", "NodeLost", "DeletionByTaintManager", "DeletionByPodGC", "TerminationByKubelet",
         "PreemptionByScheduler", "Shutdown", "NodeShutdown", "Terminated"}  # fmt: skip
_KILLED = 137
_SIGNALS = (_KILLED, 143)


def failure(name: str, status: JobStatus, *, seen: JobStatus, log: str = "") -> BuildJobError:
    """Return the error of a failed Job.

    ``seen`` is the last status that had a Pod: at the deadline a Job's Pods are deleted, and what
    they waited for is known only from before. ``log`` is the end of the failed step's log, if it
    could be read; else its termination message must do.
    """
    told = status if status.steps or status.pod_reason else seen
    step = told.culprit
    text = log or (step.message if step else "")
    finding = read_findings(text) if step and step.exit_code else Finding()
    data = _data(name, status, told, text, finding)
    decided = _decided(status)
    if decided == "DeadlineExceeded":
        return BuildJobOverdue(_overdue(told), **data)
    if step is not None and step.exit_code:
        return _step_failed(step, told, finding, data)
    if step is not None:
        return BuildJobFailed(_stuck(step), **data)
    if told.pod_reason in _GONE:
        return BuildInterrupted(_sentence("The cluster took the Job's Pod away", told), **data)
    last = status.conditions[-1].message if status.conditions else "no reason is given"
    return BuildJobFailed(f"The Job {name} failed: {last.rstrip('.')}.", **data)


def _step_failed(
    step: Step, told: JobStatus, finding: Finding, data: dict[str, Any]
) -> BuildJobError:
    if told.pod_reason in _GONE:
        return BuildInterrupted(_sentence("The cluster took the Job's Pod away", told), **data)
    if step.reason == "OOMKilled" or step.exit_code == _KILLED:
        return BuildJobTooSmall(
            f"The step {step.name} was killed for want of memory ({step.reason or 'exit 137'}).",
            **data,
        )
    hint = finding.hint or None
    if finding.code:
        kind = _KINDS.get(step.exit_code or 0, Kind.FAILED)
        sentence = f"The step {step.name} failed: {finding.sentence}"
        if kind in (Kind.INVALID, Kind.USAGE, Kind.NOT_FOUND):
            return BuildRefused(sentence, hint=hint, **data)
        if kind in (Kind.UNAVAILABLE, Kind.UPSTREAM):
            return BuildInterrupted(sentence, hint=hint, **data)
        return BuildJobFailed(sentence, hint=hint, **data)
    if step.name == "build" and finding:
        return BuildRefused(f"The step build failed: {finding.sentence}", hint=hint, **data)
    ended = f"The step {step.name} ended with exit code {step.exit_code}"
    lines = data["culprits"][0]["last_lines"] if data.get("culprits") else []
    said = f": {lines[-1].strip()}" if lines else ""
    return BuildJobFailed(f"{ended}{said}".rstrip(".") + ".", **data)


def _data(
    name: str, status: JobStatus, told: JobStatus, text: str, finding: Finding
) -> dict[str, Any]:
    step = told.culprit
    data: dict[str, Any] = {"job": name, "tables": redacted(tables(told))}
    if status.conditions and not told.conditions:
        data["tables"] = redacted(tables(status))
    if reason := (step.reason if step else told.pod_reason):
        data["reason"] = reason
    if step is not None:
        data["step"] = step.name
        data["culprits"] = [
            {
                "container": step.name,
                "exit_code": step.exit_code,
                "reason": step.reason,
                "last_lines": last_lines(redacted(text)),
            }
        ]
        if step.exit_code is not None:
            data["exit_code"] = step.exit_code
    found = {
        "cause": finding.code,
        "line": finding.line,
        "instruction": finding.instruction,
        "requirement": finding.requirement,
    }
    return {**data, **{key: value for key, value in found.items() if value}}


def _decided(status: JobStatus) -> str:
    return next((c.reason for c in status.conditions if c.type == "Failed"), "")


def _overdue(told: JobStatus) -> str:
    ended = "The Job did not end before its deadline"
    step = told.culprit
    if step and step.reason in STUCK:
        return f"{ended}: {_stuck(step)}"
    if told.pod_reason:
        return _sentence(ended, told)
    # A step that runs at the deadline is ended by a signal.
    running = step.name if step and step.exit_code in _SIGNALS else told.running
    return f"{ended}, in the step {running}." if running else f"{ended}."


def _stuck(step: Step) -> str:
    said = f": {step.message.rstrip('.')}" if step.message else ""
    return f"The step {step.name} cannot start, {step.reason}{said}."


def _sentence(beginning: str, told: JobStatus) -> str:
    message = f": {told.pod_message.rstrip('.')}" if told.pod_message else ""
    return f"{beginning}, {told.pod_reason}{message}."
