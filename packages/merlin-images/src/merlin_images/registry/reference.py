"""Image references: ``host[:port]/repository[:tag][@digest]``.

Grammar of github.com/distribution/reference and the OCI distribution-spec v1.1 (section "Pulling
manifests"). A reference without a host means Docker Hub, as every container tool reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from merlin_images.registry.errors import InvalidReference

DOCKER_HUB = "docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[a-fA-F0-9:]+\])(?::[0-9]{1,5})?"
)


@dataclass(frozen=True)
class Reference:
    """A parsed reference; with neither ``tag`` nor ``digest`` it names a repository."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"

    @property
    def identifier(self) -> str:
        """What stands in a manifest URL: the digest if there is one, else the tag."""
        return self.digest or self.tag

    def at_tag(self, tag: str) -> Reference:
        """The same repository at another tag."""
        return replace(self, tag=check_tag(tag), digest="")

    def at_digest(self, digest: str) -> Reference:
        """The same repository at a digest."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidReference(f"{digest!r} is not a digest.")
        return replace(self, tag="", digest=digest)


def parse_reference(text: str, *, default_tag: str = "latest") -> Reference:
    """Parse a reference; an empty ``default_tag`` leaves a bare repository bare.

    Raises `InvalidReference` naming the part that is wrong.
    """
    rest, _, digest = text.partition("@")
    if "@" in text and not _DIGEST.fullmatch(digest):
        raise InvalidReference(f"{text!r} has no valid digest after '@'.")
    host, slash, path = rest.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = DOCKER_HUB, rest
    name, colon, tag = path.rpartition(":")
    if not colon:
        name, tag = path, ""
    if not _HOST.fullmatch(host):
        raise InvalidReference(f"{text!r} has no valid registry host.")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReference(f"{text!r} has no valid tag after ':'.")
    if host == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    check_repository(name)
    if not tag and not digest:
        tag = default_tag
    return Reference(host=host, repository=name, tag=tag, digest=digest)


def check_repository(name: str) -> str:
    """Return ``name`` if it may name a repository, else raise `InvalidReference`."""
    if not _REPOSITORY.fullmatch(name) or len(name) > 255:
        raise InvalidReference(f"{name[:300]!r} is not a valid repository name.")
    return name


def check_tag(tag: str) -> str:
    """Return ``tag`` if it may be one, else raise `InvalidReference`."""
    if not _TAG.fullmatch(tag):
        raise InvalidReference(f"{tag[:200]!r} is not a valid image tag.")
    return tag


def reference_within(repository: str, identifier: str, *, host: str = "") -> Reference:
    """Return the reference of a tag or digest, as it stands in a manifest URL."""
    bare = Reference(host, check_repository(repository))
    return bare.at_digest(identifier) if ":" in identifier else bare.at_tag(identifier)
