"""Errors of asking for a version's image."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class BuildOptionsInvalid(MerlinError):
    """What a build asks for is no amount; ``field`` names it."""

    code = "build_options_invalid"
    kind = Kind.INVALID
    hint = "Give Kubernetes quantities such as 500m, 2 or 1.5Gi."


class BuildTooLarge(MerlinError):
    """A build asks for more than the platform allows one."""

    code = "build_too_large"
    kind = Kind.INVALID
    hint = "Ask for less in resource_request, or raise images.jobs.largest."


class NothingToCancel(MerlinError):
    """A build is to be cancelled that does not run."""

    code = "build_not_running"
    kind = Kind.CONFLICT
    hint = "Nothing has to be done; ask for the image's state to see what came of it."


class BuildAwaited(MerlinError):
    """A build is to be cancelled that a deploy waits for."""

    code = "build_awaited"
    kind = Kind.CONFLICT
    hint = "Undeploy the version there; the build ends with the deploy."
