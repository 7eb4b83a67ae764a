"""The scheduler and the node: Pods go one transition a step, by the script of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.fake_kubernetes import conditions, volumes
from tests.fake_kubernetes.api import Api
from tests.fake_kubernetes.events import record
from tests.fake_kubernetes.outcomes import (
    CannotPull,
    ContainerOutcome,
    Evicted,
    Executes,
    Exits,
    Hangs,
    NodeLost,
    PodOutcome,
    Unschedulable,
)
from tests.fake_kubernetes.resources import PODS, Target
from tests.fake_kubernetes.statuses import bad_request

Object = dict[str, Any]
NODE = "node-1"
MANAGER = "kubelet"
TERMINAL = ("Succeeded", "Failed")


class Kubelet:
    """One node. A container without a script succeeds at once, with an empty log."""

    def __init__(self, api: Api, folder: Path | None) -> None:
        self._api = api
        self._folder = folder
        self._scripts: dict[str, list[ContainerOutcome]] = {}
        self._pod_script: list[PodOutcome | None] = []
        self._outcomes: dict[tuple[str, str], ContainerOutcome] = {}
        self._pods: dict[str, PodOutcome | None] = {}
        self._logs: dict[tuple[str, str], list[str]] = {}

    def play(self, container: str, *outcomes: ContainerOutcome) -> None:
        """What the container of this name does: in the first Pod, the second, …; the last stays."""
        self._scripts[container] = list(outcomes)

    def play_pods(self, *outcomes: PodOutcome | None) -> None:
        """What happens to the first Pod, the second, …; after the last, nothing more."""
        self._pod_script = list(outcomes)

    def release(self, container: str, outcome: ContainerOutcome) -> None:
        """Let every hanging or waiting container of a name go on with an outcome."""
        with self._api.storage.changed:
            for key, now in self._outcomes.items():
                if key[1] == container and isinstance(now, (Hangs, CannotPull)):
                    self._outcomes[key] = outcome
            self._api.storage.changed.notify_all()

    def schedule(self) -> None:
        """Find room after all for Pods that found none."""
        self._pods = {
            uid: None if isinstance(outcome, Unschedulable) else outcome
            for uid, outcome in self._pods.items()
        }

    def step(self) -> None:
        for pod in self._api.storage.all(PODS):
            self._step_pod(pod)

    def read_log(
        self, namespace: str, name: str, query: dict[str, str], left: Callable[[], bool]
    ) -> Iterator[str]:
        """The log of a container, as the API reads it; with ``follow`` until the container ends."""
        pod = self._api.get(Target(PODS, namespace, name))
        container = _log_container(pod, query.get("container", ""))
        _refuse_waiting(pod, container, query)
        key = (pod["metadata"]["uid"], container)
        back = 2 if query.get("previous") in ("true", "1") else 1
        attempts = self._logs.get(key, [])
        if back > len(attempts):
            message = f'previous terminated container "{container}" in pod "{name}" not found'
            raise bad_request(message)
        lines = attempts[-back].splitlines(keepends=True)
        if query.get("tailLines"):
            lines = lines[-int(query["tailLines"]) :] if int(query["tailLines"]) else []
        yield from lines
        if query.get("follow") not in ("true", "1"):
            return
        sent = len(attempts[-back])
        while True:
            current = self._api.storage.get(PODS, namespace, name)
            text = self._logs[key][-1]
            yield text[sent:]
            sent = len(text)
            if current is None or not _running(current, container) or left():
                return
            with self._api.storage.changed:
                self._api.storage.changed.wait(0.1)

    def _step_pod(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._pods:
            self._pods[uid] = self._pod_script.pop(0) if self._pod_script else None
        outcome = self._pods[uid]
        if pod["status"].get("phase") in TERMINAL:
            self._collect(pod)
        elif isinstance(outcome, NodeLost) and pod["status"].get("phase") == "Running":
            self._lose(pod)
        elif "deletionTimestamp" in pod["metadata"]:
            self._end(pod, "Failed")
        elif not pod["spec"].get("nodeName"):
            self._bind(pod, outcome)
        elif isinstance(outcome, Evicted) and pod["status"].get("phase") == "Running":
            now = self._api.timestamp()
            conditions.put(pod, "DisruptionTarget", "True", now=now, reason="TerminationByKubelet")
            self._end(pod, "Failed", "Evicted", outcome.message)
        elif self._overdue(pod):
            message = "Pod was active on the node longer than the specified deadline"
            self._end(pod, "Failed", "DeadlineExceeded", message)
        else:
            self._advance(pod)

    def _bind(self, pod: Object, outcome: PodOutcome | None) -> None:
        now = self._api.timestamp()
        if isinstance(outcome, Unschedulable):
            said = {"reason": "Unschedulable", "message": outcome.message}
            conditions.put(pod, "PodScheduled", "False", now=now, **said)
            record(self._api, pod, "Warning", "FailedScheduling", outcome.message)
            self._save(pod)
            return
        pod["spec"]["nodeName"] = NODE
        conditions.put(pod, "PodScheduled", "True", now=now)
        pod["status"]["startTime"] = now
        for field, kind in (("initContainerStatuses", "initContainers"), _MAIN):
            waiting = (
                "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
            )
            if pod["spec"].get(kind):
                pod["status"][field] = [
                    {
                        "name": each["name"],
                        "image": each["image"],
                        "imageID": "",
                        "ready": False,
                        "restartCount": 0,
                        "state": {"waiting": {"reason": waiting}},
                    }
                    for each in pod["spec"][kind]
                ]
        # Binding is its own subresource: the node's name cannot be written to a Pod's spec.
        with self._api.storage.changed:
            if self._api.storage.get(PODS, *_address(pod)):
                self._api.storage.put(PODS, pod)

    def _advance(self, pod: Object) -> None:
        missing = volumes.missing(self._api, pod)
        if missing:
            record(self._api, pod, "Warning", "FailedMount", missing)
            return
        init = zip(
            pod["spec"].get("initContainers") or (),
            pod["status"].get("initContainerStatuses") or (),
            strict=True,
        )
        for container, status in init:
            if "terminated" not in status["state"]:
                self._step_container(pod, container, status)
                self._save(pod)
                return
            if status["state"]["terminated"]["exitCode"]:
                if self._restarts(pod, status):
                    self._save(pod)
                    return
                self._finish(pod, "Failed")
                return
        statuses = pod["status"]["containerStatuses"]
        for container, status in zip(pod["spec"]["containers"], statuses, strict=True):
            if "terminated" not in status["state"]:
                self._step_container(pod, container, status)
            elif status["state"]["terminated"]["exitCode"]:
                self._restarts(pod, status)
        codes = [s["state"].get("terminated", {}).get("exitCode") for s in statuses]
        if all(code is not None for code in codes) and not self._will_restart(pod, codes):
            self._finish(pod, "Failed" if any(codes) else "Succeeded")
        else:
            self._save(pod)

    def _step_container(self, pod: Object, container: Object, status: Object) -> None:
        key = (pod["metadata"]["uid"], container["name"])
        if key not in self._outcomes:
            script = self._scripts.get(container["name"]) or [Exits()]
            self._outcomes[key] = script.pop(0) if len(script) > 1 else script[0]
        outcome = self._outcomes[key]
        now = self._api.timestamp()
        if isinstance(outcome, CannotPull):
            self._fail_to_pull(pod, container, status, outcome)
        elif "running" not in status["state"]:
            status["state"] = {"running": {"startedAt": now}}
            status["imageID"] = container["image"]
            status["ready"] = True
            pod["status"]["phase"] = "Running" if _is_main(pod, container) else "Pending"
            conditions.put(pod, "Ready", "True", now=now)
            log = "" if isinstance(outcome, Executes) else outcome.log
            self._logs.setdefault(key, []).append(log)
        elif not isinstance(outcome, Hangs):
            ended = self._ending(pod, container, outcome)
            if ended.log and not self._logs[key][-1].endswith(ended.log):
                self._logs[key][-1] += ended.log
            status["state"] = {"terminated": self._terminated(container, status, ended, key)}
            status["ready"] = False

    def _fail_to_pull(
        self, pod: Object, container: Object, status: Object, outcome: CannotPull
    ) -> None:
        image, pod["status"]["phase"] = container["image"], "Pending"
        match status["state"].get("waiting", {}).get("reason"):
            case "ImagePullBackOff":
                return
            case "ErrImagePull":
                reason, event, did = "ImagePullBackOff", "BackOff", "Back-off pulling"
            case _:
                reason, event, did = "ErrImagePull", "Failed", "Failed to pull"
        message = f'{did} image "{image}": {outcome.message}'
        status["state"] = {"waiting": {"reason": reason, "message": message}}
        record(self._api, pod, "Warning", event, message)

    def _ending(self, pod: Object, container: Object, outcome: Exits | Executes) -> Exits:
        if isinstance(outcome, Exits):
            return outcome
        if self._folder is None:
            raise AssertionError("a container can only run for real with FakeCluster(folder=...)")
        step = volumes.step(self._api, pod, container, self._folder)
        ended = outcome.run(step)
        if step.termination_log.exists() and not ended.message:
            ended = replace(ended, message=step.termination_log.read_text())
        return ended

    def _terminated(
        self, container: Object, status: Object, ended: Exits, key: tuple[str, str]
    ) -> Object:
        message = ended.message
        falls_back = container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        if not message and ended.code and falls_back:
            # What a kubelet takes: the last 80 lines, at most 2048 bytes.
            message = "".join(self._logs[key][-1].splitlines(keepends=True)[-80:])[-2048:]
        return {
            "exitCode": ended.code,
            "reason": ended.shown_reason,
            **({"message": message[-4096:]} if message else {}),
            "startedAt": status["state"]["running"]["startedAt"],
            "finishedAt": self._api.timestamp(),
        }

    def _restarts(self, pod: Object, status: Object) -> bool:
        """Restart an ended container where the policy says so, after its back-off."""
        if pod["spec"]["restartPolicy"] == "Never":
            return False
        ended = status["state"]["terminated"]
        waited = (self._api.now() - _time(ended["finishedAt"])).total_seconds()
        if waited >= min(300, 10 * 2 ** status["restartCount"]):
            status["restartCount"] += 1
            status["lastState"] = {"terminated": ended}
            status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
            self._outcomes.pop((pod["metadata"]["uid"], status["name"]), None)
        return True

    def _will_restart(self, pod: Object, codes: list[int | None]) -> bool:
        return any(codes) and pod["spec"]["restartPolicy"] != "Never"

    def _finish(self, pod: Object, phase: str) -> None:
        pod["status"]["phase"] = phase
        reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
        conditions.put(pod, "Ready", "False", now=self._api.timestamp(), reason=reason)
        self._save(pod)

    def _end(self, pod: Object, phase: str, reason: str = "", message: str = "") -> None:
        """Kill what runs and say how the Pod ended."""
        now = self._api.timestamp()
        for status in _statuses(pod):
            if "running" in status["state"]:
                started = status["state"]["running"]["startedAt"]
                ended = {"exitCode": 137, "reason": "Error", "startedAt": started}
                status["state"] = {"terminated": {**ended, "finishedAt": now}}
                status["ready"] = False
        if reason:
            pod["status"] |= {"reason": reason, "message": message}
            record(self._api, pod, "Warning", reason, message)
        self._finish(pod, phase)

    def _lose(self, pod: Object) -> None:
        now = self._api.timestamp()
        if "deletionTimestamp" not in pod["metadata"]:
            message = f"Node {NODE} which was running pod {pod['metadata']['name']} is unresponsive"
            pod["status"] |= {"reason": "NodeLost", "message": message}
            conditions.put(pod, "Ready", "Unknown", now=now, reason="NodeStatusUnknown")
            conditions.put(
                pod, "DisruptionTarget", "True", now=now, reason="DeletionByTaintManager"
            )
            self._save(pod)
            self._api.delete(Target(PODS, *_address(pod)), {})
            return
        pod["status"]["phase"] = "Failed"
        conditions.put(pod, "DisruptionTarget", "True", now=now, reason="DeletionByPodGC")
        self._save(pod)

    def _collect(self, pod: Object) -> None:
        """A Pod that ended and is being deleted needs no more grace."""
        metadata = pod["metadata"]
        if metadata.get("deletionGracePeriodSeconds"):
            self._api.delete(Target(PODS, *_address(pod)), {"gracePeriodSeconds": 0})

    def _overdue(self, pod: Object) -> bool:
        limit, started = pod["spec"].get("activeDeadlineSeconds"), pod["status"].get("startTime")
        return bool(
            limit and started and (self._api.now() - _time(started)).total_seconds() >= limit
        )

    def _save(self, pod: Object) -> None:
        """Write the status of a Pod, unless it has gone or changed: the next step sees that."""
        storage = self._api.storage
        with storage.changed:
            current = storage.get(PODS, *_address(pod))
            if current and current["metadata"]["uid"] == pod["metadata"]["uid"]:
                current["status"] = pod["status"]
                self._api.save(PODS, current, MANAGER, "status")


_MAIN = ("containerStatuses", "containers")


def _address(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _statuses(pod: Object) -> list[Object]:
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _is_main(pod: Object, container: Object) -> bool:
    return any(each["name"] == container["name"] for each in pod["spec"]["containers"])


def _running(pod: Object, container: str) -> bool:
    return any(s["name"] == container and "running" in s["state"] for s in _statuses(pod))


def _log_container(pod: Object, container: str) -> str:
    names = [c["name"] for k in ("initContainers", "containers") for c in pod["spec"].get(k) or ()]
    name = pod["metadata"]["name"]
    if not container:
        if len(names) > 1:
            raise bad_request(
                f"a container name must be specified for pod {name},"
                f" choose one of: [{' '.join(names)}]"
            )
        return str(names[0])
    if container not in names:
        raise bad_request(f"container {container} is not valid for pod {name}")
    return container


def _refuse_waiting(pod: Object, container: str, query: dict[str, str]) -> None:
    status = next((s for s in _statuses(pod) if s["name"] == container), None)
    if status and ("waiting" not in status["state"] or query.get("previous")):
        return
    reason = status["state"]["waiting"]["reason"] if status else "ContainerCreating"
    name = pod["metadata"]["name"]
    raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
