"""What only the built-in registry says no to."""

from __future__ import annotations

from merlin.errors import Kind
from merlin_images.registry.errors import RegistryError


class ManifestInvalid(RegistryError):
    """A manifest is not what its media type says, or not JSON."""

    code = "manifest_invalid"
    kind = Kind.INVALID


class ManifestTooLarge(RegistryError):
    """A manifest has more bytes than the registry takes."""

    code = "manifest_too_large"
    kind = Kind.TOO_LARGE


class RangeInvalid(RegistryError):
    """A chunk does not begin where the upload ends."""

    code = "upload_range_invalid"
    kind = Kind.INVALID
    hint = "Ask the upload where it stands with GET, and go on from there."


class UploadUnknown(RegistryError):
    """There is no such upload: it was finished, cancelled, or never begun."""

    code = "upload_unknown"
    kind = Kind.NOT_FOUND


class RegistryFull(RegistryError):
    """The disk of the built-in registry is full or failing."""

    code = "registry_full"
    kind = Kind.EXHAUSTED
    hint = "Free disk space and push again; nothing of this push is visible."
