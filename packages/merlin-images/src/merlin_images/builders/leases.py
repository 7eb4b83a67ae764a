"""What this process saw in a registry: which digest an image has, and for how long to trust that.

A lease says that an image was seen moments ago, so that asking again would tell nothing new: the
next build of the same inputs for the same tag sends no request at all. What it may miss is what
others do to the registry within those seconds: deleting the image, or moving the requested tag.
That is right for seconds, as any answer of a registry is as old when it is acted on; whoever pulls
the image asks the registry himself, and the first build after the lease puts right what is wrong.
Where this process moves a tag itself, the leases of other images under that tag end.

Digests that were seen are kept beyond leases. They decide nothing by themselves, but one HEAD that
answers with such a digest tells all there is to know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from merlin_images.registry.reference import Reference

_REMEMBERED = 10_000


@dataclass(frozen=True)
class _Seen:
    digest: str
    until: float


class Leases:
    """Leases of ``seconds`` each, by the clock given; safe for many threads.

    Images are told apart by the ``target`` asked for and the content ``tag`` of their inputs.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seen: dict[Reference, dict[str, _Seen]] = {}

    def get(self, target: Reference, tag: str) -> str:
        """Return the digest of an image seen so recently that it need not be asked for, or none."""
        seen = self._find(target, tag)
        return seen.digest if seen and self._monotonic() < seen.until else ""

    def seen(self, target: Reference, tag: str) -> str:
        """Return the digest an image had when it was seen last, or none."""
        seen = self._find(target, tag)
        return seen.digest if seen else ""

    def give(self, target: Reference, tag: str, digest: str) -> None:
        """Note that an image was just seen, or written, under both its tags."""
        with self._lock:
            images = self._seen.pop(target, {})
            if target.tag:  # A name for one image at a time.
                images = {tag: replace(seen, until=0) for tag, seen in images.items()}
            if len(self._seen) >= _REMEMBERED:
                del self._seen[next(iter(self._seen))]
            images.pop(tag, None)
            if len(images) >= _REMEMBERED:
                del images[next(iter(images))]
            self._seen[target] = {**images, tag: _Seen(digest, self._monotonic() + self._seconds)}

    def _find(self, target: Reference, tag: str) -> _Seen | None:
        with self._lock:
            return self._seen.get(target, {}).get(tag)
