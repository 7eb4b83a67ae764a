"""The contract of registries, against every backend and over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from merlin_images.registry.contract import RegistryContract
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.port import ImageRegistry


class TestMemory(RegistryContract):
    @pytest.fixture
    def registry(self) -> ImageRegistry:
        return MemoryRegistry()


class TestLayout(RegistryContract):
    shares_blobs: ClassVar[bool] = True

    @pytest.fixture
    def registry(self, tmp_path: Path) -> ImageRegistry:
        return LayoutRegistry(tmp_path / "layout")


class TestEmbeddedStorage(RegistryContract):
    @pytest.fixture
    def registry(self, storage: RegistryStorage) -> ImageRegistry:
        return storage


class TestEmbeddedOverHttp(RegistryContract):
    @pytest.fixture
    def registry(self, served: str) -> Iterator[ImageRegistry]:
        registry = DistributionRegistry(served)
        yield registry
        registry.close()


@pytest.mark.parts("docker-registry")
class TestDockerRegistry(RegistryContract):
    deletes_tags: ClassVar[bool] = False
    links_atomically: ClassVar[bool] = False

    @pytest.fixture
    def registry(self, docker_registry: str) -> Iterator[ImageRegistry]:
        registry = DistributionRegistry(docker_registry)
        yield registry
        registry.close()
