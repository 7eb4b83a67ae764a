"""Copying an image, or an index with all its images, from one registry to another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from merlin.progress import Progress, Step, step
from merlin_images.registry.digests import verified
from merlin_images.registry.manifests import read_links
from merlin_images.registry.port import BlobWrite, Descriptor, ImageRegistry, ReadsImages
from merlin_images.registry.reference import Reference

AT_ONCE = 8
"""Blobs under way at once; a host takes no more bodies than its slots, whoever sends them."""


def copy_image(
    source: ReadsImages,
    source_reference: Reference,
    target: ImageRegistry,
    target_reference: Reference,
    progress: Progress,
) -> Descriptor:
    """Copy what a reference names, byte for byte, and return its descriptor.

    Blobs that are there already are not read; within a host they are mounted. Manifests come after
    all they refer to, the one with the tag last. Repeating it finishes a copy that failed.
    """
    descriptor, body = source.read_manifest(source_reference)
    links = read_links(descriptor.media_type, body)
    for manifest in links.manifests:
        copy_image(
            source,
            source_reference.at_digest(manifest.digest),
            target,
            replace(target_reference, tag="", digest=manifest.digest),
            progress,
        )
    blobs = list({blob.digest: blob for blob in links.blobs}.values())
    copier = _Copier(source, source_reference, target, target_reference, progress)
    copier.all(blobs)
    return target.write_manifest(target_reference, descriptor.media_type, body)


class _Copier:
    def __init__(
        self,
        source: ReadsImages,
        source_reference: Reference,
        target: ImageRegistry,
        target_reference: Reference,
        progress: Progress,
    ) -> None:
        self._source = source
        self._from = source_reference
        self._target = target
        self._to = target_reference
        self._progress = progress
        same_host = source_reference.host == target_reference.host
        same_place = source_reference.repository == target_reference.repository
        self._mount_from = [source_reference.repository] if same_host and not same_place else []

    def all(self, blobs: Sequence[Descriptor]) -> None:
        # The largest first, so that no long one starts when all others are done.
        ordered = sorted(blobs, key=lambda blob: -blob.size)
        with ThreadPoolExecutor(min(AT_ONCE, max(len(ordered), 1)), "copy") as threads:
            outcomes = [threads.submit(self.one, blob) for blob in ordered]
            try:
                for outcome in outcomes:
                    outcome.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def one(self, blob: Descriptor) -> BlobWrite:
        with step(self._progress, f"Copy {blob.digest[7:19]}", total=blob.size) as running:
            outcome = self._target.write_blob(
                self._to, blob, lambda: self._read(blob, running), mount_from=self._mount_from
            )
            running.detail = outcome.value
        return outcome

    def _read(self, blob: Descriptor, running: Step) -> Iterable[bytes]:
        chunks = self._source.read_blob(self._from, blob)
        return verified(chunks, blob).watched(running.advance)
