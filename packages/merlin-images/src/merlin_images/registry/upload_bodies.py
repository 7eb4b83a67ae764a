"""What requests of an upload carry: a source cut to size, taken once and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from merlin_images.registry.errors import RegistryUnavailable

# What one write to the socket carries: large enough to be cheap, small enough to flow.
_SEND_BYTES = 256 << 10


def sized(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut large chunks: a socket takes them in pieces anyway, and copies the rest each time."""
    for chunk in chunks:
        if len(chunk) <= _SEND_BYTES:
            yield chunk
        else:
            for start in range(0, len(chunk), _SEND_BYTES):
                yield chunk[start : start + _SEND_BYTES]


class Source:
    """What is uploaded, opened once a try. What it raised itself is kept as ``failure``: no other
    try helps against that."""

    def __init__(self, open_source: Callable[[], Iterable[bytes]]) -> None:
        self._open = open_source
        self.failure: Exception | None = None

    def __call__(self) -> Iterator[bytes]:
        try:
            yield from self._open()
        except Exception as failure:
            self.failure = failure
            raise


class Pieces:
    """A source taken in pieces; who takes one takes it to its end before the next."""

    def __init__(self, chunks: Iterable[bytes], host: str) -> None:
        self._chunks = iter(chunks)
        self._host = host
        self._left = memoryview(b"")

    def skip(self, count: int) -> None:
        for _ in self._take(count):
            pass

    def once(self, count: int) -> Callable[[], Iterator[bytes]]:
        """Return how to read the next bytes. They can be read only once: a second try must go back
        in the source, which is for whoever opened it."""
        taken = False

        def read() -> Iterator[bytes]:
            nonlocal taken
            if taken:
                raise RegistryUnavailable(
                    f"{self._host} asked for a part of an upload twice.", host=self._host
                )
            taken = True
            return self._take(count)

        return read

    def check_end(self) -> None:
        """Read on to the end, where the source is verified."""
        for _ in self._chunks:
            pass

    def _take(self, count: int) -> Iterator[bytes]:
        while count:
            if not self._left:
                self._left = memoryview(next(self._chunks))
            piece, self._left = self._left[:count], self._left[count:]
            for start in range(0, len(piece), _SEND_BYTES):
                yield bytes(piece[start : start + _SEND_BYTES])
            count -= len(piece)
