"""Which failures are worth another try, and when."""

from __future__ import annotations

from datetime import timedelta
from random import Random

from merlin.artifacts.errors import StoreDenied
from merlin.errors import Kind, MerlinError
from merlin_images.environments.errors import IndexDenied
from merlin_images.registry.errors import RegistryDenied

BASE = timedelta(seconds=1)
CAP = timedelta(seconds=60)

_TRANSIENT = {Kind.UNAVAILABLE, Kind.UPSTREAM}
_REFUSALS = (IndexDenied, RegistryDenied, StoreDenied)
_TRIES = 3


def worth_retrying(error: Exception, attempt: int) -> bool:
    """Say whether the same work may well succeed later.

    What the outside world cannot do for now is tried until the deadline. A failure we have no name
    for gets two more tries, and so does who refuses our credentials, which may just be being
    renewed. Everything else would fail the same way again.
    """
    if isinstance(error, _REFUSALS):
        return attempt < _TRIES
    if isinstance(error, MerlinError) and error.kind is not Kind.INTERNAL:
        return error.kind in _TRANSIENT
    return attempt < _TRIES


def back_off(attempt: int, random: Random) -> timedelta:
    """Exponential with jitter: between half of and the whole of 1, 2, 4 ... 60 seconds."""
    ceiling = min(CAP, BASE * float(2 ** min(attempt - 1, 10)))
    return ceiling * random.uniform(0.5, 1.0)
