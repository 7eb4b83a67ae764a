"""Small JSON files that appear whole: a reader sees the old one or the new one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_record(path: Path) -> Mapping[str, Any] | None:
    """Return the object a file holds; ``None`` if there is no file or it holds something else."""
    try:
        body = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def write_record(path: Path, body: Mapping[str, Any]) -> None:
    """Replace a file by rename; the last of several writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(body, file)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
