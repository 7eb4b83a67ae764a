"""A cluster, and a driver that never waits for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lightkube import KubeConfig

from merlin_images.builders.jobs.cluster import Cluster
from merlin_images.builders.jobs.driver import JobDriver
from tests.fake_kubernetes import FakeCluster

NAMESPACE = "mlp"


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with FakeCluster(back_off_seconds=0) as running:
        running.create_namespace(NAMESPACE)
        yield running


@pytest.fixture
def connect(fake: FakeCluster) -> Iterator[Callable[[], Cluster]]:
    """Opens connections, each like that of another replica of the server."""
    opened: list[Cluster] = []

    def open_one() -> Cluster:
        config = KubeConfig.from_dict(fake.kubeconfig()).get()
        assert config
        opened.append(Cluster(config, NAMESPACE, trust_env=False))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def cluster(connect: Callable[[], Cluster]) -> Cluster:
    return connect()


@pytest.fixture
def driver(cluster: Cluster) -> JobDriver:
    return new_driver(cluster)


def new_driver(cluster: Cluster, *, patience: int = 20) -> JobDriver:
    """A driver whose clock is the number of its pauses: it is out of patience after so many."""
    pauses: list[float] = []
    return JobDriver(
        cluster,
        patience_seconds=patience,
        look_seconds=1,
        monotonic=lambda: float(len(pauses)),
        pause=pauses.append,
    )
