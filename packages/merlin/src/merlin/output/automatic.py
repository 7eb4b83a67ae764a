"""Progress that shows itself where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from merlin.output.streams import open_progress
from merlin.progress import Progress, Silent


@contextmanager
def shown(progress: Progress | None = None) -> Iterator[Progress]:
    """Yield the progress given; without one, a live one on a terminal, a silent one elsewhere."""
    if progress is not None:
        yield progress
    elif sys.stderr is not None and sys.stderr.isatty():
        with open_progress(sys.stderr, as_json=False) as live:
            yield live
    else:
        yield Silent()
