"""Errors of the process deployer."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class PythonNotFound(MerlinError):
    """The model's Python version is not installed on this machine."""

    code = "python_not_found"
    kind = Kind.FAILED


class EnvironmentNotInstalled(MerlinError):
    """The locked packages could not be installed."""

    code = "environment_not_installed"
    kind = Kind.FAILED
    hint = "The last lines name the package at fault. Correct it and log a new version."


class ModelFolderEmpty(MerlinError):
    """The version has no artifacts to run."""

    code = "model_folder_empty"
    kind = Kind.FAILED
    hint = "Log a model to this version, then deploy it again."


class DiskFull(MerlinError):
    """No space left in the server's data folder."""

    code = "disk_full"
    kind = Kind.EXHAUSTED
    hint = "Free space on the disk of the data folder, then deploy again."


class FolderInUse(MerlinError):
    """Another server runs models from the same data folder."""

    code = "data_dir_in_use"
    kind = Kind.CONFLICT
    hint = "Stop that server, or give this one another data_dir."


class DeployerClosed(MerlinError):
    """The server is stopping."""

    code = "deployer_closed"
    kind = Kind.UNAVAILABLE
