"""Events, as controllers and nodes leave them beside what they act on."""

from __future__ import annotations

import json
from typing import Any

from tests.fake_kubernetes.api import Api, Options
from tests.fake_kubernetes.resources import EVENTS, Target

Object = dict[str, Any]


def record(api: Api, about: Object, kind: str, reason: str, message: str) -> None:
    """Leave an event, once: a repeated one is not worth a second."""
    metadata = about["metadata"]
    involved = {
        "kind": about["kind"],
        "apiVersion": about["apiVersion"],
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
    }
    with api.storage.changed:
        for each in api.storage.all(EVENTS, metadata["namespace"]):
            told = (each["involvedObject"]["uid"], each["reason"], each["message"])
            if told == (metadata["uid"], reason, message):
                return
        event = {
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": involved,
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": api.timestamp(),
            "lastTimestamp": api.timestamp(),
            "source": {"component": "fake"},
        }
        api.create(Target(EVENTS, metadata["namespace"]), json.dumps(event), Options("fake"))
