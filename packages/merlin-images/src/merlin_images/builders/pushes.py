"""The uploads of one build: begun as soon as their layers are there, awaited together."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from merlin_images.builders.push import Blob, Pusher
from merlin_images.layers.model import ModelLayer
from merlin_images.registry.port import BlobWrite

_AT_ONCE = 8


class Threads(ThreadPoolExecutor):
    """Threads of one build; when the build fails, what has not begun does not begin."""

    def __init__(self) -> None:
        super().__init__(_AT_ONCE, "build")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.shutdown(cancel_futures=kind is not None)


class Pushes:
    """Blobs on their way, each once; several threads may start them."""

    def __init__(self, threads: Threads, pusher: Pusher) -> None:
        self._threads = threads
        self._pusher = pusher
        self._outcomes: dict[str, Future[BlobWrite]] = {}
        self._lock = threading.Lock()
        self.blobs: dict[str, Blob] = {}

    def start(self, blobs: Iterable[Blob]) -> None:
        for blob in blobs:
            digest = blob.descriptor.digest
            with self._lock:
                if digest not in self.blobs:
                    self.blobs[digest] = blob
                    self._outcomes[digest] = self._threads.submit(self._pusher.blob, blob)

    def of_model(self, layers: Iterable[ModelLayer]) -> None:
        """Start what is not in the registry already: weights went there while they were read."""
        for own in layers:
            blob = Blob(own.layer.descriptor, own.layer.title, own.open)
            if own.made and not own.layer.kept:
                self._sent(blob)
            else:
                self.start([blob])

    def _sent(self, blob: Blob) -> None:
        with self._lock:
            self.blobs[blob.descriptor.digest] = blob
            done = self._outcomes[blob.descriptor.digest] = Future()
        done.set_result(BlobWrite.UPLOADED)

    def wait(self) -> dict[str, BlobWrite]:
        """Return what came of each, by digest. Raises the first error."""
        return {digest: outcome.result() for digest, outcome in self._outcomes.items()}
