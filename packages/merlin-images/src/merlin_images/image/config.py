"""Image configs: what runs, as whom, with which environment, on which layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from merlin_images.image.errors import InvalidImage
from merlin_images.image.manifest import DIGEST, canonical_json, parse_object

# These of a base would lead our interpreter to modules of another one.
_DROPPED_ENVIRONMENT = {"PYTHONHOME", "PYTHONPATH"}


@dataclass(frozen=True)
class AddedLayer:
    """A layer put on a base, for the config: its tar's digest and how history tells of it."""

    diff_id: str
    title: str


@dataclass(frozen=True)
class Run:
    """How a container of the image starts. ``environment`` overrides the base's."""

    entrypoint: Sequence[str]
    environment: Mapping[str, str]
    user: str
    working_directory: str
    port: int
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_config(body: bytes) -> dict[str, Any]:
    """Read an image config and check what is read of it elsewhere. Raises `InvalidImage`."""
    document = parse_object(body, "image config")
    for diff_id in diff_ids(document):
        if not DIGEST.fullmatch(diff_id):
            raise InvalidImage(f"The image config has the diff_id {diff_id[:80]!r}, which is none.")
    environment(document)
    labels(document)
    history = document.get("history")
    if history is not None and not (
        isinstance(history, list) and all(isinstance(entry, dict) for entry in history)
    ):
        raise InvalidImage("The image config's history is not a list of objects.")
    return document


def diff_ids(config: Mapping[str, Any]) -> list[str]:
    """Return the digests of the uncompressed layers, lowest first."""
    return _texts(_section(config, "rootfs").get("diff_ids"), "diff_ids")


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment an image sets, in its order."""
    lines = _texts(_section(config, "config").get("Env") or [], "environment")
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def labels(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of an image."""
    found = _section(_section(config, "config"), "Labels")
    return {str(name): str(value) for name, value in found.items()}


def extend_config(
    base: Mapping[str, Any], added: Iterable[AddedLayer], run: Run, *, created: datetime
) -> bytes:
    """Return the config of an image made by putting layers on ``base``."""
    layers = list(added)
    moment = timestamp(created)
    section = dict(_section(base, "config"))
    section.pop("Cmd", None)
    section.pop("Healthcheck", None)
    kept = {k: v for k, v in environment(base).items() if k not in _DROPPED_ENVIRONMENT}
    section |= {
        "Entrypoint": list(run.entrypoint),
        "Env": [f"{name}={value}" for name, value in {**kept, **run.environment}.items()],
        "User": run.user,
        "WorkingDir": run.working_directory,
        "ExposedPorts": {f"{run.port}/tcp": {}},
        "StopSignal": "SIGTERM",
        "Labels": {**labels(base), **run.labels},
    }
    return canonical_json(
        {
            "created": moment,
            "architecture": base["architecture"],
            "os": base["os"],
            **{key: base[key] for key in ("variant",) if key in base},
            "config": section,
            "rootfs": {
                "type": "layers",
                "diff_ids": [*diff_ids(base), *(layer.diff_id for layer in layers)],
            },
            "history": [
                *_history(base),
                *(_made(layer.title, moment) for layer in layers),
            ],
        }
    )


def base_config(
    *,
    architecture: str,
    layers: Iterable[AddedLayer],
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    created: datetime,
) -> bytes:
    """Return the config of a base image made here: it sets an environment and starts nothing."""
    made, moment = list(layers), timestamp(created)
    return canonical_json(
        {
            "created": moment,
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Env": [f"{name}={value}" for name, value in environment.items()],
                "Labels": dict(labels),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in made]},
            "history": [_made(layer.title, moment) for layer in made],
        }
    )


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC, whole seconds: the same moment has one spelling."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name) or {}
    if not isinstance(section, dict):
        raise InvalidImage(f"The image config's section {name!r} is no object.")
    return section


def _texts(found: object, what: str) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InvalidImage(f"The image config has no list of texts as its {what}.")
    return found


def _history(base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keep the base's history if it has one entry a layer; tools stumble over any other."""
    history = base.get("history") or []
    layers = diff_ids(base)
    if len([entry for entry in history if not entry.get("empty_layer")]) == len(layers):
        return list(history)
    return [{"created_by": "base image"} for _ in layers]


def _made(title: str, moment: str) -> dict[str, str]:
    return {"created": moment, "created_by": f"merlin image build: {title}"}
