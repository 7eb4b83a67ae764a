"""A folder that appears whole, or replaces the one before it whole."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merlin_images.context.errors import ContextRefused


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place when the block ends well.

    If the block fails, what was there stays, and nothing is left beside it. Raises `ContextRefused`
    where a folder cannot be moved into place, as onto a mount.
    """
    folder = folder.absolute()
    mark = f".{folder.name}.{secrets.token_hex(4)}"
    staged, old = folder.with_name(f"{mark}.new"), folder.with_name(f"{mark}.old")
    try:
        staged.mkdir(mode=0o755)
        yield staged
        if folder.exists():
            folder.rename(old)
        staged.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise ContextRefused(
            f"{folder} cannot be written: {error.strerror or error}.",
            hint="Name a folder on a file system with room, and not a mount point itself.",
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
