"""What the API server refuses beyond its schema: names, labels, Pods and Jobs that cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.fake_kubernetes.resources import ResourceType
from tests.fake_kubernetes.statuses import Cause, invalid

Object = dict[str, Any]

_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)([eE][+-]?[0-9]+|[A-Za-z]*)")
_POWERS = {
    "": Decimal(1),
    **{s: Decimal(1000) ** p for s, p in zip("num", (-3, -2, -1), strict=True)},
    **{s: Decimal(1000) ** p for p, s in enumerate("kMGTPE", 1)},
    **{f"{s}i": Decimal(1024) ** p for p, s in enumerate("KMGTPE", 1)},
}
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
        valid, limit, rule = _DNS_LABEL, 63, _LABEL_RULE
    else:
        valid, limit, rule = _DNS_SUBDOMAIN, 253, _SUBDOMAIN_RULE
    if not valid.fullmatch(name):
        yield _bad("metadata.name", name, "", rule)
    if len(name) > limit:
        yield _bad("metadata.name", name, f"no more than {limit} characters")
    yield from _labels(metadata.get("labels"), "metadata.labels")
    annotations = metadata.get("annotations") or {}
    for key in annotations:
        if not _qualified(key.lower()):
            yield _bad("metadata.annotations", key, "a qualified name")
    if sum(len(k) + len(v) for k, v in annotations.items()) > ANNOTATIONS_LIMIT:
        message = f"Too long: may not be more than {ANNOTATIONS_LIMIT} bytes"
        yield "FieldValueTooLong", message, "metadata.annotations"


def check_new(resource: ResourceType, item: Object) -> None:
    """Refuse an object that cannot be stored, with every cause at once."""
    causes = [*check_metadata(resource, item["metadata"])]
    match resource.kind:
        case "Pod":
            causes += _pod(item["spec"], "spec")
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
                causes.append(_bad("spec.selector", "", "", "field is immutable"))
    if causes:
        raise invalid(resource, new["metadata"]["name"], causes)


def _fixed_job(old: Object, new: Object) -> Iterator[Cause]:
    suspended = old["spec"].get("suspend") and not old.get("status", {}).get("startTime")
    fixed = ["selector", "completions", "completionMode", "podFailurePolicy"]
    for field in fixed if suspended else [*fixed, "template"]:
        value = new["spec"].get(field)
        if old["spec"].get(field) != value:
            yield _bad(f"spec.{field}", value, "", "field is immutable")


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
        yield _bad("type", new.get("type"), "", "field is immutable")


def quantity(text: Any) -> Decimal:
    """The number a quantity stands for. Raises ValueError for what is none."""
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        raise ValueError(text)
    number, suffix = found.groups()
    if suffix[:1] in ("e", "E") and suffix[1:]:
        return Decimal(number + suffix)
    if suffix not in _POWERS:
        raise ValueError(text)
    return Decimal(number) * _POWERS[suffix]


def _job(job: Object) -> Iterator[Cause]:
    spec = job["spec"]
    if len(job["metadata"]["name"]) > 63:
        yield _bad("metadata.name", job["metadata"]["name"], "no more than 63 characters")
    for field in ("activeDeadlineSeconds", "backoffLimit", "completions", "parallelism"):
        yield from _not_negative(spec, field, "spec")
    yield from _not_negative(spec, "ttlSecondsAfterFinished", "spec")
    template = spec["template"]
    policy = template["spec"].get("restartPolicy")
    if policy not in ("Never", "OnFailure"):
        message = f'Unsupported value: "{policy}": supported values: "OnFailure", "Never"'
        yield "FieldValueNotSupported", message, "spec.template.spec.restartPolicy"
    if spec.get("podFailurePolicy") and policy != "Never":
        message = 'only "Never" is supported when podFailurePolicy is specified'
        yield _bad("spec.template.spec.restartPolicy", policy, "", message)
    yield from _labels(template.get("metadata", {}).get("labels"), "spec.template.labels")
    yield from _pod(template["spec"], "spec.template.spec")


def _deployment(spec: Object) -> Iterator[Cause]:
    yield from _not_negative(spec, "replicas", "spec")
    labels = spec["template"].get("metadata", {}).get("labels") or {}
    wanted = spec["selector"].get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        message = "`selector` does not match template `labels`"
        yield _bad("spec.template.metadata.labels", labels, "", message)
    yield from _pod(spec["template"]["spec"], "spec.template.spec")


def _pod(spec: Object, path: str) -> Iterator[Cause]:
    yield from _positive(spec, "activeDeadlineSeconds", path)
    yield from _not_negative(spec, "terminationGracePeriodSeconds", path)
    volumes = spec.get("volumes") or []
    for index, volume in enumerate(volumes):
        at = f"{path}.volumes[{index}]"
        if not _DNS_LABEL.fullmatch(volume["name"]):
            yield _bad(f"{at}.name", volume["name"], "a lowercase RFC 1123 label")
        sources = [key for key in volume if key != "name"]
        if len(sources) > 1:
            message = "Forbidden: may not specify more than 1 volume type"
            yield "FieldValueForbidden", message, f"{at}.{sources[1]}"
        yield from _source(volume, at)
    yield from _twice([volume["name"] for volume in volumes], f"{path}.volumes", "name")
    if not spec.get("containers"):
        yield "FieldValueRequired", "Required value", f"{path}.containers"
    yield from _twice(
        [c["name"] for kind in ("initContainers", "containers") for c in spec.get(kind) or ()],
        f"{path}.containers",
        "name",
    )
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _container(
                container, {v["name"] for v in volumes}, f"{path}.{kind}[{index}]"
            )
    yield from _labels(spec.get("nodeSelector"), f"{path}.nodeSelector")


def _source(volume: Object, at: str) -> Iterator[Cause]:
    secret = volume.get("secret")
    if secret is not None and not secret.get("secretName"):
        yield "FieldValueRequired", "Required value", f"{at}.secret.secretName"
    for kind in ("secret", "configMap"):
        for index, entry in enumerate((volume.get(kind) or {}).get("items") or ()):
            if entry["path"].startswith("/") or ".." in entry["path"].split("/"):
                message = "must be a relative path"
                yield _bad(f"{at}.{kind}.items[{index}].path", entry["path"], "", message)


def _container(container: Object, volumes: set[str], at: str) -> Iterator[Cause]:
    if not _DNS_LABEL.fullmatch(container["name"]):
        yield _bad(f"{at}.name", container["name"], "a lowercase RFC 1123 label")
    if not container.get("image"):
        yield "FieldValueRequired", "Required value", f"{at}.image"
    for index, variable in enumerate(container.get("env") or ()):
        if not re.fullmatch(r"[!-<>-~][ -<>-~]*", variable["name"]):
            message = "a valid environment variable name"
            yield _bad(f"{at}.env[{index}].name", variable["name"], message)
        if variable.get("value") and variable.get("valueFrom"):
            message = "may not be specified when `value` is not empty"
            yield _bad(f"{at}.env[{index}].valueFrom", "", "", message)
    yield from _mounts(container.get("volumeMounts") or [], volumes, f"{at}.volumeMounts")
    yield from _resources(container.get("resources") or {}, f"{at}.resources")


def _mounts(mounts: list[Object], volumes: set[str], at: str) -> Iterator[Cause]:
    for index, mount in enumerate(mounts):
        name, path = mount["name"], mount["mountPath"]
        if name not in volumes:
            yield "FieldValueNotFound", f'Not found: "{name}"', f"{at}[{index}].name"
        if ":" in path:
            yield _bad(f"{at}[{index}].mountPath", path, "", "must not contain ':'")
        if path in [each["mountPath"] for each in mounts[:index]]:
            yield _bad(f"{at}[{index}].mountPath", path, "", "must be unique")


def _resources(resources: Object, at: str) -> Iterator[Cause]:
    amounts: dict[str, dict[str, Decimal]] = {"requests": {}, "limits": {}}
    for kind, kept in amounts.items():
        for name, text in (resources.get(kind) or {}).items():
            try:
                kept[name] = quantity(text)
            except ValueError:
                message = "quantities must match the regular expression"
                yield _bad(f"{at}.{kind}[{name}]", text, "", message)
                continue
            if kept[name] < 0:
                message = "must be greater than or equal to 0"
                yield _bad(f"{at}.{kind}[{name}]", text, "", message)
    for name, amount in amounts["requests"].items():
        limit = amounts["limits"].get(name)
        if limit is not None and amount > limit:
            message = f"must be less than or equal to {name} limit of {resources['limits'][name]}"
            yield _bad(f"{at}.requests", resources["requests"][name], "", message)


def _labels(labels: Object | None, at: str) -> Iterator[Cause]:
    for key, value in (labels or {}).items():
        if not _qualified(key):
            yield _bad(at, key, "a qualified name")
        if value and not _LABEL_NAME.fullmatch(value):
            yield _bad(at, value, "a valid label value of at most 63 characters")


def _qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and (not _DNS_SUBDOMAIN.fullmatch(prefix) or len(prefix) > 253):
        return False
    return bool(_LABEL_NAME.fullmatch(name))


def _data_keys(item: Object) -> Iterator[Cause]:
    for key in item.get("data") or {}:
        if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key) or key in (".", ".."):
            yield _bad(f"data[{key}]", key, "a valid config key")


def _fixed_part(spec: Object) -> Object:
    free = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"}
    fixed = {key: value for key, value in spec.items() if key not in free}
    for kind in ("containers", "initContainers"):
        if kind in fixed:
            fixed[kind] = [{k: v for k, v in c.items() if k != "image"} for c in fixed[kind]]
    return fixed


def _twice(names: list[str], at: str, field: str) -> Iterator[Cause]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield "FieldValueDuplicate", f'Duplicate value: "{name}"', f"{at}[{index}].{field}"


def _not_negative(spec: Object, field: str, at: str) -> Iterator[Cause]:
    if (spec.get(field) or 0) < 0:
        yield _bad(f"{at}.{field}", spec[field], "", "must be greater than or equal to 0")


def _positive(spec: Object, field: str, at: str) -> Iterator[Cause]:
    if spec.get(field) is not None and spec[field] < 1:
        yield _bad(f"{at}.{field}", spec[field], "", "must be between 1 and 2147483647, inclusive")


def _bad(field: str, value: Any, must_be: str, message: str = "") -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else value
    return "FieldValueInvalid", f"Invalid value: {shown}: {message or f'must be {must_be}'}", field
