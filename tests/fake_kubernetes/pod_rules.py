"""What the API server refuses in the specification of a Pod."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.fake_kubernetes import rules
from tests.fake_kubernetes.statuses import Cause, bad_request

Object = dict[str, Any]

_STANDARD = ("cpu", "memory", "ephemeral-storage")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")


def check(spec: Object, path: str) -> Iterator[Cause]:
    yield from rules.positive(spec, "activeDeadlineSeconds", path)
    yield from _one_of(spec, "dnsPolicy", _DNS_POLICIES, path)
    yield from _one_of(spec, "restartPolicy", _RESTART_POLICIES, path)
    account = spec.get("serviceAccountName")
    if account and not rules.DNS_SUBDOMAIN.fullmatch(account):
        yield rules.bad(f"{path}.serviceAccountName", account, "a lowercase RFC 1123 subdomain")
    yield from _user(spec.get("securityContext") or {}, f"{path}.securityContext")
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _toleration(toleration, f"{path}.tolerations[{index}]")
    volumes = spec.get("volumes") or []
    for index, volume in enumerate(volumes):
        at = f"{path}.volumes[{index}]"
        if not rules.DNS_LABEL.fullmatch(volume["name"]):
            yield rules.bad(f"{at}.name", volume["name"], "a lowercase RFC 1123 label")
        sources = [key for key in volume if key != "name"]
        if len(sources) > 1:
            message = "Forbidden: may not specify more than 1 volume type"
            yield "FieldValueForbidden", message, f"{at}.{sources[1]}"
        yield from _source(volume, at)
    yield from rules.twice([volume["name"] for volume in volumes], f"{path}.volumes", "name")
    if not spec.get("containers"):
        yield "FieldValueRequired", "Required value", f"{path}.containers"
    yield from rules.twice(
        [c["name"] for kind in ("initContainers", "containers") for c in spec.get(kind) or ()],
        f"{path}.containers",
        "name",
    )
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _container(
                container, {v["name"] for v in volumes}, f"{path}.{kind}[{index}]"
            )
    yield from rules.labels(spec.get("nodeSelector"), f"{path}.nodeSelector")


def _source(volume: Object, at: str) -> Iterator[Cause]:
    secret = volume.get("secret")
    if secret is not None and not secret.get("secretName"):
        yield "FieldValueRequired", "Required value", f"{at}.secret.secretName"
    for kind in ("secret", "configMap"):
        mode = (volume.get(kind) or {}).get("defaultMode", 0)
        if not 0 <= mode <= 0o777:
            message = "must be a number between 0 and 0777 (octal), both inclusive"
            yield rules.bad(f"{at}.{kind}.defaultMode", mode, "", message)
        for index, entry in enumerate((volume.get(kind) or {}).get("items") or ()):
            if entry["path"].startswith("/") or ".." in entry["path"].split("/"):
                message = "must be a relative path"
                yield rules.bad(f"{at}.{kind}.items[{index}].path", entry["path"], "", message)


def _container(container: Object, volumes: set[str], at: str) -> Iterator[Cause]:
    if not rules.DNS_LABEL.fullmatch(container["name"]):
        yield rules.bad(f"{at}.name", container["name"], "a lowercase RFC 1123 label")
    if not container.get("image"):
        yield "FieldValueRequired", "Required value", f"{at}.image"
    yield from _one_of(container, "imagePullPolicy", _PULL_POLICIES, at)
    yield from _one_of(container, "terminationMessagePolicy", _MESSAGE_POLICIES, at)
    yield from _user(container.get("securityContext") or {}, f"{at}.securityContext")
    for index, port in enumerate(container.get("ports") or ()):
        if not 1 <= port["containerPort"] <= 65535:
            message = "must be between 1 and 65535, inclusive"
            field = f"{at}.ports[{index}].containerPort"
            yield rules.bad(field, port["containerPort"], "", message)
    yield from _environment(container.get("env") or [], f"{at}.env")
    yield from _mounts(container.get("volumeMounts") or [], volumes, f"{at}.volumeMounts")
    yield from _resources(container.get("resources") or {}, f"{at}.resources")


def _environment(variables: list[Object], at: str) -> Iterator[Cause]:
    for index, variable in enumerate(variables):
        # The rule of servers before 1.30, which all later ones accept too.
        if not re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", variable["name"]):
            message = "a valid environment variable name"
            yield rules.bad(f"{at}[{index}].name", variable["name"], message)
        if variable.get("value") and variable.get("valueFrom"):
            message = "may not be specified when `value` is not empty"
            yield rules.bad(f"{at}[{index}].valueFrom", "", "", message)


def _mounts(mounts: list[Object], volumes: set[str], at: str) -> Iterator[Cause]:
    for index, mount in enumerate(mounts):
        name, path = mount["name"], mount["mountPath"]
        if name not in volumes:
            yield "FieldValueNotFound", f'Not found: "{name}"', f"{at}[{index}].name"
        if not path:
            yield "FieldValueRequired", "Required value", f"{at}[{index}].mountPath"
        if ":" in path:
            yield rules.bad(f"{at}[{index}].mountPath", path, "", "must not contain ':'")
        if path in [each["mountPath"] for each in mounts[:index]]:
            yield rules.bad(f"{at}[{index}].mountPath", path, "", "must be unique")


def _resources(resources: Object, at: str) -> Iterator[Cause]:
    amounts: dict[str, dict[str, Decimal]] = {"requests": {}, "limits": {}}
    for kind, kept in amounts.items():
        for name, text in (resources.get(kind) or {}).items():
            if name not in _STANDARD and "/" not in name and not name.startswith("hugepages-"):
                message = "must be a standard resource type or fully qualified"
                yield rules.bad(f"{at}.{kind}[{name}]", name, "", message)
            try:
                kept[name] = rules.quantity(text)
            except ValueError as error:
                # Decoding stops at such a one.
                message = f"{at}.{kind}[{name}]: quantities must match the regular expression"
                raise bad_request(message) from error
            if kept[name] < 0:
                message = "must be greater than or equal to 0"
                yield rules.bad(f"{at}.{kind}[{name}]", text, "", message)
    for name, amount in amounts["requests"].items():
        limit = amounts["limits"].get(name)
        if limit is not None and amount > limit:
            message = f"must be less than or equal to {name} limit of {resources['limits'][name]}"
            yield rules.bad(f"{at}.requests", resources["requests"][name], "", message)


def _user(context: Object, at: str) -> Iterator[Cause]:
    for field in ("runAsUser", "runAsGroup"):
        if not 0 <= context.get(field, 0) <= 2147483647:
            message = "must be between 0 and 2147483647, inclusive"
            yield rules.bad(f"{at}.{field}", context[field], "", message)
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        yield rules.bad(at, "", "", message)


def _toleration(toleration: Object, at: str) -> Iterator[Cause]:
    operator = toleration.get("operator") or "Equal"
    if not toleration.get("key") and operator != "Exists":
        message = "operator must be Exists when `key` is empty"
        yield rules.bad(f"{at}.operator", operator, "", message)
    if operator == "Exists" and toleration.get("value"):
        message = "value must be empty when `operator` is 'Exists'"
        yield rules.bad(f"{at}.operator", toleration["value"], "", message)
    yield from _one_of(toleration, "operator", ("Equal", "Exists"), at)
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    yield from _one_of(toleration, "effect", effects, at)


def _one_of(item: Object, field: str, values: tuple[str, ...], at: str) -> Iterator[Cause]:
    value = item.get(field)
    if value and value not in values:
        known = ", ".join(f'"{each}"' for each in values)
        message = f'Unsupported value: "{value}": supported values: {known}'
        yield "FieldValueNotSupported", message, f"{at}.{field}"
