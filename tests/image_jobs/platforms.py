"""What platforms are made of, in every combination: builder, registry, blob store, identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

from merlin.artifacts.memory import MemoryStore
from merlin_images.builders.jobs.names import build_key, job_name
from merlin_images.builders.jobs.options import (
    JobKind,
    JobOptions,
    RegistryAccess,
    Resources,
    SecretFile,
    StoreAccess,
)
from merlin_images.builders.jobs.plan import BuildPlan
from merlin_images.builders.port import BuildRequest, ModelSource, RunOptions
from merlin_images.registry.reference import Reference, parse_reference

TOOLS = "registry.example.com/merlin/tools:1"
BUILDERS: dict[JobKind, str] = {
    "native": "",
    "kaniko": "registry.example.com/kaniko:pinned",
    "buildkit": "registry.example.com/buildkit:pinned-rootless",
}
# The secret of each kind, and the variable by which a step finds what is mounted of it.
DOCKER, GOOGLE, AMAZON, AZURE = (
    SecretFile("registry-login"),
    SecretFile("kaniko-secret"),
    SecretFile("aws-credentials"),
    SecretFile("azure-account"),
)
REGISTRIES: dict[str, tuple[Any, str, SecretFile]] = {
    "docker": ("docker", "registry.example.com/ml", DOCKER),
    "gcr": ("gcr", "europe-docker.pkg.dev/team/ml", GOOGLE),
    "ecr": ("ecr", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ml", AMAZON),
    "acr": ("docker", "team.azurecr.io/ml", DOCKER),
}
STORES: dict[str, tuple[Any, str, SecretFile | None]] = {
    "s3": ("s3", "s3://models", AMAZON),
    "gcs": ("gcs", "gs://models", GOOGLE),
    "azure": ("azure", "az://models", AZURE),
    "none": ("none", "file:///models", None),
}


@dataclass(frozen=True)
class Platform:
    """One combination; with ``identity`` the Pod's service account has the rights."""

    kind: JobKind
    registry: str
    store: str
    identity: bool

    @property
    def name(self) -> str:
        identity = "identity" if self.identity else "secrets"
        return f"{self.kind}-{self.registry}-{self.store}-{identity}"

    def options(self, **changes: Any) -> JobOptions:
        push, _, login = REGISTRIES[self.registry]
        store, _, account = STORES[self.store]
        given: dict[str, Any] = {
            "tools_image": TOOLS,
            "kind": self.kind,
            "builder_image": BUILDERS[self.kind],
            "registry": RegistryAccess(push, None if self.identity else login),
            "store": StoreAccess(store, None if self.identity else account),
            "service_account": "image-builder" if self.identity else "",
            "resources": Resources({"cpu": "500m", "memory": "1Gi"}, {"cpu": "2", "memory": "4Gi"}),
        }
        return JobOptions(**{**given, **changes})

    def plan(self, **changes: Any) -> BuildPlan:
        return plan(
            f"{REGISTRIES[self.registry][1]}/fraud",
            STORES[self.store][1],
            based=self.kind != "native",
            **changes,
        )


def all_platforms() -> Iterator[Platform]:
    kinds: list[JobKind] = ["native", "kaniko", "buildkit"]
    for kind, registry, store, identity in product(kinds, REGISTRIES, STORES, (False, True)):
        yield Platform(kind, registry, store, identity)


def request(
    target: str = "registry.example.com/ml/fraud", store: str = "s3://models", **changes: Any
) -> BuildRequest:
    given: dict[str, Any] = {
        "model": ModelSource(MemoryStore(store), "7/a1b2/artifacts/model"),
        "target": parse_reference(f"{target}:7"),
        "model_type": "pyfunc",
        "model_name": "fraud",
        "version": "7",
        "python": "3.11",
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "run": RunOptions(project="risk", team="cards", stream="payments"),
    }
    return BuildRequest(**{**given, **changes})


def plan(
    target: str = "registry.example.com/ml/fraud",
    store: str = "s3://models",
    *,
    based: bool = True,
    tag: str = "7-0123456789ab",
    **changes: Any,
) -> BuildPlan:
    asked = request(target, store, **changes)
    key = build_key(asked, tag)
    base = Reference("registry.example.com", "merlin/base", digest=f"sha256:{'b' * 64}")
    image = asked.target.at_tag(tag)
    return BuildPlan(asked, image, key, job_name(asked, key), base if based else None)
