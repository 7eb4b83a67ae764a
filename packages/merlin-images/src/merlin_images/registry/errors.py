"""Errors of registries: what happened, never a guess that something is absent."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class RegistryError(MerlinError):
    """Base of all registry errors. ``data`` may hold ``host``, ``repository`` and ``status``."""

    code = "registry_error"
    kind = Kind.UPSTREAM


class InvalidReference(RegistryError):
    """The text is not an image reference."""

    code = "image_reference_invalid"
    kind = Kind.INVALID
    hint = "Write it as host[:port]/name[:tag][@sha256:...], with a lower-case name."


class InvalidDigest(InvalidReference):
    """The text is not a digest that registries here can compute."""

    code = "image_digest_invalid"
    hint = "A digest is sha256: and 64, or sha512: and 128, lower-case hexadecimal digits."


class ImageNotFound(RegistryError):
    """The registry says that there is no such manifest or blob."""

    code = "image_not_found"
    kind = Kind.NOT_FOUND


class ArchiveInvalid(RegistryError):
    """A file is no image archive, or holds not exactly one image."""

    code = "image_archive_invalid"
    kind = Kind.INVALID
    hint = "Give an OCI layout folder, an OCI archive or a Docker archive, uncompressed."


class BlobsMissing(RegistryError):
    """A manifest named blobs that the repository lacks; ``data["digests"]`` lists them all."""

    code = "image_blobs_missing"
    kind = Kind.FAILED

    def __init__(self, message: str, *, digests: list[str]) -> None:
        super().__init__(message, digests=digests)
        self.digests = digests


class DigestMismatch(RegistryError):
    """Bytes do not have the digest or size that names them."""

    code = "digest_mismatch"
    kind = Kind.FAILED
    hint = (
        "The content was changed or cut on its way. Try again; if it repeats, check the registry."
    )


class RegistryDenied(RegistryError):
    """The registry refused our credentials, or they lack a right."""

    code = "registry_denied"
    hint = (
        "Sign in to the registry (docker login writes a file Merlin reads) or ask for push rights."
    )


class RegistryUnavailable(RegistryError):
    """The registry could not be reached or failed: nothing is known about the image."""

    code = "registry_unavailable"
    kind = Kind.UNAVAILABLE
    hint = "Check that the registry is up and its address is right, then try again."


class ManifestInvalid(RegistryError):
    """The bytes are not a manifest or index that a registry may accept."""

    code = "image_manifest_invalid"
    kind = Kind.INVALID


class RegistryUnsupported(RegistryError):
    """This registry cannot do what was asked, or is configured not to."""

    code = "registry_unsupported"
    kind = Kind.UPSTREAM


class RegistryFull(RegistryError):
    """No space left in the registry's storage."""

    code = "registry_full"
    kind = Kind.EXHAUSTED
    hint = "Free disk space, then try again. Nothing of the upload was kept."


class LayerTooLarge(RegistryError):
    """A layer would have more bytes than its registry takes; ``data`` has ``file``, ``limit``."""

    code = "layer_too_large"
    kind = Kind.INVALID
    hint = (
        "A file is never split over layers: save the model in several files (such as "
        "save_pretrained with max_shard_size), or push to a registry that takes larger layers."
    )


class UploadUnknown(RegistryError):
    """There is no such upload session: it was finished, cancelled or never opened."""

    code = "registry_upload_unknown"
    kind = Kind.NOT_FOUND


class UploadOutOfOrder(RegistryError):
    """A chunk does not start where the upload ends; ``received`` bytes are there."""

    code = "registry_upload_out_of_order"
    kind = Kind.CONFLICT

    def __init__(self, message: str, *, received: int) -> None:
        super().__init__(message, received=received)
        self.received = received
