"""Memory does not grow with objects: writing, reading and copying, as the kernel counts it.

A process of its own does each, since memory that was once taken is seldom given back, and what
obstore holds is invisible to Python's own counters.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.blob_servers import Service

# Of an upload and a download in parts there may be some ten parts in memory, whatever the size.
MOST_MIB = 200
LONG = [pytest.mark.long, pytest.mark.timeout(7200)]
PROGRAM = """
import re, sys
from pathlib import Path
from merlin.artifacts import open_store
from merlin.artifacts.folders import copy_object
url, megabytes = sys.argv[1], int(sys.argv[2])

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

store, other = open_store(url + "/a"), open_store(url + "/b")
for opened in (store, other):  # What a first use takes is not the object's.
    opened.write("small", [b"x"])
    list(opened.read("small"))
before = peak()
chunk = bytes(range(256)) * 4096
info = store.write("large", (chunk for _ in range(megabytes)))
assert info.size == megabytes << 20
assert sum(map(len, store.read("large"))) == info.size
copy_object(store, store.head("large"), other, "large")
assert other.head("large").size == info.size
store.delete("large")
other.delete("large")
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("service", "megabytes"),
    [
        pytest.param("local", 320),
        # S3 shares its code; Python's own counters see all that GCS takes (`StoreContract`).
        pytest.param("azurite_service", 320, marks=pytest.mark.parts("azurite")),
        # It keeps objects in memory.
        pytest.param("gcs_service", 320, marks=[*LONG, pytest.mark.parts("gcs-emulator")]),
        pytest.param("local", 10_240, marks=LONG),
        pytest.param("swift_service", 10_240, marks=[*LONG, pytest.mark.parts("swift")]),
        pytest.param("azurite_service", 10_240, marks=[*LONG, pytest.mark.parts("azurite")]),
    ],
)
def test_memory_is_flat(
    service: str, megabytes: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    environ, url = {}, tmp_path.as_uri()
    if service != "local":
        running: Service = request.getfixturevalue(service)
        bucket = f"large-{uuid.uuid4()}"
        running.make_bucket(bucket)
        scheme = {"swift_service": "s3", "azurite_service": "az", "gcs_service": "gs"}[service]
        environ, url = dict(running.environ), f"{scheme}://{bucket}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, str(megabytes)],
        check=True,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) / 1024 < MOST_MIB
