"""Where an image is, as people write it: a registry reference, or a folder as ``layout:DIR[:TAG]``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference, parse_reference

LAYOUT = "layout:"

OpenRegistry = Callable[[Reference], ImageRegistry]

_LAYOUT_TAG = re.compile(r"(?P<folder>.+?):(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]*)")


def locate(
    text: str, open_registry: OpenRegistry, *, default_tag: str = "latest"
) -> tuple[ImageRegistry, Reference]:
    """Return the registry and the reference within it. Raises `InvalidReference`."""
    if not text.startswith(LAYOUT):
        reference = parse_reference(text, default_tag=default_tag)
        return open_registry(reference), reference
    rest = text.removeprefix(LAYOUT)
    name, _, digest = rest.partition("@")
    match = _LAYOUT_TAG.fullmatch(name)
    folder, tag = (match["folder"], match["tag"]) if match else (name, "")
    reference = Reference("localhost", "layout")
    if digest:
        reference = reference.at_digest(digest)
    elif tag or default_tag:
        reference = reference.at_tag(tag or default_tag)
    return LayoutRegistry(Path(folder)), reference
