"""What the API server fills in: as much as decides how Jobs and Pods behave and merge."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.fake_kubernetes.resources import ResourceType

Object = dict[str, Any]

_CONTAINER = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
_POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "securityContext": {},
}
_JOB = {
    "completionMode": "NonIndexed",
    "backoffLimit": 6,
    "suspend": False,
    "podReplacementPolicy": "TerminatingOrFailed",
    "manualSelector": False,
}


def fill(resource: ResourceType, item: Object) -> None:
    """Fill in the defaults of a kind, in place; idempotent, as apply relies on."""
    spec = item.get("spec")
    match resource.kind:
        case "Pod" if spec is not None:
            _fill_pod(spec)
            item.setdefault("status", {}).setdefault("phase", "Pending")
        case "Job" if spec is not None:
            _fill_job(item["metadata"], spec)
            item.setdefault("status", {})
        case "Deployment" if spec is not None:
            _set(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
            _fill_pod(spec["template"]["spec"])
        case "Secret":
            _encode_strings(item)
            item.setdefault("type", "Opaque")
        case "Namespace":
            item.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
            item.setdefault("status", {}).setdefault("phase", "Active")


def _fill_job(metadata: Object, spec: Object) -> None:
    _set(spec, _JOB)
    spec.setdefault("parallelism", 1)
    if spec["completionMode"] == "NonIndexed" and spec["parallelism"] == 1:
        spec.setdefault("completions", 1)
    template = spec.setdefault("template", {})
    _fill_pod(template.setdefault("spec", {}))
    uid = metadata.get("uid")
    if uid and not spec["manualSelector"]:
        own = {
            "controller-uid": uid,
            "job-name": metadata["name"],
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": metadata["name"],
        }
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        _set(labels, own)
        spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})


def _fill_pod(spec: Object) -> None:
    _set(spec, _POD)
    if spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        _set(container, _CONTAINER)
        tag = container.get("image", "").rpartition("/")[2]
        moving = "@" not in tag and (":" not in tag or tag.endswith(":latest"))
        container.setdefault("imagePullPolicy", "Always" if moving else "IfNotPresent")
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
        requests, limits = (container["resources"].get(k) or {} for k in ("requests", "limits"))
        if limits:
            container["resources"]["requests"] = {**limits, **requests}
    for volume in spec.get("volumes") or ():
        for kind in ("secret", "configMap", "projected", "downwardAPI"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 0o644)


def _encode_strings(secret: Object) -> None:
    for name, value in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[name] = base64.b64encode(value.encode()).decode()


def _set(item: Object, values: Object) -> None:
    for name, value in json.loads(json.dumps(values)).items():
        if item.get(name) is None:
            item[name] = value
