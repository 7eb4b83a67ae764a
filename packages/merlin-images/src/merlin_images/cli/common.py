"""What all commands of ``merlin image`` share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from merlin.output.streams import open_progress
from merlin.progress import Progress
from merlin_images.image.index import read_images
from merlin_images.image.locations import LAYOUT, locate
from merlin_images.image.stored import StoredImage
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.open import open_registry
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference

app = App(
    name="image", help="Build, inspect and validate images of models.", help_format="plaintext"
)

_COMMON = Group("Common options", sort_key=10)


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every command."""

    insecure: Annotated[bool, Parameter(negative=())] = False
    "Speak plain HTTP to the registry; this machine's own registries are spoken to so anyway."

    ca_file: Path | None = None
    "PEM file of a private certificate authority that the registry is trusted by."

    output: Literal["text", "json"] = "text"
    "json: one JSON document on stdout; progress and errors are JSON lines on stderr."

    verbose: Annotated[bool, Parameter(negative=())] = False
    "Show the Python traceback of an error."

    def progress(self) -> AbstractContextManager[Progress]:
        """Report on stderr."""
        return open_progress(sys.stderr, as_json=self.output == "json")

    def tell(self, text: str, document: Any) -> None:
        """Write the result to stdout, in the form that was asked for."""
        if self.output == "json":
            text = json.dumps(document, indent=2, ensure_ascii=False)
        sys.stdout.write(f"{text}\n")

    def open(self, reference: Reference) -> ImageRegistry:
        """Open the registry of a reference, with the credentials this user is signed in with."""
        return open_registry(reference, insecure=self.insecure, ca_file=self.ca_file)


DEFAULTS = Common()


def read_one(
    image: str, common: Common, *, platform: str = ""
) -> tuple[ImageRegistry, StoredImage]:
    """Read an image; of an index that for ``platform``, else linux/amd64's or the first."""
    registry, reference = locate(image, common.open)
    with naming(image):
        images = read_images(registry, reference, platform=platform).images
    return registry, images.get("linux/amd64") or next(iter(images.values()))


@contextmanager
def naming(image: str) -> Iterator[None]:
    """Say that an image is absent in the words it was asked for."""
    try:
        yield
    except ImageNotFound as error:
        raise ImageNotFound(
            f"There is no image {image}.", hint="Check its name and tag."
        ) from error


def shown(asked: str, reference: Reference) -> str:
    """A folder's reference means nothing to people; they get back what they wrote."""
    if not asked.startswith(LAYOUT):
        return str(reference)
    return f"{asked.partition('@')[0]}@{reference.digest}" if reference.digest else asked


def default_cache() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "merlin"
