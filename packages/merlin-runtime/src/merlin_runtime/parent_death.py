"""End this process when the one that started it ends, however that one ends."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading

_PR_SET_PDEATHSIG = 1


def exit_with(parent: int) -> None:
    """Arrange that this process is killed (SIGKILL) once process ``parent`` is gone. Linux only.

    ``parent`` must be our parent. If it is gone already, this call does not return.
    """
    try:
        handle = os.pidfd_open(parent)
    except ProcessLookupError:
        _die()
    except (AttributeError, OSError):
        _exit_with_parent_thread()
    else:
        threading.Thread(
            target=_die_when_readable, args=(handle,), name="parent-watch", daemon=True
        ).start()
    # Only now is a parent noticed that died before the watch began and whose id was taken since.
    if os.getppid() != parent:
        _die()


def _die_when_readable(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll()
    _die()


def _exit_with_parent_thread() -> None:
    # A kernel without pidfd (before Linux 5.3). This signal comes when the parent's *thread* that
    # started us ends, so a parent that starts us from short-lived threads would lose us: hence
    # only the second choice.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
