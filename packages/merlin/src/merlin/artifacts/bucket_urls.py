"""The URLs that name buckets. They are split as text: ``%``, ``?`` and ``#`` are data in keys."""

from __future__ import annotations

from merlin.artifacts.errors import InvalidKey, UnknownStore
from merlin.artifacts.keys import check_folder


def split_bucket_url(url: str) -> tuple[str, str]:
    """Split ``scheme://bucket/folder`` into bucket and folder; slashes at the end are dropped."""
    scheme, _, rest = url.partition("://")
    bucket, _, folder = rest.partition("/")
    if not bucket or any(character in bucket for character in "?#%: "):
        raise UnknownStore(
            f"The URL of a {scheme} store names no bucket.", hint=f"Write {scheme}://bucket/folder."
        )
    try:
        return bucket, check_folder(folder.rstrip("/"))
    except InvalidKey as error:
        raise UnknownStore(
            f"The folder of {scheme}://{bucket} is not one: {error.message}",
            hint=f"Write {scheme}://bucket/folder.",
        ) from None
