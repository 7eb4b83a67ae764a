"""An image builder whose work is done by Jobs; see `merlin_images.builders.port.ImageBuilder`.

Nothing is built here. The registry is asked before and after: the tag says whether there is
anything to do, and what a Job says it pushed is looked for by its digest. What the image is made of
is read from the image itself, so layers of a report are ``present``, whoever pushed them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from merlin.errors import Kind
from merlin.progress import Progress, step
from merlin_images.builders.jobs.driver import Ended, JobDriver
from merlin_images.builders.jobs.errors import BuildImageMissing, BuildJobError
from merlin_images.builders.jobs.manifest import check_options, job_manifest
from merlin_images.builders.jobs.names import build_key, job_name
from merlin_images.builders.jobs.options import JobOptions
from merlin_images.builders.jobs.plan import BuildPlan
from merlin_images.builders.jobs.progress import JobProgress
from merlin_images.builders.port import BuildLine, BuildRequest, BuiltImage
from merlin_images.builders.single_flight import SingleFlight
from merlin_images.builders.stored_builds import content_tag, put_tag, read_report
from merlin_images.image.config import timestamp
from merlin_images.image.errors import BaseNotFound
from merlin_images.image.locations import OpenRegistry
from merlin_images.image.stored import read_image
from merlin_images.layers.model import list_model
from merlin_images.registry.errors import ImageNotFound, RegistryDenied
from merlin_images.registry.reference import Reference, parse_reference

_FORMAT = "job/1"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# A registry of several nodes may need a moment until all of them know a manifest.
_CONFIRMING_PAUSES = (0.5, 1, 2, 4, 8)


class NoBaseImage(BuildJobError):
    """No base image is configured for the model's Python version."""

    code = "build_base_not_configured"
    kind = Kind.INVALID
    hint = "Name one for each Python version in images.jobs.base_images."


