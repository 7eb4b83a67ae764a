"""Every image registry with every blob store: a version is logged, built, looked for and deleted.

Each case is a server of its own, configured by a settings file and the environment alone. Whoever
adds a registry or a store adds a line to one of the two tables.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from merlin import MerlinClient
from merlin.artifacts.azure import open_azure
from merlin.artifacts.gcs import GcsStore, open_gcs
from merlin.artifacts.local import LocalStore
from merlin.artifacts.mlflow import MlflowArtifactStore, open_mlflow
from merlin.artifacts.s3 import open_s3
from merlin.artifacts.store import ArtifactStore
from merlin.client.versions import ModelVersion
from merlin.model import ModelType
from merlin_images.environments.shared_locks import FOLDER
from merlin_images.registry.port import Deletes
from merlin_images.registry.reference import parse_reference
from tests import peers, registry_servers
from tests.blob_servers import CannotInstall, Service, azurite, gcs_emulator, moto, swift
from tests.live_server import LiveServer, until
from tests.models import python_function
from tests.registry_servers import RegistryPlace
from tests.small_base import write_base

REGISTRIES: dict[str, Callable[[Path], AbstractContextManager[RegistryPlace]]] = {
    "builtin": registry_servers.builtin,
    "layout": registry_servers.layout,
    "docker": registry_servers.docker,
    "docker-password": registry_servers.docker_with_password,
    "docker-tls": registry_servers.docker_with_tls,
}


@dataclass(frozen=True)
class StorePlace:
    """``url`` of a new root in the store; ``environ`` is what the server's environment needs.
    ``look`` opens the root for the test; nobody can look into a process."""

    url: str
    environ: Mapping[str, str] = field(default_factory=dict)
    look: Callable[[], ArtifactStore] | None = None


NewRoot = Callable[[], StorePlace]


@contextlib.contextmanager
def a_folder(folder: Path) -> Iterator[NewRoot]:
    numbers = itertools.count()

    def new() -> StorePlace:
        root = folder / f"blobs{next(numbers)}"
        return StorePlace(root.as_uri(), look=lambda: LocalStore(root))

    yield new


@contextlib.contextmanager
def memory(folder: Path) -> Iterator[NewRoot]:
    del folder
    yield lambda: StorePlace("memory://matrix")


@contextlib.contextmanager
def mlflow(folder: Path) -> Iterator[NewRoot]:
    """A real MLflow server, which cannot create an object only if it is absent."""
    with peers.mlflow_server(folder) as server:
        numbers = itertools.count()

        def new() -> StorePlace:
            url = f"mlflow-artifacts://{server.partition('://')[2]}/root{next(numbers)}"
            return StorePlace(url, look=lambda: open_mlflow(url))

        yield new


def bucket(
    start: Callable[[Path], AbstractContextManager[Service]],
    scheme: str,
    opener: Callable[[str, Mapping[str, str]], ArtifactStore],
) -> Callable[[Path], AbstractContextManager[NewRoot]]:
    """A service of buckets: each root is a folder of one."""

    @contextlib.contextmanager
    def started(folder: Path) -> Iterator[NewRoot]:
        with start(folder) as service:
            service.make_bucket("models")
            numbers = itertools.count()

            def new() -> StorePlace:
                url = f"{scheme}://models/platform{next(numbers)}"
                return StorePlace(url, service.environ, lambda: opener(url, service.environ))

            yield new

    return started


STORES: dict[str, Callable[[Path], AbstractContextManager[NewRoot]]] = {
    "folder": a_folder,
    "memory": memory,
    "s3-swift": bucket(swift, "s3", open_s3),
    "s3-moto": bucket(moto, "s3", open_s3),
    "azurite": bucket(azurite, "az", open_azure),
    "gcs-emulator": bucket(gcs_emulator, "gs", open_gcs),
    "mlflow": mlflow,
}


class Parts:
    """Registries and stores of this run, each started when the first case asks for it."""

    def __init__(self, folders: pytest.TempPathFactory, stack: ExitStack) -> None:
        self._folders = folders
        self._stack = stack
        self._registries: dict[str, RegistryPlace] = {}
        self._stores: dict[str, NewRoot] = {}

    def registry(self, name: str) -> RegistryPlace:
        if name not in self._registries:
            self._registries[name] = self._started(name, REGISTRIES[name])
        return self._registries[name]

    def store(self, name: str) -> StorePlace:
        if name not in self._stores:
            self._stores[name] = self._started(name, STORES[name])
        return self._stores[name]()

    def _started(self, name: str, start: Callable[[Path], AbstractContextManager[Any]]) -> Any:
        try:
            return self._stack.enter_context(start(self._folders.mktemp(name)))
        except CannotInstall as error:
            peers.missing(str(error))


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with ExitStack() as stack:
        yield Parts(tmp_path_factory, stack)


@dataclass(frozen=True)
class Case:
    """A running server on one registry and one store."""

    registry: RegistryPlace
    store: StorePlace
    server: LiveServer


@pytest.fixture
def case(
    request: pytest.FixtureRequest,
    parts: Parts,
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Case]:
    registry_name, store_name = request.param
    registry, store = parts.registry(registry_name), parts.store(store_name)
    settings = {
        "artifacts_url": store.url,
        "registry": dict(registry.settings),
        "images": {"base": write_base(tmp_path / "base")},
    }
    (tmp_path / "merlin.yaml").write_text(yaml.safe_dump(settings))
    for name, value in {**store.environ, **registry.environ}.items():
        monkeypatch.setenv(name, value)
    options = ("--config", str(tmp_path / "merlin.yaml"))
    with LiveServer(tmp_path / "data", cache_dir, *options) as server:
        yield Case(registry, store, server)
        assert server.stop() == 0


def _cases() -> Iterator[Any]:
    """All pairs; those that have every registry and every store once are enough for a quick run."""
    registries, stores = list(REGISTRIES), list(STORES)
    rounds = range(max(len(registries), len(stores)))
    quick = {(registries[at % len(registries)], stores[at % len(stores)]) for at in rounds}
    for pair in itertools.product(registries, stores):
        marks = [] if pair in quick else [pytest.mark.long]
        yield pytest.param(pair, id="-with-".join(pair), marks=marks)


@pytest.mark.parametrize("case", list(_cases()), indirect=True)
def test_a_version_from_first_to_last(case: Case, tmp_path: Path) -> None:
    version = _logged(case, tmp_path / "model")
    assert version.image().existence.state == "absent"
    assert not version.image().exists

    image = version.build_image()
    assert image.existence.state == "present"
    assert image.report is not None
    assert image.existence.digest == image.report["digest"]
    registry = case.registry.look(case.server.url)
    reference = parse_reference(image.image_ref)
    found = registry.resolve(reference)
    assert found is not None
    assert found.digest == image.existence.digest
    _check_dependencies(case, image.report["dependency_hash"])

    if case.registry.down is not None:
        with case.registry.down():
            asked = version.image()
        assert asked.existence.state == "unknown"
        assert case.registry.settings["prefix"].partition("/")[0] in asked.existence.reason
        assert asked.exists
        assert version.image().existence == image.existence

    assert isinstance(registry, Deletes)
    registry.delete_manifest(reference)
    assert version.image().existence.state == "absent"

    version.delete_model_version()
    _check_deleted(case, version)


def _logged(case: Case, folder: Path) -> ModelVersion:
    folder.mkdir()
    for name, content in python_function("return {}").items():
        (folder / name).write_bytes(content)
    project = MerlinClient(case.server.url).get_or_create_project("matrix")
    version = project.get_or_create_model("small", ModelType.PYFUNC_V2).new_model_version()
    version.log_artifacts(folder, "model")
    return version


def _check_dependencies(case: Case, dependency_hash: str) -> None:
    """Environment and lock are in the new store, though this machine had the lock before."""
    with _looking(case.store) as store:
        if store is not None:
            names = [info.key for info in store.list(f"{FOLDER}/{dependency_hash}")]
            environment, lock = (name.rpartition("/")[2] for name in names)
            assert environment == "environment.json"
            assert lock.startswith("pylock.x86_64-manylinux_2_28-py311-")


def _check_deleted(case: Case, version: ModelVersion) -> None:
    """Nothing of the version is left; what other versions share is."""
    assert version.model.list_version() == []
    folder = version.artifact_uri.removeprefix("mlflow-artifacts:/")
    with _looking(case.store) as store:
        if store is not None:
            until(lambda: not list(store.list(folder)), seconds=30)
            assert len(list(store.list(FOLDER))) == 2


@contextlib.contextmanager
def _looking(place: StorePlace) -> Iterator[ArtifactStore | None]:
    store = place.look() if place.look else None
    yield store
    if isinstance(store, GcsStore | MlflowArtifactStore):
        store.close()
