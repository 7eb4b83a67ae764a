"""Conditions in the status of Jobs and Pods."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def find(item: Object, kind: str) -> Object:
    """The condition of a type; empty where there is none."""
    conditions = item["status"].get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


def holds(item: Object, kind: str) -> bool:
    return bool(find(item, kind).get("status") == "True")


def put(
    item: Object, kind: str, status: str, *, now: str, reason: str = "", message: str = ""
) -> None:
    """Say a condition; its time moves only when its status does."""
    old = find(item, kind)
    condition = {
        "type": kind,
        "status": status,
        **({"reason": reason} if reason else {}),
        **({"message": message} if message else {}),
        "lastProbeTime": old.get("lastProbeTime", now),
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == status else now,
    }
    others = [c for c in item["status"].get("conditions") or () if c["type"] != kind]
    item["status"]["conditions"] = [*others, condition]
