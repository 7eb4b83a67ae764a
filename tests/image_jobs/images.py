"""What builds start from and end with, in memory: a logged model, and images in a registry."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore
from merlin_images.builders.port import BuildRequest
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import OCI_CONFIG, OCI_MANIFEST
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import describe, manifest_of
from tests.image_jobs.platforms import request


def push(registry: MemoryRegistry, reference: Reference, name: str) -> str:
    document = {"architecture": "amd64", "os": "linux", "author": name}
    config = json.dumps({**document, "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    described = describe(config, OCI_CONFIG)
    registry.write_blob(reference, described, lambda: [config])
    return registry.write_manifest(reference, OCI_MANIFEST, manifest_of([], described)).digest


def asked(store: ArtifactStore | None = None, **changes: Any) -> BuildRequest:
    made = request(**changes)
    target = store or MemoryStore("s3://models")
    target.write(f"{made.model.folder}/MLmodel", [b"flavors: {}"])
    return replace(made, model=replace(made.model, store=target))
