"""The Dockerfiles, built for real: fetched from S3, built by buildah, pushed, run and asked.

What stands for an official Python image is a base assembled from Debian packages, with pip on it.
Packages come from an index on this machine that has the wheels which the native builder locked.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import httpx2
import pytest

from merlin.artifacts.s3 import open_s3
from merlin.cli.main import run
from merlin.model import PyFuncV2Model
from merlin.progress import Silent
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest, ModelSource
from merlin_images.environments.download import WheelCache
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Target
from merlin_images.environments.runtime_requirements import runtime_requirements
from merlin_images.image.base_images import BaseImages
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.open import open_registry
from merlin_images.registry.reference import Reference, parse_reference
from tests import peers
from tests.blob_servers import CannotInstall, Service, moto
from tests.buildah import Buildah, BuildFailed
from tests.containers import Podman, until_ready
from tests.models import python_function
from tests.registry_servers import docker_registry
from tests.wheel_index import serving_wheels

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Place:
    """Where all of this happens. ``python_image`` stands for an official Python image; ``index`` is
    the URL of a package index; ``store`` a service whose bucket ``models`` holds the model."""

    buildah: Buildah
    python_image: str
    index: str
    folder: Path
    store: Service
    registry: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("dockerfiles")
    (folder / "registry").mkdir()
    (folder / "s3").mkdir()
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(serving_wheels(_wheels(cache_dir), folder / "index"))
        (folder / "pip.conf").write_text(f"[global]\nindex-url = {index}\n")
        # Not below pytest's folder: sockets lie here, and their paths must be short.
        root = Path(tempfile.mkdtemp(prefix="buildah-"))
        stack.callback(shutil.rmtree, root)
        buildah = Buildah(root, {folder / "pip.conf": "/etc/pip.conf"})
        stack.callback(buildah.close)
        _python_image(buildah, folder / "python", cache_dir)
        try:
            store = stack.enter_context(moto(folder / "s3"))
        except CannotInstall as error:
            peers.missing(str(error))
        store.make_bucket("models")
        registry, _ = stack.enter_context(docker_registry(folder / "registry"))
        yield Place(buildah, "localhost/python:3.11", index, folder, store, registry)


def _wheels(cache: Path) -> dict[str, Path]:
    """What images need, as the native builder locks and keeps it, with the tools of the bases."""
    found: dict[str, Path] = {}
    needs = ("cloudpickle",), (_pinned_uv(), "pip")
    for requirements in needs:
        spec = EnvironmentSpec("3.11", requirements)
        lock = Resolver(cache).lock(
            spec,
            Target("x86_64-manylinux_2_28", "3.11"),
            runtime_requirements=runtime_requirements(),
            progress=Silent(),
        )
        wheels = WheelCache(cache / "wheels")
        found |= {wheel.filename: wheels.fetch(wheel) for wheel in lock.wheels}
        wheels.close()
    return found


def _pinned_uv() -> str:
    return (DOCKER / "uv.txt").read_text().split()[0]


def _python_image(buildah: Buildah, folder: Path, cache: Path) -> None:
    layout = LayoutRegistry(folder / "debian")
    BaseImages(cache, lambda _: layout).publish(
        "debian:", python="3.11", to=Reference("base.test", "debian"), progress=Silent()
    )
    [pip] = [file for name, file in _wheels(cache).items() if name.startswith("pip-")]
    with zipfile.ZipFile(pip) as archive:
        archive.extractall(folder / "pip")
    (folder / "Dockerfile").write_text(
        f"FROM oci:{folder / 'debian'}\n"
        'COPY ["pip", "/usr/local/lib/python3.11/dist-packages/"]\n'
        'RUN ["/usr/bin/python3.11", "-c", "import os; os.makedirs(\'/usr/local/bin\', '
        "exist_ok=True); os.symlink('/usr/bin/python3.11', '/usr/local/bin/python3')\"]\n"
    )
    buildah.build(folder / "Dockerfile", folder, to="localhost/python:3.11")


@pytest.fixture(scope="module")
def base_image(place: Place) -> str:
    """The base for models, of base.Dockerfile; what stands for Python has no apt, so no packages
    are asked for: those that packages.txt names, the Debian base has already."""
    context = place.folder / "base"
    context.mkdir()
    shutil.copy(DOCKER / "uv.txt", context)
    (context / "packages.txt").touch()
    place.buildah.build(
        DOCKER / "pyfunc-server/base.Dockerfile",
        context,
        to="localhost/pyfunc-server-base:1",
        arguments={"PYTHON_IMAGE": place.python_image},
    )
    return "localhost/pyfunc-server-base:1"


@pytest.mark.parts("buildah", "podman", "docker-registry")
def test_context_build_and_push_give_an_image_that_answers_like_the_native_builders(
    place: Place, base_image: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    files = python_function(
        "return {'scores': [sum(x * w for x, w in zip(row, (0.5, -1.25, 3.0)))"
        " for row in request['instances']]}"
    )
    for name, value in place.store.environ.items():
        monkeypatch.setenv(name, value)
    store = open_s3("s3://models/7", place.store.environ)
    for name, content in files.items():
        store.write(f"model/{name}", [content])
    store.write(
        "environment/requirements.txt",
        [f"--index-url {place.index}\ncloudpickle\nmerlin-sdk==0.44\n".encode()],
    )

    context = place.folder / "context"
    command = ["image", "context", "--model-url", "s3://models/7/model", "--python", "3.11"]
    command += ["--to", str(context)]
    # The build sees the base as a folder, as it does where it has no registry in reach.
    place.buildah.save(base_image, place.folder / "saved")
    command += [
        "--base",
        f"layout:{place.folder / 'saved'}",
        "--base-to",
        str(place.folder / "oci"),
    ]
    command += ["--environment-url", "s3://models/7/environment/requirements.txt"]
    assert run([*command, "--build-arg", "MODEL_NAME=scores"]) == 0
    assert "Left out merlin-sdk" in capsys.readouterr().out

    arguments = {
        "BASE_IMAGE": f"oci:{place.folder / 'oci'}",
        "MODEL_NAME": "scores",
        "MODEL_VERSION": "1",
        "MODEL_ARTIFACTS_URL": "s3://models/7/model",
        "MLFLOW_ARTIFACT_STORAGE_TYPE": "s3",
    }
    printed = place.buildah.build(
        context / "Dockerfile", context, to="localhost/scores:1", arguments=arguments
    )
    assert "dry run success" in printed
    _check_config(place.buildah.config("localhost/scores:1"), place.store)

    place.buildah.save("localhost/scores:1", place.folder / "image")
    target = f"{place.registry}/ml/scores:1"
    digest_file = place.folder / "digest"
    push = ["image", "push", str(place.folder / "image"), "--to", target]
    assert run([*push, "--digest-file", str(digest_file)]) == 0
    found = open_registry(place.registry).resolve(parse_reference(target))
    assert found is not None
    assert found.digest == digest_file.read_text() == capsys.readouterr().out.splitlines()[-1]

    native = _native(place, cache_dir)
    asked = {"instances": [[1, 2, 3], [0.5, -7, 1e6]]}
    expected = cloudpickle.loads(files["python_model.pkl"]).infer(asked)
    assert _asked(target, asked) == _asked(native, asked) == expected


@pytest.mark.parts("buildah", "docker-registry")
def test_an_image_for_prediction_jobs_loads_its_model_or_is_not_built(
    place: Place, base_image: str, tmp_path: Path
) -> None:
    model, context = tmp_path / "model", tmp_path / "context"
    model.mkdir()
    body = "return request"
    requirements = [f"--index-url={place.index}", "cloudpickle"]
    for name, content in python_function(body, requirements, base=PyFuncV2Model).items():
        (model / name).write_bytes(content)
    command = ["image", "context", "--model-url", str(model), "--to", str(context)]
    arguments = {"BASE_IMAGE": base_image}

    assert run([*command, "--kind", "batch"]) == 0
    printed = place.buildah.build(
        context / "Dockerfile", context, to="localhost/job:1", arguments=arguments
    )
    assert "dry run success" in printed
    config = place.buildah.config("localhost/job:1")["config"]
    assert "PYSPARK_PYTHON=/opt/venv/bin/python" in config["Env"]
    assert config["Labels"]["io.merlin-serving.model.type"] == "pyfunc_v2"

    assert run([*command, "--kind", "online"]) == 0
    with pytest.raises(BuildFailed, match="predicts whole tables in batch jobs"):
        place.buildah.build(
            context / "Dockerfile", context, to="localhost/served:1", arguments=arguments
        )


def _check_config(config: dict[str, Any], store: Service) -> None:
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Labels"]["io.merlin-serving.model.name"] == "scores"
    text = json.dumps(config)
    assert store.environ["AWS_SECRET_ACCESS_KEY"] not in text
    assert store.url not in text


def _native(place: Place, cache: Path) -> str:
    target = Reference(place.registry, "ml/scores-native", tag="1")
    registry = open_registry(place.registry)
    request = BuildRequest(
        model=ModelSource(open_s3("s3://models/7", place.store.environ), "model"),
        target=target,
        model_type="pyfunc",
        model_name="scores",
        version="1",
        python="3.11",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        base="debian:",
    )
    NativeBuilder(lambda _: registry, cache).build(request, Silent())
    return str(target)


def _asked(image: str, request: dict[str, Any]) -> Any:
    with (
        Podman.opened() as podman,
        podman.served(image) as address,
        httpx2.Client(timeout=60) as client,
    ):
        until_ready(client, address)
        answer = client.post(f"{address}/v1/models/scores-1:predict", json=request)
        return answer.raise_for_status().json()
