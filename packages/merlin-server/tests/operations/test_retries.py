"""Which failures an operation tries again."""

from __future__ import annotations

import pytest

from merlin.artifacts.errors import StoreDenied, StoreUnavailable
from merlin.errors import MerlinError
from merlin_images.environments.errors import EnvironmentInvalid, IndexDenied
from merlin_images.registry.errors import RegistryDenied
from merlin_server.operations.retries import worth_retrying


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (StoreUnavailable("away"), 100),
        (RegistryDenied("refused"), 3),
        (StoreDenied("refused"), 3),
        (IndexDenied("refused"), 3),
        (RuntimeError("odd"), 3),
        (MerlinError("odd"), 3),
        (EnvironmentInvalid("wrong"), 1),
    ],
)
def test_how_often_a_failure_is_tried(error: Exception, tries: int) -> None:
    """A wrong password is told within seconds, not at the deadline of the build."""
    attempts = 1
    while attempts < 100 and worth_retrying(error, attempts):
        attempts += 1
    assert attempts == tries
