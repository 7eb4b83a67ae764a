"""Errors of environments: what a user wrote, what came of resolving it, what was downloaded.

Those about a file carry ``file`` and ``line`` in ``data``, those about a package ``package``.
"""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class DependencyError(MerlinError):
    """Base of all environment errors."""

    code = "environment_error"
    kind = Kind.FAILED


class EnvironmentInvalid(DependencyError):
    """An environment file is malformed."""

    code = "environment_invalid"
    kind = Kind.INVALID
    hint = "Correct the line and log the model again."


class EnvironmentMissing(DependencyError):
    """A model that needs an environment file has none."""

    code = "environment_missing"
    kind = Kind.INVALID


class RequirementRefused(DependencyError):
    """A requirement that cannot be had outside the machine it was written on."""

    code = "requirement_refused"
    kind = Kind.INVALID


class CondaPackagesRefused(DependencyError):
    """conda.yaml asks for packages of conda channels; ``data["packages"]`` lists them."""

    code = "conda_packages_unsupported"
    kind = Kind.INVALID
    hint = "Move them to the pip list under their PyPI names if they have wheels, or remove them."


class RequirementNotFound(DependencyError):
    """The index knows no such package or no such version."""

    code = "requirement_not_found"
    kind = Kind.INVALID
    hint = "Check the name and the version; a package of your own needs an index that serves it."


class RequirementHasNoWheel(DependencyError):
    """There is no wheel of the package for the target."""

    code = "requirement_has_no_wheel"
    kind = Kind.INVALID


class RequirementsConflict(DependencyError):
    """No set of versions meets all requirements; the message names the sides."""

    code = "requirements_conflict"
    kind = Kind.INVALID
    hint = "Loosen one of them."


class RequirementHashMismatch(DependencyError):
    """The wheel chosen is none of those whose hashes the user listed."""

    code = "requirement_hash_mismatch"
    kind = Kind.INVALID
    hint = "List the sha256 of the wheel for the target platform as well, or leave the hashes out."


class IndexUnreachable(DependencyError):
    """The package index could not be reached or failed: nothing is known about packages."""

    code = "index_unreachable"
    kind = Kind.UNAVAILABLE
    hint = "Check that the package index is up and its address is right, then try again."


class IndexDenied(DependencyError):
    """The package index refused our credentials, or wants some."""

    code = "index_denied"
    kind = Kind.UPSTREAM
    hint = "Give credentials to the builder by ~/.netrc; they never belong into requirements."


class CredentialsMissing(DependencyError):
    """Requirements name variables for an index's credentials that the builder was not given."""

    code = "index_credentials_missing"
    kind = Kind.INVALID
    hint = (
        "Set them where `merlin image build` runs; a server takes credentials from its netrc file "
        "(images.netrc_file), by host."
    )


class LockFailed(DependencyError):
    """uv failed in a way we have no other word for."""

    code = "lock_failed"


class LockInvalid(DependencyError):
    """A pylock.toml that cannot be read or lacks what a reproducible image needs."""

    code = "lock_invalid"


class StoredLockCorrupt(DependencyError):
    """A lock in the blob store was damaged or edited; ``data`` has its ``key`` and ``store``."""

    code = "stored_lock_corrupt"
    hint = "Restore it, or delete it: the next build then writes it again."


class WheelCorrupt(DependencyError):
    """A downloaded wheel is not the one that was locked."""

    code = "wheel_digest_mismatch"
    hint = "The file changed on its index or on its way. Try again; if it repeats, lock anew."


class WheelCacheFull(DependencyError):
    """No space left for wheels."""

    code = "wheel_cache_full"
    kind = Kind.EXHAUSTED
    hint = "Free disk space for the wheel cache, then try again. Nothing was stored."
