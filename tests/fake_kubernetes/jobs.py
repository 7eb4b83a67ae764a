"""The Job controller, as Kubernetes 1.31 and later has it: Pods with finalizers, counted once."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from tests.fake_kubernetes import conditions
from tests.fake_kubernetes.api import Api, Options
from tests.fake_kubernetes.events import record
from tests.fake_kubernetes.resources import JOBS, PODS, ResourceType, Target
from tests.fake_kubernetes.statuses import ApiStatus

Object = dict[str, Any]
MANAGER = "kube-controller-manager"
TRACKING = "batch.kubernetes.io/job-tracking"
LONGEST_BACK_OFF = 600.0


class JobController:
    """Makes Pods of Jobs. A retry waits ``back_off_seconds``, doubled for each further failure."""

    def __init__(self, api: Api, *, back_off_seconds: float) -> None:
        self._api = api
        self._back_off = back_off_seconds
        self._failures: dict[str, list[datetime]] = {}

    def step(self) -> None:
        with self._api.storage.changed:
            jobs = self._api.storage.all(JOBS)
            self._release_orphans({job["metadata"]["uid"] for job in jobs})
            for job in jobs:
                self._sync(job)

    def _sync(self, job: Object) -> None:
        status = job["status"]
        if conditions.holds(job, "Complete") or conditions.holds(job, "Failed"):
            self._expire(job)
            return
        if "deletionTimestamp" in job["metadata"]:
            for pod in filter(_ended, self._own_pods(job)):
                self._let_go(pod)
            return
        if not status.get("startTime") and not job["spec"].get("suspend"):
            status["startTime"] = self._api.timestamp()
        pods = self._own_pods(job)
        ignored = self._count_ended(job, pods)
        active = self._act(job, [pod for pod in pods if not _ended(pod)], waits=ignored)
        _tell_counts(status, active)
        self._api.save(JOBS, job, MANAGER, "status")

    def _act(self, job: Object, active: list[Object], *, waits: bool) -> list[Object]:
        """Make or delete Pods as the Job needs; answer which are active now."""
        if not _decided(job):
            self._judge(job)
        if _decided(job):
            self._delete_pods(active)
            if not active:
                self._conclude(job)
        elif job["spec"].get("suspend"):
            self._suspend(job, active)
        else:
            if conditions.holds(job, "Suspended"):
                now, message = self._api.timestamp(), "Job resumed"
                conditions.put(
                    job, "Suspended", "False", now=now, reason="JobResumed", message=message
                )
            if not waits:
                return [*active, *self._make_pods(job, active)]
        return active

    def _judge(self, job: Object) -> None:
        spec, status, now = job["spec"], job["status"], self._api.now()
        limit = spec.get("activeDeadlineSeconds")
        started = status.get("startTime")
        if status.get("succeeded", 0) >= spec.get("completions", 1):
            message = "Reached expected number of succeeded pods"
            self._say(job, "SuccessCriteriaMet", "CompletionsReached", message)
        elif status.get("failed", 0) > spec["backoffLimit"]:
            message = "Job has reached the specified backoff limit"
            self._say(job, "FailureTarget", "BackoffLimitExceeded", message)
        elif limit and started and not spec.get("suspend") and _since(started, now) >= limit:
            message = "Job was active longer than specified deadline"
            self._say(job, "FailureTarget", "DeadlineExceeded", message)

    def _conclude(self, job: Object) -> None:
        success = conditions.holds(job, "SuccessCriteriaMet")
        why = conditions.find(job, "SuccessCriteriaMet" if success else "FailureTarget")
        self._say(job, "Complete" if success else "Failed", why["reason"], why["message"])
        if success:
            job["status"]["completionTime"] = self._api.timestamp()
        kind, reason = ("Normal", "Completed") if success else ("Warning", why["reason"])
        record(self._api, job, kind, reason, "Job completed" if success else why["message"])

    def _count_ended(self, job: Object, pods: list[Object]) -> bool:
        """Count each ended Pod once and let go of it; say whether a policy ignored any."""
        ignored = False
        for pod in pods:
            if not _ended(pod) or TRACKING not in (pod["metadata"].get("finalizers") or ()):
                continue
            if pod["status"].get("phase") == "Succeeded":
                job["status"]["succeeded"] = job["status"].get("succeeded", 0) + 1
            else:
                action = self._policy(job, pod)
                if action != "Ignore":
                    job["status"]["failed"] = job["status"].get("failed", 0) + 1
                    self._failures.setdefault(job["metadata"]["uid"], []).append(self._api.now())
                ignored |= action == "Ignore"
            self._let_go(pod)
        return ignored

    def _policy(self, job: Object, pod: Object) -> str:
        """The action of the first rule of the Pod failure policy that a failed Pod meets."""
        for index, rule in enumerate(
            (job["spec"].get("podFailurePolicy") or {}).get("rules") or ()
        ):
            met = _met_codes(rule.get("onExitCodes"), pod) or _met_conditions(rule, pod)
            # What decided a Job first stays its reason: the deadline kills Pods with 137 too.
            if met and rule["action"] == "FailJob" and not _decided(job):
                name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                message = f"{met} for pod {name} matching FailJob rule at index {index}"
                self._say(job, "FailureTarget", "PodFailurePolicy", message)
            if met:
                return str(rule["action"])
        return "Count"

    def _make_pods(self, job: Object, active: list[Object]) -> list[Object]:
        spec, status = job["spec"], job["status"]
        failures = self._failures.get(job["metadata"]["uid"], [])
        if failures and not active:
            wait = min(LONGEST_BACK_OFF, self._back_off * 2 ** (len(failures) - 1))
            if self._api.now() < failures[-1] + timedelta(seconds=wait):
                return []
        wanted = min(spec["parallelism"], spec.get("completions", 1) - status.get("succeeded", 0))
        return [self._make_pod(job) for _ in range(wanted - len(active))]

    def _make_pod(self, job: Object) -> Object:
        metadata, template = job["metadata"], job["spec"]["template"]
        pod = {
            "metadata": {
                **(template.get("metadata") or {}),
                "generateName": f"{metadata['name']}-",
                "finalizers": [TRACKING],
                "ownerReferences": [
                    {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "name": metadata["name"],
                        "uid": metadata["uid"],
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": template["spec"],
        }
        at = Target(PODS, metadata["namespace"])
        made = self._api.create(at, json.dumps(pod), Options(MANAGER))
        message = f"Created pod: {made['metadata']['name']}"
        record(self._api, job, "Normal", "SuccessfulCreate", message)
        return made

    def _suspend(self, job: Object, active: list[Object]) -> None:
        self._delete_pods(active)
        job["status"].pop("startTime", None)
        self._say(job, "Suspended", "JobSuspended", "Job suspended")

    def _delete_pods(self, pods: list[Object]) -> None:
        for pod in pods:
            if "deletionTimestamp" in pod["metadata"]:
                continue
            self._api.delete(_target(PODS, pod), {})

    def _expire(self, job: Object) -> None:
        for pod in self._own_pods(job):
            self._let_go(pod)
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        ended = conditions.find(job, "Complete" if conditions.holds(job, "Complete") else "Failed")
        since = datetime.fromisoformat(ended["lastTransitionTime"])
        due = ttl is not None and self._api.now() >= since + timedelta(seconds=ttl)
        if due and "deletionTimestamp" not in job["metadata"]:
            self._api.delete(_target(JOBS, job), {"propagationPolicy": "Foreground"})

    def _own_pods(self, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        return [
            pod
            for pod in self._api.storage.all(PODS, job["metadata"]["namespace"])
            if any(o["uid"] == uid for o in pod["metadata"].get("ownerReferences") or ())
        ]

    def _release_orphans(self, uids: set[str]) -> None:
        """A Pod whose Job has gone, or is going, waits for nobody's count."""
        for pod in self._api.storage.all(PODS):
            owners = {o["uid"] for o in pod["metadata"].get("ownerReferences") or ()}
            going = "deletionTimestamp" in pod["metadata"] and not owners & uids
            if going or not owners:
                self._let_go(pod)

    def _let_go(self, pod: Object) -> None:
        finalizers = pod["metadata"].get("finalizers") or []
        if TRACKING in finalizers:
            finalizers.remove(TRACKING)
            try:
                self._api.save(PODS, pod, MANAGER)
            except ApiStatus as status:
                if status.code not in (404, 409):
                    raise

    def _say(self, job: Object, kind: str, reason: str, message: str) -> None:
        now = self._api.timestamp()
        conditions.put(job, kind, "True", now=now, reason=reason, message=message)


