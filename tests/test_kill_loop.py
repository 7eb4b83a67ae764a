"""`kill -9` at random moments: nothing acknowledged is lost, nothing hangs, nothing is left behind.

Each round starts the server, waits until every row is final or live, checks what the last kill
could have broken, then changes things at random until it is killed in the middle of that. The seed
is part of the test's name; `make test-long` kills 200 times.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from merlin.progress import Silent
from merlin_images.image.validate import validate
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.reference import Reference
from tests.live_server import LiveServer, until
from tests.models import python_function

SETTLE_SECONDS = 60
FINAL_OR_LIVE = {"running", "serving", "failed", "terminated"}


class Client:
    """Changes things at random and remembers what the server acknowledged."""

    def __init__(self, server: LiveServer, chance: random.Random, model_id: int) -> None:
        self._server = server
        self._chance = chance
        self.model_id = model_id
        self.versions: dict[int, int] = {}
        self.endpoints: dict[str, int] = {}

    def change_until_the_server_dies(self) -> None:
        try:
            while True:
                self._change()
        except httpx2.TransportError:
            return

    def _change(self) -> None:
        live = [uuid for uuid in self.endpoints if self._status(uuid) in {"running", "serving"}]
        choice = self._chance.random()
        if choice < 0.35 or not self.versions:
            self._log_version()
        elif choice < 0.6:
            self._deploy(self._chance.choice(list(self.versions)))
        elif live and choice < 0.8:
            self._redeploy(self._chance.choice(live))
        elif live:
            uuid = self._chance.choice(live)
            self._server.call("DELETE", f"{self._path(self.endpoints[uuid])}/{uuid}")

    def _log_version(self) -> None:
        version = self._server.post(f"/v1/models/{self.model_id}/versions", {})
        number = self._chance.randrange(10**6)
        self._server.upload(
            version["artifact_uri"], python_function(f"return {{'number': {number}}}")
        )
        self.versions[version["id"]] = number

    def _deploy(self, version: int) -> None:
        answer = self._server.call("POST", self._path(version), json={})
        # 400 says that the version is deployed already, or that two versions of the model are.
        assert answer.status_code in {201, 400}, answer.text
        if answer.status_code == 201:
            self.endpoints[answer.json()["id"]] = version

    def _redeploy(self, uuid: str) -> None:
        path = f"{self._path(self.endpoints[uuid])}/{uuid}"
        body = self._server.get(path).json()
        answer = self._server.call("PUT", path, json={**body, "status": body["status"]})
        assert answer.status_code in {200, 400}, answer.text

    def _status(self, uuid: str) -> str:
        path = f"{self._path(self.endpoints[uuid])}/{uuid}"
        return str(self._server.get(path).json()["status"])

    def _path(self, version: int) -> str:
        return f"/v1/models/{self.model_id}/versions/{version}/endpoint"

    def check(self) -> None:
        """Everything acknowledged is there, settled, and answers what it should."""
        versions = self._server.get(f"/v1/models/{self.model_id}/versions").json()
        assert set(self.versions) <= {version["id"] for version in versions}
        until(lambda: self._all_settled(versions), seconds=SETTLE_SECONDS)
        running = 0
        for endpoint in self._all_endpoints(versions):
            if endpoint["status"] in {"running", "serving"}:
                running += 1
                url = f"{endpoint['url'].removesuffix(':predict')}:predict"
                until(lambda url=url: self._predict(url).status_code == 200, seconds=SETTLE_SECONDS)
                number = self.versions.get(endpoint["version_id"])
                assert number is None or self._predict(url).json() == {"number": number}
        known = {endpoint["id"] for endpoint in self._all_endpoints(versions)}
        assert set(self.endpoints) <= known
        until(lambda: len(self._server.model_processes()) == running, seconds=SETTLE_SECONDS)

    def _all_settled(self, versions: list[dict[str, Any]]) -> bool:
        return all(
            endpoint["status"] in FINAL_OR_LIVE for endpoint in self._all_endpoints(versions)
        )

    def _all_endpoints(self, versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            endpoint
            for version in versions
            for endpoint in self._server.get(self._path(version["id"])).json()
        ]

    def _predict(self, url: str) -> httpx2.Response:
        return httpx2.post(url, json={}, timeout=30)


@pytest.mark.parametrize(
    ("kills", "seed"),
    [
        pytest.param(8, 1, id="8-kills-seed-1"),
        pytest.param(
            200, 2, id="200-kills-seed-2", marks=[pytest.mark.long, pytest.mark.timeout(3600)]
        ),
    ],
)
def test_no_kill_loses_or_leaves_anything(
    kills: int, seed: int, tmp_path: Path, cache_dir: Path
) -> None:
    chance = random.Random(seed)
    with LiveServer(tmp_path / "data", cache_dir) as server:
        project = server.post("/v1/projects", {"name": "kills"})
        model = server.post(
            f"/v1/projects/{project['id']}/models", {"name": "number", "type": "pyfunc"}
        )
        client = Client(server, chance, model["id"])
        known: set[str] = set()
        for _ in range(kills):
            changes = threading.Thread(target=client.change_until_the_server_dies)
            changes.start()
            changes.join(timeout=chance.uniform(0, 4))
            server.kill()
            changes.join()
            server.start()
            client.check()
            _no_image_is_half_pushed(server.data_dir / "registry", known)
        assert server.stop() == 0
        assert server.model_processes() == []


def _no_image_is_half_pushed(root: Path, known: set[str]) -> None:
    """Recompute every digest of each image that was not seen before; ``known`` grows."""
    registry = RegistryStorage(root)
    repository = Reference(host="builtin", repository="kills/number")
    if not root.joinpath("repositories").exists():
        return
    for tag in list(registry.tags(repository)):
        found = registry.resolve(repository.at_tag(tag))
        assert found is not None, f"tag {tag} names nothing"
        if found.digest not in known:
            validate(registry, repository.at_tag(tag), Silent())
            known.add(found.digest)
