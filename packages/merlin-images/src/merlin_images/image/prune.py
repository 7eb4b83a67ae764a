"""Which images of a repository may go, and taking them away.

Only images that were built here are touched. A digest goes only when no tag that is kept names it;
what refers to it (bills, signatures) goes with it. Blobs go with the registry's own collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from merlin_images.image import annotation_keys
from merlin_images.image.errors import InvalidImage
from merlin_images.image.manifest import parse_manifest
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.port import (
    Deletes,
    ImageRegistry,
    ListsReferrers,
    ListsTags,
)
from merlin_images.registry.reference import Reference


@dataclass(frozen=True)
class Retention:
    """What stays: the ``newest`` images by creation, what is younger than ``younger_than``, and
    every image with a tag that one of ``patterns`` (``stable-*``) matches."""

    newest: int
    younger_than: timedelta = timedelta(0)
    patterns: Sequence[str] = ()


@dataclass(frozen=True)
class Candidate:
    """An image of ours with all its tags, and why it stays; empty if it may go."""

    digest: str
    tags: tuple[str, ...]
    created: datetime
    kept: str


class PruneUnsupported(InvalidImage):
    """The registry lists no tags or deletes nothing."""

    code = "prune_unsupported"


def candidates(
    registry: ImageRegistry, repository: Reference, retention: Retention, *, now: datetime
) -> list[Candidate]:
    """Return the images of a repository that were built here, the newest first.

    Raises `PruneUnsupported` and what reading the registry raises.
    """
    if not isinstance(registry, ListsTags):
        raise PruneUnsupported(f"{repository.host} lists no tags.")
    tags: dict[str, list[str]] = {}
    created: dict[str, datetime] = {}
    for tag in registry.tags(repository):
        try:
            descriptor, body = registry.read_manifest(repository.at_tag(tag))
            told = parse_manifest(body).annotations
        except (ImageNotFound, InvalidImage):
            continue
        if annotation_keys.LOCK_KEY in told:
            tags.setdefault(descriptor.digest, []).append(tag)
            created[descriptor.digest] = _moment(told.get(annotation_keys.CREATED, ""))
    ordered = sorted(tags, key=lambda digest: (created[digest], digest), reverse=True)
    return [
        Candidate(
            digest=digest,
            tags=tuple(sorted(tags[digest])),
            created=created[digest],
            kept=_reason(place, tags[digest], created[digest], retention, now),
        )
        for place, digest in enumerate(ordered)
    ]


def remove(registry: ImageRegistry, repository: Reference, images: Sequence[Candidate]) -> None:
    """Delete images and what refers to them, one after another; repeating it does no harm.

    Raises `PruneUnsupported`, and what deleting raises: images before the one at fault are gone.
    """
    if not isinstance(registry, Deletes):
        raise PruneUnsupported(f"{repository.host} deletes nothing.")
    for image in images:
        reference = repository.at_digest(image.digest)
        if isinstance(registry, ListsReferrers):
            for referrer in registry.referrers(reference):
                registry.delete_manifest(repository.at_digest(referrer.digest))
        registry.delete_manifest(reference)


def _reason(
    place: int, tags: Sequence[str], created: datetime, retention: Retention, now: datetime
) -> str:
    if place < retention.newest:
        return f"one of the {retention.newest} newest"
    if now - created < retention.younger_than:
        return f"younger than {retention.younger_than.days} days"
    for pattern in retention.patterns:
        if any(fnmatchcase(tag, pattern) for tag in tags):
            return f"has a tag like {pattern}"
    return ""


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
