"""Digests: computing them, and holding streams to them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterable

from merlin_images.registry.errors import DigestMismatch, InvalidDigest
from merlin_images.registry.port import Descriptor

_DIGEST = re.compile(r"(sha256):([a-f0-9]{64})|(sha512):([a-f0-9]{128})")


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of bytes in memory."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def describe_chunks(media_type: str, chunks: Iterable[bytes]) -> Descriptor:
    """Return the descriptor of a stream by reading it to its end."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return Descriptor(media_type, f"sha256:{digest.hexdigest()}", size)


def split_digest(digest: str) -> tuple[str, str]:
    """Return algorithm and hexadecimal part. Raises `InvalidDigest`."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise InvalidDigest(f"{digest[:200]!r} is not a digest.")
    return found[1] or found[3], found[2] or found[4]


class VerifiedChunks:
    """Chunks that end only if all of them make up the descriptor; see `verified`."""

    def __init__(self, chunks: Generator[bytes, None, None], descriptor: Descriptor) -> None:
        """``chunks`` do the verifying: they raise before their last one if something is wrong."""
        self.descriptor = descriptor
        self._chunks = chunks
        self._told: Callable[[int], object] = lambda _count: None

    def watched(self, tell: Callable[[int], object]) -> VerifiedChunks:
        """Tell how many bytes each chunk has; returns these chunks."""
        self._told = tell
        return self

    def __iter__(self) -> VerifiedChunks:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._told(len(chunk))
        return chunk

    def close(self) -> None:
        """Give up; frees what the chunks come from."""
        self._chunks.close()


def verified(
    chunks: Iterable[bytes], descriptor: Descriptor, *, origin: str = ""
) -> VerifiedChunks:
    """Yield the chunks unchanged, but the last only if all of them make up the descriptor.

    So whoever received everything knows that it is right; what is verified already is not hashed
    again. Raises `DigestMismatch`, naming ``origin``.
    """
    if isinstance(chunks, VerifiedChunks):
        known = chunks.descriptor
        if (known.digest, known.size) == (descriptor.digest, descriptor.size):
            return chunks
    return VerifiedChunks(_verify(chunks, descriptor, origin), descriptor)


def _verify(
    chunks: Iterable[bytes], descriptor: Descriptor, origin: str
) -> Generator[bytes, None, None]:
    algorithm, _ = split_digest(descriptor.digest)
    source = f" from {origin}" if origin else ""
    running = hashlib.new(algorithm)
    size = 0
    held = b""
    for chunk in chunks:
        size += len(chunk)
        if size > descriptor.size:
            raise DigestMismatch(
                f"{descriptor.digest}{source} has more than its {descriptor.size} bytes.",
                digest=descriptor.digest,
            )
        running.update(chunk)
        if held:
            yield held
        held = chunk
    if size != descriptor.size:
        raise DigestMismatch(
            f"{descriptor.digest}{source} has {size} bytes instead of {descriptor.size}.",
            digest=descriptor.digest,
        )
    check_digest(f"{algorithm}:{running.hexdigest()}", descriptor.digest, origin=origin)
    if held:
        yield held


def check_digest(actual: str, expected: str, *, origin: str = "") -> None:
    """Raise `DigestMismatch`, naming ``origin``, unless both are the same."""
    if actual != expected:
        source = f" from {origin}" if origin else ""
        raise DigestMismatch(
            f"Content named {expected}{source} really is {actual}.",
            digest=expected,
            actual=actual,
        )
