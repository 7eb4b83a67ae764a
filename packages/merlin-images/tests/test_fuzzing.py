"""Every reader of what strangers wrote: takes an input or refuses it, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzzing.targets import TARGETS, holds
from tests.peers import environment_with

ROOT = Path(__file__).resolve().parents[3]
# Small numbers, limits of fields, and what means something in the formats.
_TOKENS = [
    *(b"", b"\0", b"\xff" * 8, b"../", b"/", b"\n", b"\x1b[31m", b"-1", b"99999999999999999999"),
    *(
        b"[" * 2000,
        b'{"a":',
        b"null",
        b"NaN",
        b'"\\ud800"',
        b".wh.",
        "é".encode(),
        b"\x80" + b"\0" * 7,
    ),
]


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A valid input with a few places overwritten, cut out or repeated; or noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 0, 1, 1, 4, 8, 100]))
        piece = draw(
            st.one_of(
                st.sampled_from(_TOKENS),
                st.binary(min_size=1, max_size=8),
                st.just(data[start : start + length] * 2),
            )
        )
        data = data[:start] + piece + data[start + length :]
    return data


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_seeds_are_taken(name: str, tmp_path: Path) -> None:
    for number, data in enumerate(TARGETS[name].seeds):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert holds(TARGETS[name], data, folder)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_any_input_is_taken_or_refused(name: str) -> None:
    _fuzz(name, examples=120)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_many_inputs_are_taken_or_refused(name: str) -> None:
    _fuzz(name, examples=5000)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_coverage_guided(name: str) -> None:
    """Atheris looks for a minute; it is installed into an environment of its own."""
    python = environment_with(["atheris==3.0.0"])
    path = [str(ROOT), *sys.path, sysconfig.get_path("purelib")]
    done = subprocess.run(
        [python, "-m", "tests.fuzzing.coverage_guided", name, "60"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _fuzz(name: str, *, examples: int) -> None:
    target = TARGETS[name]

    @seed(20260101)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        # A busy machine is slow at drawing, and that is no failure.
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(data=mutated(target.seeds))
    def run(data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            holds(target, data, Path(folder))

    run()
