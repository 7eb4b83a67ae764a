"""What an etag proves about content.

S3 makes the etag of an object from MD5 sums, unless keys of the customer encrypt it: the sum of the
content, or of an upload in parts the sum of the parts' sums and their number. So an etag that is
what a file would get proves that the object holds the file; another proves nothing. Everything is
sent with a signature over its content or through TLS: this is no defence against forgery.
"""

from __future__ import annotations

import hashlib
import re
from io import BufferedReader
from pathlib import Path

from merlin.artifacts.store import ObjectInfo

_CHUNK = 1 << 20
_OF_CONTENT = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]*)?")


def proves(info: ObjectInfo, file: Path, *, part_bytes: int) -> bool:
    """Whether the etag proves that the object holds the file, as a whole or in such parts."""
    etag = info.etag.strip('"')
    if not _OF_CONTENT.fullmatch(etag) or file.stat().st_size != info.size:
        return False
    size = part_bytes if "-" in etag else max(info.size, 1)
    starts = range(0, max(info.size, 1), size)
    with file.open("rb") as stream:
        sums = [_md5(stream, min(size, info.size - start)) for start in starts]
    if "-" not in etag:
        return sums[0].hex() == etag
    whole = hashlib.md5(b"".join(sums), usedforsecurity=False)
    return f"{whole.hexdigest()}-{len(sums)}" == etag


def _md5(stream: BufferedReader, length: int) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    while length and (chunk := stream.read(min(_CHUNK, length))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.digest()
