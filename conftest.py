"""What every test of the workspace shares: the rule for real parts that may be missing."""

from __future__ import annotations

import os

import pytest

from scripts.parts import DEBIAN_PARTS, installed


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose parts are missing, or fail it where all must be there."""
    for marker in item.iter_markers("parts"):
        missing = [part for part in marker.args if part in DEBIAN_PARTS and not installed(part)]
        if not missing:
            continue
        message = f"needs {', '.join(missing)}: run `make parts`"
        if os.environ.get("MERLIN_REQUIRE_ALL") == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
