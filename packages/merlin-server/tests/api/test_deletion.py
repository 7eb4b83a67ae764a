"""What a version or model logged goes with it, in the end, whatever the store says at first."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from merlin.artifacts.errors import StoreUnavailable
from merlin.artifacts.memory import MemoryStore
from merlin_server.operations.engine import Engine
from merlin_server.operations.virtual_time import VirtualClock
from merlin_server.settings import OperationsSettings
from merlin_server.tracking.artifacts import folder_of
from merlin_server.tracking.reconcile import TrackingDeletions


def test_artifacts_that_a_store_keeps_are_deleted_later(
    client: TestClient, server: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = client.get(made.version).json()
    store: MemoryStore = server.tracking.artifacts._store
    folder = folder_of(version["artifact_uri"])
    store.write(f"{folder}/model/a", [b"x"])
    store.write(f"{folder}0/model/a", [b"x"])

    def refuse(key: str) -> None:
        raise StoreUnavailable("Away.", key=key)

    monkeypatch.setattr(store, "delete", refuse)
    assert client.delete(made.version).status_code == 200
    assert client.get(made.version).status_code == 404
    assert server.rows()["operations"] == 1
    clock = VirtualClock()
    engine = Engine(
        server.database,
        [TrackingDeletions(server.tracking)],
        OperationsSettings(),
        owner="test",
        clock=clock,
    )
    assert engine.step()
    assert len(list(store.list())) == 2, "still refused"
    monkeypatch.undo()
    clock.advance(120)
    assert engine.step()
    assert [info.key for info in store.list()] == [f"{folder}0/model/a"]
    assert not engine.step()


def test_nothing_is_left_to_do_when_it_works_at_once(
    client: TestClient, server: Any, made: Any
) -> None:
    assert client.delete(made.version).status_code == 200
    assert server.rows()["operations"] == 0
