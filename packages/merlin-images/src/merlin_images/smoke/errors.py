"""Why an image was not tested, or did not pass."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class SmokeError(MerlinError):
    """Base of all errors of smoke tests."""

    code = "smoke_test_error"
    kind = Kind.FAILED


class NoContainerProgram(SmokeError):
    """Nothing on this machine can run a container."""

    code = "container_program_missing"
    kind = Kind.UNAVAILABLE
    hint = (
        "Install podman (Debian: apt-get install podman runc), start Docker, or run `merlin image "
        "smoke IMAGE` on a machine that has either. Building needs neither."
    )


class ContainerProgramFailed(SmokeError):
    """podman or docker could not fetch the image or start its container."""

    code = "container_program_failed"
    kind = Kind.UNAVAILABLE


class NotSmokeTestable(SmokeError):
    """The image does not start Merlin's runtime, or is for other processors."""

    code = "smoke_test_unsupported"
    kind = Kind.INVALID


class SmokeTestFailed(SmokeError):
    """A stage failed: ``data["stage"]`` names it, ``data["culprits"]`` hold the last lines."""

    code = "smoke_test_failed"
