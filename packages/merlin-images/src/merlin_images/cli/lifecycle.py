"""``merlin image diff``, ``explain``, ``rebase``, ``copy``, ``export`` and ``prune``."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from merlin.errors import Kind, MerlinError
from merlin.output.human import human_size, table
from merlin.progress import step
from merlin_images.builders.push import Pusher
from merlin_images.builders.rebase import Rebased, needed_python, rebase_named
from merlin_images.cli.common import DEFAULTS, Common, app, default_cache, naming, read_one, shown
from merlin_images.image import annotation_keys
from merlin_images.image.base import Base
from merlin_images.image.base_images import BaseImages
from merlin_images.image.compare import Comparison, compare, previous_tag
from merlin_images.image.export import Form, export_image
from merlin_images.image.locations import LAYOUT, locate, locate_target
from merlin_images.image.platform import parse_platform
from merlin_images.image.prune import Retention, candidates, remove
from merlin_images.image.stored import StoredImage, read_image
from merlin_images.layers.layer_store import LayerStore
from merlin_images.registry.copy import copy_image
from merlin_images.registry.errors import InvalidReference
from merlin_images.registry.port import ImageRegistry, ListsTags
from merlin_images.registry.reference import Reference

_AT_ONCE = 8


class ImagesFailed(MerlinError):
    """Some of several images could not be worked on; each was named."""

    code = "images_failed"
    kind = Kind.FAILED


@app.command
def diff(before: str, after: str, /, *, platform: str = "", common: Common = DEFAULTS) -> None:
    """Show what differs between two images: facts, packages, files of the model, layers.

    Examples:

      merlin image diff registry.example.com/ml/fraud:6 registry.example.com/ml/fraud:7

    Parameters
    ----------
    before
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    after
        Likewise.
    platform
        Which image of an index; by default linux/amd64, or else its first.
    """
    found = compare(
        read_one(before, common, platform=platform), read_one(after, common, platform=platform)
    )
    changes = [
        (what, change.name, change.before or "-", change.after or "-")
        for what, list_of in (
            ("image", found.facts),
            ("package", found.packages),
            ("file", found.files),
        )
        for change in list_of
    ]
    text = table(("WHAT", "NAME", "BEFORE", "AFTER"), changes) if changes else "No difference."
    common.tell(f"{text}\n{_sharing(found)}", found.to_dict())


@app.command
def explain(image: str, /, *, to: str = "", platform: str = "", common: Common = DEFAULTS) -> None:
    """Say for each layer of an image why it could not be shared with the version before.

    Examples:

      merlin image explain registry.example.com/ml/fraud:7
      merlin image explain layout:./images:7 --to layout:./images:5

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    to
        The image to compare with; by default the version before it in the same repository.
    platform
        Which image of an index; by default linux/amd64, or else its first.
    """
    later = read_one(image, common, platform=platform)
    earlier = read_one(to, common, platform=platform) if to else _previous(later)
    found = compare(earlier, later)
    rows = [
        (
            story.kind,
            human_size(story.size),
            "rebuilt" if story.reason else "shared",
            story.title,
            story.reason,
        )
        for story in found.layers
    ]
    common.tell(
        f"{table(('LAYER', 'SIZE', 'WAS', 'WHAT IT HOLDS', 'WHY'), rows)}\n{_sharing(found)}",
        found.to_dict(),
    )


@app.command(name="rebase")
def rebase_images(*images: str, base: str, common: Common = DEFAULTS) -> None:
    """Put images on another base: only a manifest and a config are written for each.

    Of an index every image is put on the base for its platform.

    The tag of an image is moved to the new one, which is what a build on the new base would have
    made; the old one stays under its digest.

    Examples:

      merlin image rebase registry.example.com/ml/fraud:7 --base python:3.11-slim
      merlin image rebase localhost:5000/demo/a:1 localhost:5000/demo/b:1 --base debian:

    Parameters
    ----------
    images
        HOST/NAME:TAG, or layout:DIR:TAG; any number.
    base
        A reference ({python} is replaced), layout:DIR, debian:, or auto.
    """
    cache = default_cache()
    bases = BaseImages(cache, common.open)
    known = LayerStore(cache / "layers")
    failed: list[str] = []

    def choose(image: StoredImage) -> Base:
        platform = image.manifest.annotations.get(annotation_keys.LOCK_PLATFORM, "")
        return bases.choose(
            base,
            python=needed_python(image),
            platform=parse_platform(platform),
            progress=progress,
        )

    def work(name: str) -> tuple[str, Rebased] | None:
        try:
            registry, reference = locate(name, common.open)
            pusher = Pusher(registry, reference, known=known, progress=progress)
            with naming(name), step(progress, f"Rebase {name}") as running:
                done = rebase_named(registry, pusher, reference, choose, tag=_tag(name, reference))
                running.detail = done.after.digest[:19] if done.changed else "on this base already"
        except MerlinError as error:
            failed.append(name)
            sys.stderr.write(f"{name}: {error}\n")
            return None
        return name, done

    with common.progress() as progress, ThreadPoolExecutor(_AT_ONCE, "rebase") as threads:
        results = [each for each in threads.map(work, images) if each is not None]
    rows = [
        (name, "changed" if done.changed else "as it was", done.after.digest)
        for name, done in results
    ]
    common.tell(
        table(("IMAGE", "OUTCOME", "DIGEST"), rows),
        [
            {"image": name, "before": done.before.digest, "after": done.after.digest}
            for name, done in results
        ],
    )
    if failed:
        raise ImagesFailed(f"{len(failed)} of {len(images)} images could not be put on {base}.")


@app.command
def copy(image: str, to: str, /, *, common: Common = DEFAULTS) -> None:
    """Copy an image, or an index of several, to another place, byte for byte.

    Examples:

      merlin image copy localhost:5000/demo/cancer:1 registry.example.com/ml/cancer:1
      merlin image copy python:3.11-slim layout:./base:3.11

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    to
        HOST/NAME:TAG, or layout:DIR:TAG.
    """
    source, reference = locate(image, common.open)
    target, destination = locate_target(to, common.open)
    with common.progress() as progress, naming(image):
        found = copy_image(source, reference, target, destination, progress)
    common.tell(found.digest, {"image": to, "digest": found.digest})


@app.command
def export(
    image: str,
    /,
    *,
    to: Path,
    form: Form = "oci-archive",
    name: str = "",
    platform: str = "",
    common: Common = DEFAULTS,
) -> None:
    """Write an image to one file, for podman load, docker load or skopeo.

    Examples:

      merlin image export localhost:5000/demo/cancer:1 --to cancer.tar
      merlin image export localhost:5000/demo/cancer:1 --to cancer.tar --form docker-archive

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    to
        The file to write.
    form
        oci-archive, or docker-archive with layers uncompressed.
    name
        Name the image is loaded as; by default its own.
    platform
        Which image of an index; by default linux/amd64, or else its first.
    """
    registry, stored = read_one(image, common, platform=platform)
    own = stored.reference.at_tag(stored.reference.tag or "latest")
    loaded_as = name or ("merlin/image:latest" if image.startswith(LAYOUT) else str(own))
    with common.progress() as progress:
        size = export_image(registry, stored, to, name=loaded_as, form=form, progress=progress)
    common.tell(
        f"{to}: {loaded_as}, {human_size(size)}\n{stored.descriptor.digest}",
        {
            "file": str(to),
            "image": shown(image, stored.reference),
            "name": loaded_as,
            "size": size,
            "digest": stored.descriptor.digest,
        },
    )


@app.command
def prune(
    repository: str,
    /,
    *,
    keep: int = 10,
    younger_than_days: int = 30,
    keep_tags: list[str] | None = None,
    yes: Annotated[bool, Parameter(negative=())] = False,
    common: Common = DEFAULTS,
) -> None:
    """Take old images of a repository away; without --yes only show which.

    Only images built by Merlin are touched. It does not know what is deployed where: keep as many
    as you may want to go back to.

    Examples:

      merlin image prune registry.example.com/ml/fraud
      merlin image prune registry.example.com/ml/fraud --keep 3 --younger-than-days 7 --yes

    Parameters
    ----------
    repository
        HOST/NAME, or layout:DIR.
    keep
        How many of the newest stay, whatever their age.
    younger_than_days
        Images younger than this stay.
    keep_tags
        Images with such a tag stay, such as stable-*.
    yes
        Do it.
    """
    registry, target = locate_target(repository, common.open)
    retention = Retention(keep, timedelta(days=younger_than_days), keep_tags or ())
    found = candidates(registry, target, retention, now=datetime.now(UTC))
    going = [image for image in found if not image.kept]
    if yes:
        with (
            common.progress() as progress,
            step(progress, f"Delete {len(going)} images") as running,
        ):
            remove(registry, target, going)
            running.detail = "done"
    word = "deleted" if yes else "may go"
    rows = [
        (",".join(image.tags), f"{image.created:%Y-%m-%d}", image.digest[:19], image.kept or word)
        for image in found
    ]
    hint = "" if yes or not going else f"\n{len(going)} may go; repeat with --yes to delete them."
    common.tell(
        table(("TAGS", "CREATED", "DIGEST", "OUTCOME"), rows) + hint,
        [
            {
                "digest": image.digest,
                "tags": list(image.tags),
                "created": image.created.isoformat(),
                "kept": image.kept,
                "deleted": yes and not image.kept,
            }
            for image in found
        ],
    )


def _previous(later: tuple[ImageRegistry, StoredImage]) -> tuple[ImageRegistry, StoredImage]:
    registry, image = later
    version = image.manifest.annotations.get(annotation_keys.VERSION, "")
    tags = list(registry.tags(image.reference)) if isinstance(registry, ListsTags) else []
    reference = image.reference.at_tag(previous_tag(tags, version))
    return registry, read_image(
        registry, reference, architecture=str(image.config.get("architecture"))
    )


def _tag(name: str, reference: Reference) -> str:
    """The tag an image was asked for by, which is the one to move."""
    if "@" in name:
        raise InvalidReference(f"{name} names a digest.", hint="Name the tag that is to move.")
    _, _, tag = name.rpartition("/")[2].partition(":")
    return tag or reference.tag or "latest"


def _sharing(found: Comparison) -> str:
    total = sum(layer.size for layer in found.layers)
    return f"{human_size(found.shared_bytes)} of {human_size(total)} are shared by both images."
