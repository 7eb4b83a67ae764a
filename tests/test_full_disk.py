"""A full disk: clear errors, nothing half done, and everything works again once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live_server import LiveServer, until
from tests.models import python_function


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        message = "needs the right to mount a tmpfs"
        if os.environ.get("MERLIN_REQUIRE_ALL") == "1" and os.geteuid() == 0:
            pytest.fail(message)
        pytest.skip(message)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_and_recovers(small_disk: Path, cache_dir: Path) -> None:
    with LiveServer(small_disk / "data", cache_dir) as server:
        project = server.post("/v1/projects", {"name": "full"})
        model = server.post(
            f"/v1/projects/{project['id']}/models", {"name": "full", "type": "pyfunc"}
        )
        version = server.post(f"/v1/models/{model['id']}/versions", {})
        path = version["artifact_uri"].removeprefix("mlflow-artifacts:/")
        proxy = f"/api/2.0/mlflow-artifacts/artifacts/{path}"

        filler = small_disk / "filler"
        room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        filler.write_bytes(bytes(max(0, room - 4 * 2**20)))
        refused = server.call("PUT", f"{proxy}/model/large.bin", content=bytes(32 * 2**20))
        assert refused.status_code == 507, refused.text
        assert "space" in refused.text.lower()
        listed = server.get(f"/api/2.0/mlflow-artifacts/artifacts?path={path}/model").json()
        assert listed.get("files", []) == []

        filler.unlink()
        server.upload(version["artifact_uri"], python_function("return {'ok': 1}"))
        assert server.get("/v1/internal/ready").status_code == 200
        until(lambda: server.get("/v1/projects").status_code == 200, seconds=5)
        assert server.stop() == 0
