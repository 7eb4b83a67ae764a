"""``python -m merlin_runtime``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from merlin_runtime.cli import main

if __name__ == "__main__":
    # `-m` puts the working folder first on the path. In an image that is the model folder, whose
    # `code/` would then shadow the standard library's module of that name.
    if sys.path and sys.path[0] in {"", str(Path.cwd())}:
        del sys.path[0]
    sys.exit(main(sys.argv[1:], os.environ))
