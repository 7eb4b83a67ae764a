"""The Job controller, as Kubernetes 1.31 and later has it: Pods with finalizers, counted once."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from tests.fake_kubernetes.api import Api, Options
from tests.fake_kubernetes.events import record
from tests.fake_kubernetes.resources import JOBS, PODS
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
        if _is(job, "Complete") or _is(job, "Failed"):
            self._expire(job)
            return
        if "deletionTimestamp" in job["metadata"]:
            return
        now = self._api.timestamp()
        suspended = job["spec"].get("suspend")
        if not status.get("startTime") and not suspended:
            status["startTime"] = now
        pods = self._own_pods(job)
        ignored = self._count_ended(job, pods)
        active = [pod for pod in pods if not _ended(pod)]
        if not _is(job, "FailureTarget") and not _is(job, "SuccessCriteriaMet"):
            self._judge(job, active)
        if _is(job, "FailureTarget") or _is(job, "SuccessCriteriaMet"):
            self._delete_pods(active)
            if not active:
                self._conclude(job)
        elif suspended:
            self._suspend(job, active)
        else:
            _clear(job, "Suspended", now)
            if not ignored:
                active = [*active, *self._make_pods(job, active)]
        terminating = [pod for pod in active if "deletionTimestamp" in pod["metadata"]]
        status["active"] = len(active) - len(terminating)
        status["terminating"] = len(terminating)
        status["ready"] = sum(_is(pod, "Ready") for pod in active)
        status.setdefault("uncountedTerminatedPods", {})
        for field in ("active", "failed", "succeeded"):
            # Zero is left out on the wire.
            if not status.get(field):
                status.pop(field, None)
        self._api.save(JOBS, job, MANAGER, "status")

    def _judge(self, job: Object, active: list[Object]) -> None:
        spec, status, now = job["spec"], job["status"], self._api.now()
        limit = spec.get("activeDeadlineSeconds")
        started = status.get("startTime")
        if status.get("succeeded", 0) >= spec.get("completions", 1):
            message = "Reached expected number of succeeded pods"
            self._say(job, "SuccessCriteriaMet", "CompletionsReached", message)
        elif status.get("failed", 0) > spec["backoffLimit"]:
            message = "Job has reached the specified backoff limit"
            self._say(job, "FailureTarget", "BackoffLimitExceeded", message)
        elif limit and started and not spec.get("suspend"):
            if now - datetime.fromisoformat(started) >= timedelta(seconds=limit):
                message = "Job was active longer than specified deadline"
                self._say(job, "FailureTarget", "DeadlineExceeded", message)

    def _conclude(self, job: Object) -> None:
        success = _is(job, "SuccessCriteriaMet")
        why = _condition(job, "SuccessCriteriaMet" if success else "FailureTarget")
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
            if met and rule["action"] == "FailJob":
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
        made = self._api.create(PODS, metadata["namespace"], json.dumps(pod), Options(MANAGER))
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
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            self._api.delete(PODS, namespace, name, {}, dry_run=False)

    def _expire(self, job: Object) -> None:
        for pod in self._own_pods(job):
            self._let_go(pod)
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        ended = _condition(job, "Complete" if _is(job, "Complete") else "Failed")
        since = datetime.fromisoformat(ended["lastTransitionTime"])
        if ttl is not None and self._api.now() >= since + timedelta(seconds=ttl):
            if "deletionTimestamp" not in job["metadata"]:
                how = {"propagationPolicy": "Foreground"}
                namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
                self._api.delete(JOBS, namespace, name, how, dry_run=False)

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
        if _is(job, kind):
            return
        kept = [c for c in job["status"].get("conditions") or () if c["type"] != kind]
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        times = {"lastProbeTime": now, "lastTransitionTime": now}
        job["status"]["conditions"] = [*kept, {**condition, **times}]


def _ended(pod: Object) -> bool:
    """Whether a Pod counts as ended: so does one that is deleted before any node had it."""
    phase = pod["status"].get("phase")
    lost = "deletionTimestamp" in pod["metadata"] and not pod["spec"].get("nodeName")
    return phase in ("Succeeded", "Failed") or lost


def _is(item: Object, kind: str) -> bool:
    condition = _condition(item, kind)
    return bool(condition) and condition["status"] == "True"


def _condition(item: Object, kind: str) -> Object:
    conditions = item["status"].get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


def _clear(job: Object, kind: str, now: str) -> None:
    condition = _condition(job, kind)
    if condition and condition["status"] == "True":
        resumed = {"reason": "JobResumed", "message": "Job resumed", "lastTransitionTime": now}
        condition.update({"status": "False", **resumed})


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
        found = _condition(pod, pattern["type"])
        if found and found["status"] == pattern.get("status", "True"):
            return f"Pod has condition {pattern['type']}"
    return ""
