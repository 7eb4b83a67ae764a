"""The server that the facts are about: the fake one, or the one of ``KUBECONFIG``."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from lightkube import Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace

from tests.fake_kubernetes import FakeCluster
from tests.kubernetes_facts.calls import Api


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    if os.environ.get("KUBECONFIG"):
        with Client(KubeConfig.from_env()) as real:
            yield real
        return
    with FakeCluster(strict=False) as cluster, cluster.client() as fake:
        cluster.compact()
        yield fake


@pytest.fixture
def namespace(client: Client) -> Iterator[str]:
    name = f"facts-{secrets.token_hex(4)}"
    client.create(Namespace(metadata=ObjectMeta(name=name)))
    yield name
    client.delete(Namespace, name)


@pytest.fixture
def api(client: Client, namespace: str) -> Api:
    return Api(client, namespace)