def _decided(job: Object) -> bool:
    return any(conditions.holds(job, kind) for kind in ("FailureTarget", "SuccessCriteriaMet"))


def _target(resource: ResourceType, item: Object) -> Target:
    return Target(resource, item["metadata"]["namespace"], item["metadata"]["name"])


def _since(time: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(time)).total_seconds()


def _tell_counts(status: Object, active: list[Object]) -> None:
    terminating = [pod for pod in active if "deletionTimestamp" in pod["metadata"]]
    status["active"] = len(active) - len(terminating)
    status["terminating"] = len(terminating)
    status["ready"] = sum(conditions.holds(pod, "Ready") for pod in active)
    status.setdefault("uncountedTerminatedPods", {})
    for field in ("active", "failed", "succeeded"):
        # Zero is left out on the wire.
        if not status.get(field):
            status.pop(field, None)


def _ended(pod: Object) -> bool:
    """Whether a Pod counts as ended: so does one that is deleted before any node had it."""
    phase = pod["status"].get("phase")
    lost = "deletionTimestamp" in pod["metadata"] and not pod["spec"].get("nodeName")
    return phase in ("Succeeded", "Failed") or lost


def _met_codes(rule: Object | None, pod: Object) -> str:
    if not rule:
        return ""
    status = pod["status"]
    every = (
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    )
    for each in every:
        code = each["state"].get("terminated", {}).get("exitCode")
        named = rule.get("containerName") in (None, each["name"])
        if code and named and (code in rule["values"]) == (rule["operator"] == "In"):
            return f"Container {each['name']} failed with exit code {code}"
    return ""


def _met_conditions(rule: Object, pod: Object) -> str:
    for pattern in rule.get("onPodConditions") or ():
        found = conditions.find(pod, pattern["type"])
        if found and found["status"] == pattern.get("status", "True"):
            return f"Pod has condition {pattern['type']}"
    return ""
