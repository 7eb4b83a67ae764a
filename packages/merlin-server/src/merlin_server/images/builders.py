"""Which builder makes an image: the platform's, or the one that is set for the model."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

from merlin.artifacts.store import ArtifactStore
from merlin.errors import Kind, MerlinError
from merlin.progress import Progress
from merlin_images.builders.platforms import open_builder as open_native_builder
from merlin_images.builders.port import (
    BuildLine,
    BuildRequest,
    BuiltImage,
    CancelsBuilds,
    ImageBuilder,
    StreamsLogs,
)
from merlin_images.environments.credentials import IndexCredentials
from merlin_images.image.locations import OpenRegistry
from merlin_images.registry.reference import Reference
from merlin_server.database import now
from merlin_server.images.janitor import JobJanitor
from merlin_server.images.metering import BuildMetrics, MeteredBuilder
from merlin_server.settings import BuilderName, BuildJobSettings, Settings

_KINDS = {"native-job": "native", "kaniko": "kaniko", "buildkit": "buildkit"}
_REGISTRY_TYPES = {"gcr": "gcr", "ecr": "ecr"}
_STORE_TYPES = {
    "s3": "s3",
    "gs": "gcs",
    **dict.fromkeys(("az", "abfs", "abfss", "wasbs"), "azure"),
}
_JOBS = "merlin_images.builders.jobs"


class JobsNotInstalled(MerlinError):
    """The library that talks to Kubernetes is an extra."""

    code = "build_jobs_not_installed"
    kind = Kind.USAGE
    hint = "Run: pip install 'merlin-images[kubernetes]'."


class ChosenBuilder:
    """An `ImageBuilder` that hands each request to the builder of its model, else to that of the
    environment it is built for, else to the default."""

    def __init__(
        self,
        builders: Mapping[BuilderName, ImageBuilder],
        default: BuilderName,
        by_model: Mapping[str, BuilderName],
        by_environment: Mapping[str, BuilderName] = MappingProxyType({}),
    ) -> None:
        self._builders = builders
        self._default = default
        self._by_model = by_model
        self._by_environment = by_environment

    def find(self, request: BuildRequest) -> Reference | None:
        return self._of(request).find(request)

    def build(self, request: BuildRequest, progress: Progress) -> BuiltImage:
        return self._of(request).build(request, progress)

    def log(
        self, request: BuildRequest, told: dict[tuple[str, str], int], *, follow: bool
    ) -> Iterator[BuildLine]:
        builder = self._of(request)
        if isinstance(builder, StreamsLogs):
            yield from builder.log(request, told, follow=follow)

    def cancel(self, request: BuildRequest) -> bool:
        builder = self._of(request)
        return isinstance(builder, CancelsBuilds) and builder.cancel(request)

    def _of(self, request: BuildRequest) -> ImageBuilder:
        named = self._by_environment.get(request.run.environment, self._default)
        model = f"{request.run.project}/{request.model_name}"
        return self._builders[self._by_model.get(model, named)]


def open_builder(
    settings: Settings,
    open_registry: OpenRegistry,
    *,
    cache: Path,
    locks: ArtifactStore,
    metrics: BuildMetrics,
    closing: ExitStack,
) -> ImageBuilder:
    """Open every builder that the settings name; ``closing`` ends connections and the janitor.

    Raises `JobsNotInstalled` and `JobOptionsInvalid`: what cannot work is said at the start.
    """
    images = settings.images
    by_environment = environment_builders(settings)
    names = {images.builder, *images.model_builders.values(), *by_environment.values()}
    builders: dict[BuilderName, ImageBuilder] = {}
    if "native" in names:
        builders["native"] = open_native_builder(
            open_registry,
            cache,
            default_base=images.base,
            platform=images.platform,
            index_url=images.index_url,
            codec=images.codec,
            byte_compile=images.byte_compile,
            lease_seconds=images.lease_seconds,
            lock_store=locks,
            index_credentials=IndexCredentials(images.netrc_file),
        )
    jobs = job_builders(settings)
    cluster = _connect(images.jobs, closing) if jobs else None
    for name in jobs:
        builders[name] = _load("builder").JobBuilder(
            _load("driver").JobDriver(cluster),
            job_options(settings, name),
            open_registry,
            default_base="" if images.base == "auto" else images.base,
            base_images=images.jobs.base_images,
        )
    if jobs:
        _start_janitor(cluster, job_options(settings, jobs[0]), metrics, closing)
    chosen = ChosenBuilder(builders, images.builder, images.model_builders, by_environment)
    return MeteredBuilder(chosen, metrics)


def environment_builders(settings: Settings) -> dict[str, BuilderName]:
    """Return the builder of each environment that names one. What is built for no environment is
    built for the default one, whose name is then empty."""
    named: dict[str, BuilderName] = {}
    for environment in settings.environments:
        if environment.image_builder:
            named[environment.name] = environment.image_builder
            if environment.is_default:
                named[""] = environment.image_builder
    return named


def job_builders(settings: Settings) -> list[BuilderName]:
    """Return the builders that the settings name and that run as Jobs."""
    images = settings.images
    others = {*images.model_builders.values(), *environment_builders(settings).values()}
    return sorted({images.builder, *others} - {"native"})


def job_options(settings: Settings, name: BuilderName) -> Any:
    """Return the `JobOptions` of a builder."""
    options = _load("options")
    jobs = settings.images.jobs
    scheme = settings.artifacts_url.partition(":")[0]
    store_type = jobs.store_type or _STORE_TYPES.get(scheme, "none")
    return options.JobOptions(
        tools_image=jobs.tools_image,
        kind=_KINDS[name],
        builder_image=jobs.builder_image,
        namespace=jobs.namespace,
        registry=options.RegistryAccess(
            jobs.registry_type or _REGISTRY_TYPES.get(settings.registry.type, "docker"),
            _secret(jobs.registry_secret, jobs.registry_secret_key),
            settings.registry.insecure,
            jobs.registry_ca_config_map,
        ),
        store=options.StoreAccess(
            store_type,
            _secret(jobs.store_secret, jobs.store_secret_key),
        ),
        service_account=jobs.service_account,
        token_audience=jobs.token_audience,
        environment=jobs.environment,
        label_prefix=jobs.label_prefix,
        platform_environment=jobs.platform_environment,
        resources=options.Resources(jobs.requests, jobs.limits),
        largest=jobs.largest,
        tolerations=jobs.tolerations,
        node_selector=jobs.node_selector,
        deadline_seconds=max(1, int(settings.images.build_timeout_seconds)),
        retries=jobs.retries,
        kept_seconds=jobs.retention_seconds,
        safe_to_evict=jobs.safe_to_evict,
        kaniko_arguments=jobs.kaniko_arguments,
        build_args=jobs.build_args,
        dockerfile_config_map=jobs.dockerfile_config_map,
        buildkit_mode=jobs.buildkit_mode,
        index_url=settings.images.index_url,
        locks_url=settings.artifacts_url if jobs.share_locks and store_type != "none" else "",
        netrc=_secret(jobs.netrc_secret, ""),
        platform=settings.images.platform,
        codec=settings.images.codec,
        byte_compile=settings.images.byte_compile,
        pod_template=jobs.pod_template,
    )


def _connect(jobs: BuildJobSettings, closing: ExitStack) -> Any:
    cluster = _load("cluster").Cluster.open(jobs.kubeconfig, jobs.namespace, jobs.cluster)
    closing.callback(cluster.close)
    return cluster


def _start_janitor(cluster: Any, options: Any, metrics: BuildMetrics, closing: ExitStack) -> None:
    remove = _load("janitor").remove_old_jobs
    janitor = JobJanitor(
        lambda: remove(cluster, options, now=now(), monotonic=time.monotonic), metrics
    )
    janitor.start()
    closing.callback(janitor.stop)


def _secret(name: str, key: str) -> Any:
    return _load("options").SecretFile(name, key) if name else None


def _load(module: str) -> Any:
    # Loaded late: a server that builds by itself needs no Kubernetes library.
    try:
        return importlib.import_module(f"{_JOBS}.{module}")
    except ImportError as error:
        raise JobsNotInstalled(f"Building as Kubernetes Jobs needs a package: {error}.") from error
