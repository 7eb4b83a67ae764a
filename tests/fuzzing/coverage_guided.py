"""Coverage-guided fuzzing of one target, with atheris: run by an interpreter that has it.

    PYTHONPATH=... python -m tests.fuzzing.coverage_guided TARGET SECONDS

Ends with an error, and the input in base64, at the first input that is neither taken nor refused.
"""

from __future__ import annotations

import base64
import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-not-found,unused-ignore] # it is in no lock of ours

with atheris.instrument_imports(include=["merlin_images", "packaging", "tarfile", "zipfile"]):
    from tests.fuzzing.targets import TARGETS, holds

_LARGEST_INPUT = 1 << 16


def main() -> None:
    name, seconds = sys.argv[1:]
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    numbers = itertools.count()

    def one(data: bytes) -> None:
        place = folder / str(next(numbers))
        place.mkdir()
        try:
            holds(target, data, place)
        except BaseException:
            print(f"{name} broke on: {base64.b64encode(data).decode()}", file=sys.stderr)
            raise
        finally:
            shutil.rmtree(place)

    options: list[Any] = [
        *(f"-max_total_time={seconds}", f"-max_len={_LARGEST_INPUT}", "-timeout=20"),
        *("-rss_limit_mb=2000", f"-artifact_prefix={folder}/", str(corpus)),
    ]
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
