"""What a key and a folder may be, the same for every backend.

The limits are those of the narrowest backends (a file name of 255 bytes, an S3 key of 1,024), so
that what one store accepts can be copied to any other.
"""

from __future__ import annotations

from merlin.artifacts.errors import InvalidKey

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255


def check_key(key: str) -> str:
    """Return ``key`` if it may name an object, else raise `InvalidKey`."""
    if not key:
        raise InvalidKey("A key must not be empty.", key=key)
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"The key {key!r} is not valid text.", key=ascii(key)) from None
    if length > MAX_KEY_BYTES:
        raise InvalidKey(f"A key of {length} bytes is too long.", hint="At most 1024 bytes.")
    for segment in key.split("/"):
        if segment in {"", ".", ".."}:
            raise InvalidKey(f"The key {key!r} has a segment {segment!r}.", key=key)
        if "\0" in segment:
            raise InvalidKey(f"The key {key!r} has a NUL character.", key=key)
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise InvalidKey(
                f"The key {key[:80]!r}... has a segment that is too long.",
                hint=f"At most {MAX_SEGMENT_BYTES} bytes between two slashes.",
            )
    return key


def check_folder(folder: str) -> str:
    """Return ``folder`` if it is a key or empty (the whole store), else raise `InvalidKey`."""
    return check_key(folder) if folder else ""


def folder_prefix(folder: str) -> str:
    """Return what every key of the folder starts with: empty, or the folder and a slash."""
    return f"{check_folder(folder)}/" if folder else ""


def join_key(folder: str, relative: str) -> str:
    """Return the key of ``relative`` below ``folder``; each and the whole are checked."""
    return check_key(folder_prefix(folder) + check_key(relative))


def key_order(key: str) -> bytes:
    """Sort key of listings: the key's UTF-8 bytes."""
    return key.encode()
