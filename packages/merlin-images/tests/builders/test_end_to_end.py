"""A real model on a base made from Debian packages: pushed, pulled by others, run, asked."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import joblib
import pytest
import uvicorn
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from merlin.artifacts.local import LocalStore
from merlin.progress import Silent
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest, ModelSource
from merlin_images.image.locations import locate
from merlin_images.image.validate import validate
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.embedded.app import create_registry_app
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.reference import Reference


@contextmanager
def served(storage: RegistryStorage) -> Iterator[str]:
    """The built-in registry over HTTP; yields its host and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_registry_app(storage), log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def container(image: str) -> Iterator[str]:
    """Run an image with runc, away from all storage of this machine; yields its address."""
    # Not below pytest's folder: sockets lie here, and their paths must be short.
    root = Path(tempfile.mkdtemp(prefix="pod-"))
    podman = [
        *("podman", "--root", str(root / "root"), "--runroot", str(root / "run")),
        *("--runtime", "runc", "--cgroup-manager", "cgroupfs"),
    ]
    run = [
        *("run", "--rm", "--network", "host"),
        *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
        *("--read-only", "--cap-drop", "all", image, "--port", "0", "--host", "127.0.0.1"),
    ]
    try:
        pull = [*podman, "pull", "--quiet", "--tls-verify=false", image]
        subprocess.run(pull, check=True, timeout=240, stdout=subprocess.DEVNULL)
        process = subprocess.Popen([*podman, *run], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            lines = (json.loads(line) for line in process.stderr if line.startswith("{"))
            ready = next(line for line in lines if line.get("event") == "listening")
            yield f"http://127.0.0.1:{ready['port']}"
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0, "it drains and ends by itself"
    finally:
        shutil.rmtree(root)


def until_ready(client: httpx2.Client, address: str) -> None:
    deadline = time.monotonic() + 60
    while client.get(f"{address}/readyz").status_code != httpx2.codes.OK:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parts("skopeo", "podman")
def test_an_image_built_here_runs_anywhere(tmp_path: Path) -> None:
    features, classes = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, classes)
    (tmp_path / "model").mkdir()
    joblib.dump(model, tmp_path / "model/model.joblib")
    storage = RegistryStorage(tmp_path / "registry")
    with served(storage) as host, closing(DistributionRegistry(host)) as registry:
        request = BuildRequest(
            model=ModelSource(LocalStore(tmp_path / "model"), ""),
            target=Reference(host, "demo/cancer", tag="1"),
            model_type="sklearn",
            model_name="cancer",
            version="1",
            python="3.11",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            base="debian:",
        )
        built = NativeBuilder(lambda _: registry, tmp_path / "cache").build(request, Silent())

        folder = tmp_path / "pulled"
        subprocess.run(
            [
                *("skopeo", "copy", "--quiet", "--src-tls-verify=false"),
                *(f"docker://{request.target}", f"oci:{folder}:cancer"),
            ],
            check=True,
        )
        pulled, reference = locate(f"layout:{folder}:cancer", lambda _: registry)
        found = validate(pulled, reference, Silent())
        assert found.digest == built.reference.digest

        with container(str(request.target)) as address, httpx2.Client(timeout=60) as client:
            until_ready(client, address)
            answer = client.post(
                f"{address}/v1/models/cancer-1:predict", json={"instances": features.tolist()}
            )
            answer.raise_for_status()
            assert answer.json()["predictions"] == model.predict(features).tolist()
