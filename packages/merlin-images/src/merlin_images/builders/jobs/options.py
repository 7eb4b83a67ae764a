"""How Jobs are made: everything a platform decides once, for all builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from merlin_images.builders.jobs.errors import JobOptionsInvalid

JobKind = Literal["native", "kaniko", "buildkit"]
PushType = Literal["docker", "gcr", "ecr"]
StoreType = Literal["s3", "gcs", "azure", "none"]
BuildkitMode = Literal["rootless", "privileged"]


@dataclass(frozen=True)
class SecretFile:
    """A secret of the build namespace and the key in it that holds the credentials; an empty key
    means the usual one of its kind (see `merlin_images.builders.jobs.credentials`)."""

    name: str
    key: str = ""


@dataclass(frozen=True)
class RegistryAccess:
    """How Jobs reach the registry. Without a secret they go by the Pod's own identity.

    ``ca_config_map`` names a config map whose key ``ca.crt`` is a private certificate authority.
    """

    type: PushType = "docker"
    secret: SecretFile | None = None
    insecure: bool = False
    ca_config_map: str = ""


@dataclass(frozen=True)
class StoreAccess:
    """How Jobs read the blob store. Without a secret they go by the Pod's own identity."""

    type: StoreType = "none"
    secret: SecretFile | None = None


@dataclass(frozen=True)
class Resources:
    """Requests and limits as Kubernetes writes them: ``{"cpu": "500m", "memory": "1Gi"}``."""

    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobOptions:
    """Options of every Job; the defaults are Merlin's, where it has them (merlin.md 3.5, 3.10).

    ``tools_image`` is an image with the ``merlin`` command. ``environment`` goes to the steps that
    run our own tool, never to the model's code, and holds no secrets: regions, endpoints, role
    names. ``token_audience`` mounts a service account token for that audience into those steps.
    ``pod_template`` is a strategic merge patch over the finished Pod template.
    ``dockerfile_config_map`` holds an organisation's own ``Dockerfile``, ``build_args`` go to it.
    ``index_url``, ``platform``, ``codec`` and ``byte_compile`` are those of the native builder; all
    but the first concern native Jobs only, as do ``locks_url``, a blob store that shares dependency
    locks, and ``netrc``, whose default key is ``netrc``: credentials of package indexes.
    """

    tools_image: str
    kind: JobKind = "native"
    builder_image: str = ""
    namespace: str = "mlp"
    registry: RegistryAccess = RegistryAccess()
    store: StoreAccess = StoreAccess()
    service_account: str = ""
    token_audience: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    label_prefix: str = "gojek.com/"
    platform_environment: str = "dev"
    resources: Resources = Resources()
    largest: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    deadline_seconds: int = 600
    retries: int = 3
    kept_seconds: int = 86400
    safe_to_evict: bool = False
    kaniko_arguments: Sequence[str] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    dockerfile_config_map: str = ""
    buildkit_mode: BuildkitMode = "rootless"
    index_url: str = ""
    locks_url: str = ""
    netrc: SecretFile | None = None
    platform: str = "linux/amd64"
    codec: Literal["zstd", "gzip"] = "zstd"
    byte_compile: bool = True
    pod_template: Mapping[str, Any] = field(default_factory=dict)

    def image(self) -> str:
        """Return the image of the step that builds. Raises `JobOptionsInvalid` if none is named."""
        if self.kind == "native":
            return self.tools_image
        if not self.builder_image:
            raise JobOptionsInvalid(
                f"Builder {self.kind} needs an image.",
                hint="Name a pinned release of it in images.jobs.builder_image.",
            )
        return self.builder_image
