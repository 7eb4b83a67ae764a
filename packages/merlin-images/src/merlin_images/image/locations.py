"""Where people say an image is: a reference, or a folder of images as ``layout:DIR[:TAG]``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from merlin_images.registry.errors import InvalidReference
from merlin_images.registry.layout import REF_NAME, LayoutRegistry
from merlin_images.registry.port import Descriptor, ImageRegistry
from merlin_images.registry.reference import Reference, parse_reference

LAYOUT = "layout:"

OpenRegistry = Callable[[Reference], ImageRegistry]

# Images in a folder have full names like any other; these are ours, wherever the folder lies.
_IN_FOLDER = Reference("layout.localhost", "image")
_FOLDER = re.compile(r"(?P<folder>[^@]+?)(?::(?P<tag>[^/:@]+))?(?:@(?P<digest>.+))?")


def locate(text: str, open_registry: OpenRegistry) -> tuple[ImageRegistry, Reference]:
    """Return the registry and the reference of an image to read. Raises `InvalidReference`.

    In a folder an image is found by its tag whoever wrote it; a folder that holds only one needs
    no tag.
    """
    if not text.startswith(LAYOUT):
        reference = parse_reference(text)
        return open_registry(reference), reference
    folder, tag, digest = _parts(text)
    layout = LayoutRegistry(folder)
    entries = layout.entries()
    if not tag and not digest and len({entry.digest for entry in entries}) == 1:
        digest = entries[0].digest
    for entry in entries:
        name = entry.annotations.get(REF_NAME, "")
        if (entry.digest == digest or (tag and name.endswith(f":{tag}"))) and "/" in name:
            return layout, _named(entry)
    if digest:
        return layout, _IN_FOLDER.at_digest(digest)
    return layout, _IN_FOLDER.at_tag(tag or "latest")


def locate_target(text: str, open_registry: OpenRegistry) -> tuple[ImageRegistry, Reference]:
    """Return the registry and the reference, perhaps without a tag, that an image is pushed to."""
    if not text.startswith(LAYOUT):
        reference = parse_reference(text, default_tag="")
        return open_registry(reference), reference
    folder, tag, _ = _parts(text)
    return LayoutRegistry(folder), _IN_FOLDER.at_tag(tag) if tag else _IN_FOLDER


def _parts(text: str) -> tuple[Path, str, str]:
    match = _FOLDER.fullmatch(text.removeprefix(LAYOUT))
    if match is None:
        raise InvalidReference(
            f"{text!r} names no folder.",
            hint="Write it as layout:DIR, layout:DIR:TAG or layout:DIR@sha256:...",
        )
    return Path(match["folder"]), match["tag"] or "", match["digest"] or ""


def _named(entry: Descriptor) -> Reference:
    name = entry.annotations[REF_NAME].partition("@")[0]
    return parse_reference(name, default_tag="").at_digest(entry.digest)
