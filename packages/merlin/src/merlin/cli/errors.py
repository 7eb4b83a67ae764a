"""Errors of the command line itself."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class UsageError(MerlinError):
    """The command line says something that cannot be meant."""

    code = "usage"
    kind = Kind.USAGE


class CommandNotInstalled(MerlinError):
    """The command is Merlin's, but comes with another package."""

    code = "command_not_installed"
    kind = Kind.USAGE


class PackageMissing(MerlinError):
    """A module that a command needs cannot be imported."""

    code = "package_missing"
    kind = Kind.USAGE
    hint = "Install it, or install Merlin's packages again, all of one version."


class ProfileInvalid(MerlinError):
    """The file with the server's address cannot be read or written."""

    code = "profile_invalid"
    kind = Kind.USAGE
    hint = "Repair or delete it, then sign in again with `merlin login`."


class InputInvalid(MerlinError):
    """What should be sent to a model is not JSON, or cannot be read."""

    code = "input_invalid"
    kind = Kind.INVALID
