"""Running a smoke test: the image's own Python and entry point, in a container."""

from __future__ import annotations

import json
import platform
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merlin.progress import Progress, step
from merlin_images.image.export import export_image
from merlin_images.image.index import StoredImages
from merlin_images.image.stored import StoredImage
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import ImageRegistry
from merlin_images.smoke.containers import ContainerProgram
from merlin_images.smoke.errors import NotSmokeTestable
from merlin_images.smoke.report import SmokeReport, StageLines

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def for_this_machine(named: StoredImages, name: str) -> StoredImage:
    """Return the image that this machine's processor runs. Raises `NotSmokeTestable`."""
    processor = platform.machine().lower()
    wanted = f"linux/{_ARCHITECTURES.get(processor, processor)}"
    if wanted not in named.images:
        raise NotSmokeTestable(
            f"{name} is for {' and '.join(named.images)}; this machine runs {wanted}.",
            hint="Test it on a machine that it is for.",
        )
    return named.images[wanted]


def smoke_test(
    registry: ImageRegistry,
    image: StoredImage,
    program: ContainerProgram,
    *,
    name: str,
    request: bytes | None,
    seconds: float,
    plain_http: bool,
    progress: Progress,
) -> SmokeReport:
    """Test one image, for this machine's processor, and report; ``name`` is what people call it.

    ``request`` is sent to the model instead of the example logged with it. A test that takes longer
    than ``seconds``, from the container's start, fails. Raises `NotSmokeTestable` and
    `ContainerProgramFailed`; a failing stage is in the report.
    """
    _check_entry_point(image, name)
    lines = StageLines(progress)
    with step(progress, "Smoke test") as running:
        with _present(registry, image, program, plain_http=plain_http, progress=progress) as here:
            ended = program.run(
                here,
                ["--smoke-test", *([] if request is None else ["-"])],
                environment={"LOG_FORMAT": "plain"},
                stdin=request,
                seconds=seconds,
                line=lines.read,
            )
        failure = lines.end(name, ended, seconds=seconds)
        if failure:
            running.detail = f"failed at the stage {failure.data['stage']}"
    config = image.config
    return SmokeReport(
        image=name,
        digest=image.descriptor.digest,
        platform=f"{config.get('os')}/{config.get('architecture')}",
        stages=tuple(lines.stages),
        failure=failure,
    )


@contextmanager
def _present(
    registry: ImageRegistry,
    image: StoredImage,
    program: ContainerProgram,
    *,
    plain_http: bool,
    progress: Progress,
) -> Iterator[str]:
    """Have the image where the program runs containers from."""
    if not isinstance(registry, LayoutRegistry):
        place = image.reference
        at = f"{place.host}/{place.repository}@{image.descriptor.digest}"
        with program.pulled(at, plain_http=plain_http, progress=progress) as here:
            yield here
        return
    with tempfile.TemporaryDirectory(prefix="merlin-smoke-") as folder:
        archive = Path(folder, "image.tar")
        name = f"localhost/merlin-smoke:{secrets.token_hex(8)}"
        export_image(registry, image, archive, name=name, form="docker-archive", progress=progress)
        with program.loaded(archive, name, progress=progress) as here:
            yield here


def _check_entry_point(image: StoredImage, name: str) -> None:
    section = image.config.get("config")
    entry = section.get("Entrypoint") if isinstance(section, dict) else None
    if not isinstance(entry, list) or "merlin_runtime" not in entry:
        raise NotSmokeTestable(
            f"{name} does not start Merlin's runtime; its entry point is {json.dumps(entry)}.",
            hint="Smoke tests are for images that serve a model by Merlin's runtime.",
        )