class JobBuilder:
    """``base_images`` are references by Python version (``3.11``); ``default_base`` is used for
    others, with ``{python}`` replaced. With builder kind native both may be empty: the tool in the
    Job chooses then."""

    def __init__(
        self,
        driver: JobDriver,
        options: JobOptions,
        open_registry: OpenRegistry,
        *,
        default_base: str = "",
        base_images: Mapping[str, str] | None = None,
        pause: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        check_options(options)
        self._driver = driver
        self._options = options
        self._open = open_registry
        self._default_base = default_base
        self._base_images = dict(base_images or {})
        self._pause = pause
        self._monotonic = monotonic
        self._builds: SingleFlight[BuiltImage] = SingleFlight()

    def find(self, request: BuildRequest) -> Reference | None:
        """Return the image of identical inputs, with one HEAD."""
        return self._find(self._image(request))

    def build(self, request: BuildRequest, progress: Progress) -> BuiltImage:
        """Have a Job build what is missing; see `ImageBuilder.build`."""
        began = self._monotonic()
        image = self._image(request)
        key = build_key(request, image.tag)

        def work() -> BuiltImage:
            if found := self._find(image):
                return self._report(request, found, reused=True)
            return self._build(request, image, key, progress)

        return replace(self._builds.do(key, work), seconds=self._monotonic() - began)

    def cancel(self, request: BuildRequest) -> bool:
        """Delete the Job that builds a request, wherever it was started; say whether there was
        one. Whoever waits for it gets a `BuildInterrupted` or finds it started anew."""
        key = build_key(request, self._image(request).tag)
        return self._driver.cancel(job_name(request, key), key)

    def log(
        self, request: BuildRequest, told: dict[tuple[str, str], int], *, follow: bool
    ) -> Iterator[BuildLine]:
        """Yield what the Job of a request writes; see `StreamsLogs.log`."""
        name = job_name(request, build_key(request, self._image(request).tag))
        return self._driver.log(name, told, follow=follow)

    def _build(
        self, request: BuildRequest, image: Reference, key: str, progress: Progress
    ) -> BuiltImage:
        based = replace(request, base=self._base_name(request))
        plan = BuildPlan(based, image, key, job_name(request, key), self._base(request))
        told = JobProgress(progress, plan.name)
        told.begin()
        try:
            found = self._run(plan, told)
        except BaseException as error:
            told.end(failed=True, detail=type(error).__name__)
            raise
        told.end(failed=False)
        with step(progress, "Read what the image holds"):
            return self._report(request, found, reused=False)

    def _run(self, plan: BuildPlan, told: JobProgress) -> Reference:
        manifest = job_manifest(plan, self._options)
        ended = self._driver.run(manifest, told.tell)
        found = self._confirmed(ended, plan.image)
        if found is None and ended.found:
            # The Job is from before, and its image has been removed since.
            uid = ended.job["metadata"]["uid"]
            ended = self._driver.run(manifest, told.tell, instead_of=uid)
            found = self._confirmed(ended, plan.image)
        if found is None:
            raise BuildImageMissing(
                f"The Job {plan.name} ended well, and {plan.image} is not in the registry.",
                job=plan.name,
            )
        return found

    def _confirmed(self, ended: Ended, image: Reference) -> Reference | None:
        """Return the image that a Job says it pushed, if the registry has it."""
        said = ended.status.digest
        asked = image.at_digest(said) if _DIGEST.fullmatch(said) else image
        registry = self._open(image)
        pauses = () if ended.found else _CONFIRMING_PAUSES
        for pause in (*pauses, 0):
            descriptor = registry.resolve(asked)
            if descriptor is not None:
                return replace(image, digest=descriptor.digest)
            if pause:
                self._pause(pause)
        return None

    def _find(self, image: Reference) -> Reference | None:
        descriptor = self._open(image).resolve(image)
        return replace(image, digest=descriptor.digest) if descriptor else None

    def _report(self, request: BuildRequest, found: Reference, *, reused: bool) -> BuiltImage:
        registry = self._open(found)
        notes: tuple[str, ...] = ()
        try:
            put_tag(registry, found, request.target.tag)
        except RegistryDenied:
            # Jobs may push and the server may not; deployments go by the digest.
            notes = (f"The tag {request.target.tag} names another image, and may not be moved.",)
        report = read_report(registry, found)
        return replace(report, reused=reused, notes=report.notes + notes)

    def _image(self, request: BuildRequest) -> Reference:
        options = self._options
        model = list_model(request.model.store, request.model.folder)
        inputs = {
            "format": _FORMAT,
            "kind": options.kind,
            "tools": options.tools_image,
            "builder": options.builder_image,
            "model": model.key,
            "model_type": request.model_type,
            "model_name": request.model_name,
            "version": request.version,
            "python": request.python,
            "created": timestamp(request.created),
            "base": self._base_name(request),
            "labels": dict(request.labels),
            "index": options.index_url,
            "platform": options.platform,
            "codec": options.codec,
            "byte_compile": options.byte_compile,
            "arguments": list(options.kaniko_arguments),
            "build_args": dict(options.build_args),
            "dockerfile": options.dockerfile_config_map,
        }
        return request.target.at_tag(content_tag(request.version, inputs))

    def _base_name(self, request: BuildRequest) -> str:
        named = request.base or self._base_images.get(request.python) or self._default_base
        return named.replace("{python}", request.python)

    def _base(self, request: BuildRequest) -> Reference | None:
        """Return the base with its digest: the step that builds may ask no registry for it."""
        if self._options.kind == "native":
            return None
        name = self._base_name(request)
        if not name:
            raise NoBaseImage(f"There is no base image for Python {request.python}.")
        reference = parse_reference(name)
        try:
            # Through an index: the folder it is fetched into holds one platform's image.
            stored = read_image(self._open(reference), reference)
        except ImageNotFound as error:
            raise BaseNotFound(f"There is no base image {name}.") from error
        return replace(reference, tag="", digest=stored.descriptor.digest)
