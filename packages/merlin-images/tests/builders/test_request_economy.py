"""How many requests a real registry gets, counted on the wire between it and the client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.builders.contract import CONDA, BuilderContract
from merlin_images.builders.native import NativeBuilder
from merlin_images.registry.credentials import Credential, StaticCredentials
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.manifests import read_links
from merlin_images.registry.reference import Reference
from merlin_images.registry.samples import push_image
from merlin_images.registry.slots import BODIES_AT_ONCE, Slots
from tests.faulty_proxy import FaultyProxy
from tests.registry_servers import (
    PASSWORD,
    PASSWORD_HASH,
    USER,
    docker_registry,
    serving,
)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FaultyProxy]:
    storage = RegistryStorage(tmp_path / "registry")
    with serving(storage) as host, FaultyProxy(f"http://{host}") as proxy:
        yield proxy


def asked(proxy: FaultyProxy) -> dict[str, int]:
    counted = Counter(each.method for each in proxy.asked)
    proxy.asked.clear()
    return dict(counted)


def test_pushing_an_image_asks_for_nothing_twice(
    proxy: FaultyProxy, small_base: str, make_cache: Callable[[], Path]
) -> None:
    registry = DistributionRegistry(proxy.host)
    builder = NativeBuilder(lambda _: registry, make_cache())
    store = MemoryStore()

    files = {"conda.yaml": CONDA.encode(), "python_model.pkl": b"pickle"}
    fraud = Reference(proxy.host, "team/fraud", tag="latest")
    wanted = BuilderContract.request_for(store, fraud, small_base, files)

    first = builder.build(wanted, Silent())
    blobs = len(first.layers) + 1
    large = sum(layer.size > 4 << 20 for layer in first.layers)
    # Is the image there; for each blob is it there and open an upload, which for a small one is one
    # request; send it; the manifest for two tags.
    assert asked(proxy) == {"HEAD": 1 + large, "POST": blobs, "PUT": blobs + 2}

    assert builder.build(wanted, Silent()).reused
    assert asked(proxy) == {"HEAD": 1}

    # The model's layer and the config are new, and nothing else is asked after.
    store.write("7/model/python_model.pkl", [b"another"])
    builder.build(wanted, Silent())
    assert asked(proxy) == {"HEAD": 1, "POST": 2, "PUT": 2 + 2}

    # In another repository one POST mounts what the registry has; the config names the model.
    churn = replace(fraud, repository="team/churn")
    builder.build(replace(wanted, target=churn, model_name="churn"), Silent())
    assert asked(proxy) == {"HEAD": 1, "POST": blobs, "PUT": 1 + 2}
    registry.close()


@pytest.mark.parts("docker-registry")
def test_looking_an_image_up_is_one_head_on_a_kept_connection(tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(f"{USER}:{PASSWORD_HASH}\n")
    access = {"auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}}
    with (
        docker_registry(tmp_path, access) as (host, _),
        FaultyProxy(f"http://{host}") as proxy,
    ):
        credentials = StaticCredentials(proxy.host, Credential(USER, PASSWORD))
        registry = DistributionRegistry(proxy.host, credentials=credentials)
        image = push_image(registry, Reference(proxy.host, "team/image", tag="1"))
        asked(proxy)
        connections = proxy.connections
        for tag, found in (("1", image), ("2", None), ("1", image)):
            assert registry.resolve(Reference(proxy.host, "team/image", tag=tag)) == found
            assert asked(proxy) == {"HEAD": 1}
        assert proxy.connections == connections
        registry.close()


def test_as_many_bodies_come_at_once_as_the_host_allows(proxy: FaultyProxy) -> None:
    """One budget a host, for all clients of the process: a reader too many waits."""
    registry = DistributionRegistry(proxy.host)
    home = Reference(proxy.host, "team/image", tag="1")
    image = push_image(registry, home)
    other = DistributionRegistry(proxy.host)
    _, body = other.read_manifest(home)
    layer = read_links(image.media_type, body).blobs[-1]
    slots = Slots.of(f"http://{proxy.host}/")
    readers = [
        (registry if number % 2 else other).read_blob(home, layer)
        for number in range(BODIES_AT_ONCE)
    ]
    assert not slots.down.acquire(blocking=False)
    for reader in readers:
        assert len(b"".join(reader)) == layer.size
    assert slots.down.acquire(blocking=False)
    slots.down.release()
    registry.close()
    other.close()
