"""What the API server refuses beyond its schema: names, labels, Pods and Jobs that cannot work."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from tests.fake_kubernetes import pod_rules, rules
from tests.fake_kubernetes.resources import ResourceType
from tests.fake_kubernetes.statuses import Cause, bad_request, invalid

Object = dict[str, Any]

_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")
_DOCKER_CONFIG = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson")
_LABEL_KINDS = {"Namespace", "Service"}
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-',"
    " and must start and end with an alphanumeric character"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.',"
    " and must start and end with an alphanumeric character"
)
ANNOTATIONS_LIMIT = 256 * 1024


def check_metadata(resource: ResourceType, metadata: Object) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if resource.kind in _LABEL_KINDS:
        valid, limit, rule = rules.DNS_LABEL, 63, _LABEL_RULE
    else:
        valid, limit, rule = rules.DNS_SUBDOMAIN, 253, _SUBDOMAIN_RULE
    if not valid.fullmatch(name):
        yield rules.bad("metadata.name", name, "", rule)
    if len(name) > limit:
        yield rules.bad("metadata.name", name, f"no more than {limit} characters")
    yield from rules.labels(metadata.get("labels"), "metadata.labels")
    for index, finalizer in enumerate(metadata.get("finalizers") or ()):
        if "/" not in finalizer and finalizer not in _FINALIZERS:
            message = "name is neither a standard finalizer name nor is it fully qualified"
            yield rules.bad(f"metadata.finalizers[{index}]", finalizer, "", message)
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        if not rules.qualified(key.lower()):
            yield rules.bad("metadata.annotations", key, "a qualified name")
    if sum(len(k) + len(v) for k, v in annotations.items()) > ANNOTATIONS_LIMIT:
        message = f"Too long: may not be more than {ANNOTATIONS_LIMIT} bytes"
        yield "FieldValueTooLong", message, "metadata.annotations"


def check_new(resource: ResourceType, item: Object) -> None:
    """Refuse an object that cannot be stored, with every cause at once."""
    causes = [*check_metadata(resource, item["metadata"])]
    match resource.kind:
        case "Pod":
            causes += pod_rules.check(item["spec"], "spec")
        case "Job":
            causes += _job(item)
        case "Deployment":
            causes += _deployment(item["spec"])
        case "Secret" | "ConfigMap":
            causes += _data_keys(item)
    if causes:
        raise invalid(resource, item["metadata"].get("name", ""), causes)


def check_update(resource: ResourceType, old: Object, new: Object) -> None:
    """Refuse changes of what cannot change."""
    causes = [*check_metadata(resource, new["metadata"])]
    match resource.kind:
        case "Job":
            causes += [*_job(new), *_fixed_job(old, new)]
        case "Pod":
            causes += _fixed_pod(old["spec"], new["spec"])
        case "Secret" | "ConfigMap":
            causes += [*_data_keys(new), *_fixed_data(old, new)]
        case "Deployment":
            causes += _deployment(new["spec"])
            if old["spec"]["selector"] != new["spec"]["selector"]:
                causes.append(rules.bad("spec.selector", "", "", "field is immutable"))
    if causes:
        raise invalid(resource, new["metadata"]["name"], causes)


def _fixed_job(old: Object, new: Object) -> Iterator[Cause]:
    suspended = old["spec"].get("suspend") and not old.get("status", {}).get("startTime")
    fixed = ["selector", "completions", "completionMode", "podFailurePolicy"]
    for field in fixed if suspended else [*fixed, "template"]:
        value = new["spec"].get(field)
        if old["spec"].get(field) != value:
            yield rules.bad(f"spec.{field}", value, "", "field is immutable")


def _fixed_pod(old: Object, new: Object) -> Iterator[Cause]:
    if _fixed_part(old) != _fixed_part(new):
        message = (
            "Forbidden: pod updates may not change fields other than"
            " `spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations`,"
            "`spec.terminationGracePeriodSeconds`"
        )
        yield "FieldValueForbidden", message, "spec"


def _fixed_data(old: Object, new: Object) -> Iterator[Cause]:
    if old.get("immutable") and any(old.get(k) != new.get(k) for k in ("data", "immutable")):
        message = "Forbidden: field is immutable when `immutable` is set"
        yield "FieldValueForbidden", message, "data"
    if old.get("type") != new.get("type"):
        yield rules.bad("type", new.get("type"), "", "field is immutable")


def _job(job: Object) -> Iterator[Cause]:
    spec = job["spec"]
    own = job["metadata"]["uid"]
    wanted = (spec["selector"].get("matchLabels") or {}) if not spec["manualSelector"] else {}
    if any(value != own for value in wanted.values()):
        yield rules.bad("spec.selector", wanted, "", "`selector` not auto-generated")
    for field in ("activeDeadlineSeconds", "backoffLimit", "completions", "parallelism"):
        yield from rules.not_negative(spec, field, "spec")
    yield from rules.not_negative(spec, "ttlSecondsAfterFinished", "spec")
    template = spec["template"]
    policy = template["spec"].get("restartPolicy")
    if policy not in ("Never", "OnFailure"):
        message = f'Unsupported value: "{policy}": supported values: "OnFailure", "Never"'
        yield "FieldValueNotSupported", message, "spec.template.spec.restartPolicy"
    if spec.get("podFailurePolicy") and policy != "Never":
        message = 'only "Never" is supported when podFailurePolicy is specified'
        yield rules.bad("spec.template.spec.restartPolicy", policy, "", message)
    yield from rules.labels(template.get("metadata", {}).get("labels"), "spec.template.labels")
    yield from pod_rules.check(template["spec"], "spec.template.spec")


def _deployment(spec: Object) -> Iterator[Cause]:
    yield from rules.not_negative(spec, "replicas", "spec")
    labels = spec["template"].get("metadata", {}).get("labels") or {}
    wanted = spec["selector"].get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        message = "`selector` does not match template `labels`"
        yield rules.bad("spec.template.metadata.labels", labels, "", message)
    yield from pod_rules.check(spec["template"]["spec"], "spec.template.spec")


def _data_keys(item: Object) -> Iterator[Cause]:
    data = item.get("data") or {}
    for key, value in data.items():
        if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) or key in (".", ".."):
            yield rules.bad(f"data[{key}]", key, "a valid config key")
        if item["kind"] == "Secret":
            try:
                base64.b64decode(value, validate=True)
            except ValueError as error:
                raise bad_request(f"v1.Secret.Data: decode base64: {error}") from error
    kind, needed = _DOCKER_CONFIG
    if item.get("type") == kind and needed not in data:
        yield "FieldValueRequired", "Required value", f"data[{needed}]"


def _fixed_part(spec: Object) -> Object:
    free = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"}
    fixed = {key: value for key, value in spec.items() if key not in free}
    for kind in ("containers", "initContainers"):
        if kind in fixed:
            fixed[kind] = [{k: v for k, v in c.items() if k != "image"} for c in fixed[kind]]
    return fixed
