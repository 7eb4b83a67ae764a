"""The contract of stores, against every backend that comes with merlin."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from merlin.artifacts import ArtifactStore
from merlin.artifacts.contract import StoreContract, StreamsInConstantMemory
from merlin.artifacts.local import LocalStore
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.mlflow import MlflowArtifactStore


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> ArtifactStore:
        return MemoryStore()


class TestLocal(StoreContract, StreamsInConstantMemory):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ArtifactStore:
        return LocalStore(tmp_path / "blobs")


@pytest.mark.parts("mlflow")
class TestMlflow(StoreContract, StreamsInConstantMemory):
    creates_conditionally: ClassVar[bool] = False
    many: ClassVar[int] = 300  # The server answers whole folders.
    refused_keys: ClassVar[tuple[str, ...]] = (
        "hash#tag",
        "new\nline",
        "percent%41escape",
        "percent%2e%2e%2fescape",
    )

    @pytest.fixture
    def store(self, mlflow_server: str) -> Iterator[ArtifactStore]:
        store = MlflowArtifactStore(mlflow_server, f"tests/{uuid.uuid4()}")
        yield store
        store.close()
