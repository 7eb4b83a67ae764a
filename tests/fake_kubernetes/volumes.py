"""The files that a node mounts into containers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tests.fake_kubernetes.api import Api
from tests.fake_kubernetes.outcomes import Step
from tests.fake_kubernetes.resources import CONFIG_MAPS, SECRETS

Object = dict[str, Any]

_SOURCES = (("secret", "secretName", SECRETS), ("configMap", "name", CONFIG_MAPS))


def missing(api: Api, pod: Object) -> str:
    """What a volume of a Pod lacks, as the event says it; "" where nothing is missing."""
    namespace = pod["metadata"]["namespace"]
    for volume in pod["spec"].get("volumes") or ():
        for kind, field, resource in _SOURCES:
            source = volume.get(kind)
            if source is None or source.get("optional"):
                continue
            if api.storage.get(resource, namespace, source[field]) is None:
                return (
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" :'
                    f' {resource.kind.lower()} "{source[field]}" not found'
                )
    return ""


def step(api: Api, pod: Object, container: Object, folder: Path) -> Step:
    """A container ready to run on this machine, with the volumes of its Pod below ``folder``."""
    base = folder / pod["metadata"]["uid"]
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    mounts = {}
    for mount in container.get("volumeMounts") or ():
        source = base / "volumes" / mount["name"]
        if not source.exists():
            source.mkdir(parents=True)
            _fill(api, source, volumes[mount["name"]], pod["metadata"]["namespace"])
        mounts[mount["mountPath"]] = source / mount.get("subPath", "")
    base.mkdir(parents=True, exist_ok=True)
    return Step(
        name=container["name"],
        image=container["image"],
        command=[*(container.get("command") or ()), *(container.get("args") or ())],
        environment={each["name"]: each.get("value", "") for each in container.get("env") or ()},
        mounts=mounts,
        termination_log=base / f"{container['name']}.termination",
    )


def _fill(api: Api, folder: Path, volume: Object, namespace: str) -> None:
    for kind, field, resource in _SOURCES:
        if kind not in volume:
            continue
        found = api.storage.get(resource, namespace, volume[kind][field]) or {}
        data = found.get("data") or {}
        for item in volume[kind].get("items") or [{"key": key, "path": key} for key in data]:
            target = folder / item["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            text = data[item["key"]]
            content = base64.b64decode(text) if resource == SECRETS else text.encode()
            target.write_bytes(content)
