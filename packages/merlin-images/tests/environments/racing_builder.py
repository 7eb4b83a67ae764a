"""One builder of several that lock the same environment at once; a process of its own.

``python racing_builder.py STORE CACHE UV THREADS`` says ``ready``, waits for a line on stdin, and
writes the lock that each thread got, as a line of JSON.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from merlin.artifacts import open_store
from merlin.progress import Silent
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Target


def main(store: str, cache: str, uv: str, threads: str) -> None:
    resolver = Resolver(Path(cache), uv=Path(uv), store=open_store(store))
    spec = EnvironmentSpec("3.11", ("six==1.17.0",))

    def lock(_: int) -> str:
        target = Target("x86_64-manylinux_2_28", "3.11")
        return resolver.lock(spec, target, runtime_requirements=(), progress=Silent()).text

    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(int(threads)) as pool:
        print(json.dumps(list(pool.map(lock, range(int(threads))))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
