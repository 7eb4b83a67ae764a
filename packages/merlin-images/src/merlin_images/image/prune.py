"""Which images of a repository may go, and taking them away.

Only images that were built here are touched. A digest goes only when no tag that is kept names it;
what refers to it (bills, signatures) goes with it. Blobs go with the registry's own collection.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from merlin_images.image import annotation_keys
from merlin_images.image.errors import InvalidImage
from merlin_images.image.index import parse_index
from merlin_images.image.manifest import parse_manifest
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.port import (
    DOCKER_INDEX,
    OCI_INDEX,
    Deletes,
    Descriptor,
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
    """An image of ours with all its tags, and why it stays; empty if it may go. ``parts`` are the
    images of an index, which go with it unless an index that stays has them too."""

    digest: str
    tags: tuple[str, ...]
    created: datetime
    kept: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Ours:
    created: datetime
    parts: tuple[str, ...] = ()


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
    found: dict[str, _Ours] = {}
    for tag in registry.tags(repository):
        try:
            descriptor, body = registry.read_manifest(repository.at_tag(tag))
            ours = _read(descriptor, body)
        except (ImageNotFound, InvalidImage):
            continue
        if ours is not None:
            tags.setdefault(descriptor.digest, []).append(tag)
            found[descriptor.digest] = ours
    parts = {part for ours in found.values() for part in ours.parts}
    ordered = sorted(
        (digest for digest in tags if digest not in parts),
        key=lambda digest: (found[digest].created, digest),
        reverse=True,
    )
    listed = [
        Candidate(
            digest=digest,
            tags=tuple(sorted(tags[digest])),
            created=found[digest].created,
            kept=_reason(place, tags[digest], found[digest].created, retention, now),
            parts=found[digest].parts,
        )
        for place, digest in enumerate(ordered)
    ]
    pinned = [part for part in parts if _pattern(tags.get(part, ()), retention)]
    return _sparing(listed, pinned)


def remove(registry: ImageRegistry, repository: Reference, images: Sequence[Candidate]) -> None:
    """Delete images and what refers to them, one after another; repeating it does no harm.

    Raises `PruneUnsupported`, and what deleting raises: images before the one at fault are gone.
    """
    if not isinstance(registry, Deletes):
        raise PruneUnsupported(f"{repository.host} deletes nothing.")
    for image in images:
        # An index before its images: a registry may refuse to delete what something refers to.
        for digest in (image.digest, *image.parts):
            reference = repository.at_digest(digest)
            if isinstance(registry, ListsReferrers):
                for referrer in registry.referrers(reference):
                    registry.delete_manifest(repository.at_digest(referrer.digest))
            registry.delete_manifest(reference)


def _read(descriptor: Descriptor, body: bytes) -> _Ours | None:
    """What a manifest or an index says of itself, if it was made here."""
    if descriptor.media_type in {OCI_INDEX, DOCKER_INDEX}:
        index = parse_index(body)
        told, parts = index.annotations, tuple(each.descriptor.digest for each in index.images)
        ours = annotation_keys.DEPENDENCY_HASH in told
    else:
        told, parts = parse_manifest(body).annotations, ()
        ours = annotation_keys.LOCK_KEY in told
    return _Ours(_moment(told.get(annotation_keys.CREATED, "")), parts) if ours else None


def _sparing(listed: Sequence[Candidate], pinned: Collection[str]) -> list[Candidate]:
    """Leave to what goes only the parts that are not pinned and that nothing that stays has."""
    staying = {*pinned} | {part for image in listed if image.kept for part in image.parts}
    return [
        image
        if image.kept
        else replace(image, parts=tuple(part for part in image.parts if part not in staying))
        for image in listed
    ]


def _reason(
    place: int, tags: Sequence[str], created: datetime, retention: Retention, now: datetime
) -> str:
    if place < retention.newest:
        return f"one of the {retention.newest} newest"
    if now - created < retention.younger_than:
        return f"younger than {retention.younger_than.days} days"
    pattern = _pattern(tags, retention)
    return f"has a tag like {pattern}" if pattern else ""


def _pattern(tags: Sequence[str], retention: Retention) -> str:
    """The first pattern that one of the tags matches, or nothing."""
    matching = (each for each in retention.patterns if any(fnmatchcase(tag, each) for tag in tags))
    return next(matching, "")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
