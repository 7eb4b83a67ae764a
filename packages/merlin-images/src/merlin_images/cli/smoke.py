"""``merlin image smoke``, and the same test at the end of a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx2
from cyclopts import Group, Parameter

from merlin.errors import Kind, MerlinError
from merlin.output.human import human_duration, table
from merlin.progress import Progress, step
from merlin_images.attestations.attach import attach
from merlin_images.attestations.smoke_results import smoke_test_result
from merlin_images.cli.common import DEFAULTS, Common, app, naming, shown
from merlin_images.image.index import read_images
from merlin_images.image.locations import locate
from merlin_images.registry.http_transport import is_loopback
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference
from merlin_images.smoke.containers import ContainerProgram, find_program
from merlin_images.smoke.report import SmokeReport
from merlin_images.smoke.run import for_this_machine, smoke_test

_SMOKE = Group("Smoke test", sort_key=5)


class ExampleUnreadable(MerlinError):
    """The file that holds the request of a smoke test cannot be read."""

    code = "example_unreadable"
    kind = Kind.USAGE


@Parameter(name="*", group=_SMOKE)
@dataclass(frozen=True, kw_only=True)
class SmokeOptions:
    """How to test an image."""

    example: Path | None = None
    "JSON file with a request to send instead of the input example logged with the model."

    smoke_seconds: float = 300
    "How long the test may take from the start of the container."

    container_program: str = ""
    "podman or docker, with options if need be; by default the first of them that works."

    attest: Annotated[bool, Parameter(negative=())] = False
    "Attach the result to the image as an in-toto test result."


SMOKE_DEFAULTS = SmokeOptions()


@app.command
def smoke(
    image: str, /, *, options: SmokeOptions = SMOKE_DEFAULTS, common: Common = DEFAULTS
) -> None:
    """Run an image as its user would: import its packages, load its model, predict an example.

    It runs without network or capabilities, with nothing writable but temporary folders, and is
    removed afterwards. A model logged without an input example is not asked, and that is said.

    Examples:

      merlin image smoke registry.example.com/ml/fraud:7
      merlin image smoke layout:./images:1 --example request.json
      merlin image smoke registry.example.com/ml/fraud:7 --attest --output json

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG]; of an index, the image for this machine.
    """
    test = SmokeTest(options, common)
    registry, reference = locate(image, common.open)
    with common.progress() as progress:
        report = test.run(registry, reference, name=shown(image, reference), progress=progress)
    common.tell(f"{told(report)}\n{report.digest}", report.to_dict())
    if report.failure:
        raise report.failure


class SmokeTest:
    """A test that can be run here; making one raises what stands in its way."""

    def __init__(self, options: SmokeOptions, common: Common) -> None:
        self._options = options
        self._common = common
        self._request = _read(options.example)
        self._program: ContainerProgram = find_program(options.container_program)

    def run(
        self, registry: ImageRegistry, reference: Reference, *, name: str, progress: Progress
    ) -> SmokeReport:
        """Test the image of a reference, and attach the result if asked to."""
        with naming(name):
            image = for_this_machine(read_images(registry, reference), name)
        report = smoke_test(
            registry,
            image,
            self._program,
            name=name,
            request=self._request,
            seconds=self._options.smoke_seconds,
            plain_http=self._common.insecure or is_loopback(_machine(reference)),
            progress=progress,
        )
        if self._options.attest:
            document = smoke_test_result(image, report, request=self._request)
            with step(progress, f"Attach {document.kind}"):
                attach(registry, image.reference, image.descriptor, document)
        return report


def told(report: SmokeReport) -> str:
    """Return the stages as a table."""
    rows = [
        (
            stage.name,
            stage.state,
            "" if stage.state == "failed" else human_duration(stage.seconds),
            stage.detail,
        )
        for stage in report.stages
    ]
    return table(("STAGE", "OUTCOME", "TIME", "WHAT"), rows)


def _machine(reference: Reference) -> str:
    return httpx2.URL(f"http://{reference.host}/").host


def _read(example: Path | None) -> bytes | None:
    if example is None:
        return None
    try:
        return example.read_bytes()
    except OSError as error:
        raise ExampleUnreadable(
            f"{example} cannot be read: {error.strerror}.", hint="Give a JSON file."
        ) from error
