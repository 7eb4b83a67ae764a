"""Fetch the jars that a list names, each held to its sha256; or write the checksums down once.

fetch_jars.py --to DIR LIST    downloads into DIR; a jar without a checksum is an error
fetch_jars.py --pin LIST       downloads nothing to keep, and adds the checksums that are missing

A line of the list is a URL, perhaps followed by ``sha256:`` and the checksum; ``#`` begins a
comment.
Only the standard library is used: this runs while a base image is built.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK = 1 << 20
_SECONDS = 60


def main(arguments: list[str]) -> int:
    """Run and return the exit code; what went wrong is a sentence on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", type=Path, metavar="DIR")
    what.add_argument("--pin", action="store_true")
    parser.add_argument("list", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.pin:
            options.list.write_text("".join(_pinned(options.list.read_text())))
        else:
            for url, checksum in _jars(options.list.read_text()):
                _fetch(url, checksum, options.to)
    except (ValueError, OSError) as error:
        print(f"fetch_jars: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _jars(text: str) -> list[tuple[str, str]]:
    """Return URL and checksum of every jar; all are looked at before the first is fetched."""
    found = []
    for line in text.splitlines():
        url, *rest = line.partition("#")[0].split() or [""]
        if not url:
            continue
        if len(rest) != 1 or not rest[0].startswith("sha256:"):
            raise ValueError(f"{url} has no sha256: run fetch_jars.py --pin first")
        found.append((url, rest[0].removeprefix("sha256:")))
    return found


def _pinned(text: str) -> Iterator[str]:
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 1:
            digest = hashlib.sha256()
            for chunk in _download(words[0]):
                digest.update(chunk)
            yield f"{words[0]} sha256:{digest.hexdigest()}\n"
        else:
            yield f"{line}\n"


def _fetch(url: str, checksum: str, folder: Path) -> None:
    """Make the jar appear under its own name, whole, or not at all."""
    target = folder / urlsplit(url).path.rpartition("/")[2]
    partial = target.with_name(f".{target.name}")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for chunk in _download(url):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != checksum:
            raise ValueError(f"{url} has the sha256 {digest.hexdigest()}, not {checksum}")
        partial.chmod(0o644)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def _download(url: str) -> Iterator[bytes]:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError(f"{url} is no web address")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 -- checked above
            while chunk := answer.read(_CHUNK):
                yield chunk
    except urllib.error.URLError as error:
        raise ValueError(f"{url} cannot be fetched: {error.reason}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
