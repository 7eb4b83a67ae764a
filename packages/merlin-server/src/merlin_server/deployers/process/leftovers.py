"""Processes that a dead server left behind, found by a mark in their environment.

The mark names the deployer's folder. It is set before anything else runs in a process, inherited
by whatever that starts, and cannot be taken back, so no list on disk can be out of step with it:
a process id reused by a stranger is never killed, and a worker whose parent is gone is found.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

MARK = "MERLIN_DEPLOYMENTS_DIR"


def mark(folder: Path) -> dict[str, str]:
    """Return the variable that every process started for the folder must carry."""
    return {MARK: str(folder.resolve())}


def kill_leftovers(folder: Path, proc: Path = Path("/proc")) -> list[int]:
    """Kill every process that carries the folder's mark; return their ids. Linux only."""
    wanted = f"{MARK}={folder.resolve()}".encode()
    killed = []
    for environ in proc.glob("[0-9]*/environ"):
        pid = int(environ.parent.name)
        try:
            if pid != os.getpid() and wanted in environ.read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        except OSError:
            continue  # It ended meanwhile, or is another user's.
    return killed
