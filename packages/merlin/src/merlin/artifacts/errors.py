"""Errors of blob stores: one family, whatever the backend."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class ArtifactError(MerlinError):
    """Base of all store errors."""

    code = "artifact_error"
    kind = Kind.FAILED


class InvalidKey(ArtifactError):
    """The key is absolute, has an empty, ``.`` or ``..`` segment, or is not text."""

    code = "artifact_key_invalid"
    kind = Kind.INVALID
    hint = "Use a relative path of non-empty segments separated by '/'."


class ArtifactNotFound(ArtifactError):
    """No object under this key."""

    code = "artifact_not_found"
    kind = Kind.NOT_FOUND


class ArtifactExists(ArtifactError):
    """A conditional create found an object already there."""

    code = "artifact_exists"
    kind = Kind.CONFLICT


class StoreDenied(ArtifactError):
    """The store refused our credentials, or they lack a permission."""

    code = "artifact_store_denied"
    kind = Kind.UPSTREAM
    hint = "Check the credentials of the artifact store and their permissions."


class StoreUnavailable(ArtifactError):
    """The store could not be reached or failed; nothing is known about the object."""

    code = "artifact_store_unavailable"
    kind = Kind.UNAVAILABLE
    hint = "Check that the artifact store is up and its address is right, then try again."


class StoreFull(ArtifactError):
    """No space left where the object should go."""

    code = "artifact_store_full"
    kind = Kind.EXHAUSTED
    hint = "Free disk space or raise the quota, then try again. Nothing was stored."


class UnknownStore(ArtifactError):
    """No backend is installed for this URL's scheme."""

    code = "artifact_store_unknown"
    kind = Kind.INVALID


class StoreUnsupported(ArtifactError):
    """This kind of store cannot do what was asked, whatever its state."""

    code = "artifact_store_unsupported"
    kind = Kind.INVALID


class ArtifactChanged(ArtifactError):
    """An object is not the one that was listed: somebody wrote it in between."""

    code = "artifact_changed"
    kind = Kind.CONFLICT
    hint = "Try again when nobody writes there."


class ArtifactDamaged(ArtifactError):
    """The bytes that came do not have the checksum that the store keeps of them."""

    code = "artifact_damaged"
    kind = Kind.UNAVAILABLE
    hint = "Try again; if it stays so, the store lost the object's content."
