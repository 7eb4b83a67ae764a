from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import yaml

from merlin.artifacts.local import LocalStore
from merlin.model import PyFuncModel
from merlin.progress import Silent
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Lock, Target
from merlin_images.environments.runtime_requirements import runtime_requirements
from merlin_server.deployers.port import RevisionSpec
from merlin_server.deployers.process.deployer import ProcessDeployer
from merlin_server.deployers.process.supervisor import RestartPolicy

IMPATIENT = RestartPolicy(first=0.05, longest=0.2, healthy=60)

MLMODEL = yaml.safe_dump(
    {
        "flavors": {
            "python_function": {
                "loader_module": "mlflow.pyfunc.model",
                "python_model": "python_model.pkl",
                "artifacts": {},
            }
        }
    }
)


def model_folder(*, initialize: str = "pass", infer: str = "return request") -> dict[str, bytes]:
    """An MLflow pyfunc folder whose class does this, pickled by value as from a notebook."""
    source = (
        "class UserModel(PyFuncModel):\n"
        f"    def initialize(self, artifacts):\n        {initialize}\n"
        f"    def infer(self, request, **kwargs):\n        {infer}\n"
    )
    names: dict[str, Any] = {"PyFuncModel": PyFuncModel, "__name__": "__main__"}
    exec(source, names)
    return {
        "MLmodel": MLMODEL.encode(),
        "python_model.pkl": cloudpickle.dumps(names["UserModel"]()),
    }


@pytest.fixture(scope="session")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Lock:
    """What a pyfunc model needs, resolved for real."""
    return Resolver(tmp_path_factory.mktemp("locks")).lock(
        EnvironmentSpec("3.11", ("cloudpickle",)),
        Target("x86_64-manylinux_2_28", "3.11"),
        runtime_requirements=runtime_requirements(),
        progress=Silent(),
    )


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the environment is installed once."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def data_dir(tmp_path: Path, environments: Path) -> Path:
    (tmp_path / "environments").symlink_to(environments)
    return tmp_path


@pytest.fixture
def process_revision(lock: Lock, tmp_path: Path) -> Callable[..., RevisionSpec]:
    def make(name: str, *, env: dict[str, str] | None = None, **model: str) -> RevisionSpec:
        store = LocalStore(tmp_path / "blobs" / name)
        for path, content in model_folder(**model).items():
            store.write(f"1/run/artifacts/model/{path}", [content])
        return RevisionSpec(
            name=name,
            project="fraud",
            model="cards",
            version="1",
            full_name="cards-1",
            model_type="pyfunc",
            image="",
            python="3.11",
            lock_key=lock.key,
            lock_text=lock.text,
            store=store,
            folder="1/run/artifacts/model",
            env=env or {},
        )

    return make


@pytest.fixture
def open_process(data_dir: Path) -> Iterator[Callable[[], ProcessDeployer]]:
    """Opens the deployer on the shared folder; leaves nothing deployed."""
    opened: list[ProcessDeployer] = []

    def open_one() -> ProcessDeployer:
        opened.append(ProcessDeployer(data_dir, os.environ, policy=IMPATIENT))
        return opened[-1]

    yield open_one
    for deployer in reversed(opened):
        for name in deployer.names():
            deployer.stop(name, grace_seconds=0)
        deployer.close()
