"""Digests: computing them, and holding streams to them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from merlin_images.registry.errors import DigestMismatch, InvalidDigest
from merlin_images.registry.port import Descriptor

_DIGEST = re.compile(r"(sha256):([a-f0-9]{64})|(sha512):([a-f0-9]{128})")


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of bytes in memory."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def split_digest(digest: str) -> tuple[str, str]:
    """Return algorithm and hexadecimal part. Raises `InvalidDigest`."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise InvalidDigest(f"{digest[:200]!r} is not a digest.")
    return found[1] or found[3], found[2] or found[4]


def verified(chunks: Iterable[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    """Yield the chunks unchanged, but the last only if all of them make up the descriptor.

    So whoever received everything knows that it is right. Raises `DigestMismatch`.
    """
    algorithm, _ = split_digest(descriptor.digest)
    running = hashlib.new(algorithm)
    size = 0
    held = b""
    for chunk in chunks:
        size += len(chunk)
        if size > descriptor.size:
            raise DigestMismatch(
                f"{descriptor.digest} has more than its {descriptor.size} bytes.",
                digest=descriptor.digest,
            )
        running.update(chunk)
        if held:
            yield held
        held = chunk
    if size != descriptor.size:
        raise DigestMismatch(
            f"{descriptor.digest} has {size} bytes instead of {descriptor.size}.",
            digest=descriptor.digest,
        )
    check_digest(f"{algorithm}:{running.hexdigest()}", descriptor.digest)
    if held:
        yield held


def check_digest(actual: str, expected: str) -> None:
    """Raise `DigestMismatch` unless both are the same."""
    if actual != expected:
        raise DigestMismatch(
            f"Content named {expected} really is {actual}.", digest=expected, actual=actual
        )
