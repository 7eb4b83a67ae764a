from __future__ import annotations

from collections.abc import Callable

import pytest

from merlin.artifacts.memory import MemoryStore
from merlin_server.deployers.contract import DeployerContract, MakeRevision
from merlin_server.deployers.memory import MemoryCluster, MemoryDeployer, Outcome
from merlin_server.deployers.port import Deployer, RevisionSpec


def outcome(spec: RevisionSpec) -> Outcome:
    return Outcome(spec.env["OUTCOME"])


class TestMemoryDeployer(DeployerContract):
    @pytest.fixture
    def cluster(self) -> MemoryCluster:
        return MemoryCluster(decide=outcome)

    @pytest.fixture
    def deployer(self, cluster: MemoryCluster) -> Deployer:
        return MemoryDeployer(cluster)

    @pytest.fixture
    def reopen(self, cluster: MemoryCluster) -> Callable[[], Deployer]:
        def reopen() -> Deployer:
            cluster.lose_processes()
            return MemoryDeployer(cluster)

        return reopen

    @pytest.fixture
    def revision(self) -> MakeRevision:
        def make(name: str, *, breaks: bool = False) -> RevisionSpec:
            return RevisionSpec(
                name=name,
                project="fraud",
                model="cards",
                version="1",
                full_name="cards-1",
                model_type="sklearn",
                image="",
                python="3.11",
                lock_key="",
                lock_text="",
                store=MemoryStore(),
                folder="",
                env={"OUTCOME": "crashes" if breaks else "ready"},
            )

        return make
