"""Where people say an image is: a reference, or a folder of images as ``layout:DIR[:TAG]``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from merlin_images.registry.errors import InvalidReference
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference, parse_reference

LAYOUT = "layout:"

OpenRegistry = Callable[[Reference], ImageRegistry]

_FOLDER = re.compile(r"(?P<folder>[^@]+?)(?::(?P<tag>[^/:@]+))?(?:@(?P<digest>.+))?")


def locate(
    text: str, open_registry: OpenRegistry, *, default_tag: str = "latest"
) -> tuple[ImageRegistry, Reference]:
    """Return the registry and the reference within it. Raises `InvalidReference`.

    A folder's reference has a host of its own, so that two folders are never taken for one place.
    """
    if not text.startswith(LAYOUT):
        reference = parse_reference(text, default_tag=default_tag)
        return open_registry(reference), reference
    match = _FOLDER.fullmatch(text.removeprefix(LAYOUT))
    if match is None:
        raise InvalidReference(
            f"{text!r} names no folder.",
            hint="Write it as layout:DIR, layout:DIR:TAG or layout:DIR@sha256:...",
        )
    folder = Path(match["folder"]).absolute()
    host = f"layout-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    reference = Reference(host, "image")
    if digest := match["digest"] or (default_tag and not match["tag"] and _only_image(folder)):
        reference = reference.at_digest(digest)
    elif tag := match["tag"] or default_tag:
        reference = reference.at_tag(tag)
    return LayoutRegistry(folder), reference


def _only_image(folder: Path) -> str:
    """The digest of a folder's only image: many tools write one without a name."""
    try:
        [entry] = json.loads((folder / "index.json").read_bytes())["manifests"]
        return str(entry["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
