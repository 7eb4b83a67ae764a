"""`merlin up` with its metadata in PostgreSQL: the same server, also after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import peers
from tests.live_server import LiveServer, until
from tests.models import python_function


@pytest.mark.parts("postgres")
def test_deploys_and_comes_back_after_a_kill(tmp_path: Path, cache_dir: Path) -> None:
    with peers.postgres() as url:
        config = tmp_path / "merlin.yaml"
        # A short lease: what the killed server held is taken over within the test.
        config.write_text(f"database_url: {url}\noperations:\n  lease_seconds: 3\n")
        with LiveServer(tmp_path / "data", cache_dir, "--config", str(config)) as server:
            project = server.post("/v1/projects", {"name": "durable"})
            model = server.post(
                f"/v1/projects/{project['id']}/models", {"name": "answer", "type": "pyfunc"}
            )
            version = server.post(f"/v1/models/{model['id']}/versions", {})
            server.upload(version["artifact_uri"], python_function("return {'answer': 42}"))
            path = f"/v1/models/{model['id']}/versions/{version['id']}/endpoint"
            one = f"{path}/{server.post(path, {})['id']}"

            server.kill()
            server.start()
            until(lambda: server.get(one).json()["status"] == "running", seconds=90)
            predict = f"{server.get(one).json()['url'].removeprefix(server.url)}:predict"
            until(lambda: server.call("POST", predict, json={}).status_code == 200, seconds=30)
            assert server.call("POST", predict, json={}).json() == {"answer": 42}
            assert len(server.model_processes()) == 1
            assert server.stop() == 0
            assert server.model_processes() == []
