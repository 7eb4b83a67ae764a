"""Errors of base images and of finished images."""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class ImageError(MerlinError):
    """Base of all errors about images as such; registries and environments have their own."""

    code = "image_error"
    kind = Kind.FAILED


class BaseUnreachable(ImageError):
    """The base image, or the packages it is made from, could not be fetched."""

    code = "base_unreachable"
    kind = Kind.UNAVAILABLE
    hint = (
        "Check the address and the network, or choose another base: a registry you can reach, "
        "layout:DIR (an OCI layout folder), or debian: (made from this machine's package sources)."
    )


class BaseNotFound(ImageError):
    """The registry or folder has no such base image, or none for the target platform."""

    code = "base_not_found"
    kind = Kind.INVALID
    hint = "Check the base image's name and tag, or choose another one."


class BasePythonMismatch(ImageError):
    """The base image has no Python of the version the model needs."""

    code = "base_python_mismatch"
    kind = Kind.INVALID


class BaseUnsuitable(ImageError):
    """The base image cannot carry what is to be put on it: libc, platform or layer count."""

    code = "base_unsuitable"
    kind = Kind.INVALID


class AptFailed(ImageError):
    """apt-get gave up for a reason other than the network."""

    code = "base_apt_failed"
    hint = "Run the same apt-get command by hand, or choose another base image."


class SystemPackageUnknown(ImageError):
    """packages.txt names a Debian package that this machine's sources do not have."""

    code = "system_package_unknown"
    kind = Kind.INVALID
    hint = "Check its name for the base's release, at packages.debian.org for instance."


class SystemLibrariesMissing(ImageError):
    """Wheels are linked to libraries that nothing in the image would bring.

    ``data["missing"]`` maps each library to the wheel that needs it.
    """

    code = "system_libraries_missing"
    kind = Kind.INVALID


class InvalidPackage(ImageError):
    """A Debian package is not what the format says, or reaches out of its tree."""

    code = "base_package_invalid"
    hint = "Clear the builder's cache and try again; if it repeats, check the package mirror."


class InvalidImage(ImageError):
    """A manifest, config or layer breaks the image format or disagrees with another."""

    code = "image_invalid"


class ReferrersUnsupported(ImageError):
    """The place an image lies in cannot list what refers to it."""

    code = "referrers_unsupported"


class InvalidModel(ImageError):
    """The model folder cannot become a layer."""

    code = "model_folder_invalid"
    kind = Kind.INVALID
