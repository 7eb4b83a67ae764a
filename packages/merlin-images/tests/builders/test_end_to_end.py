"""A real model on a base made from Debian packages: pushed, pulled by others, run, asked."""

from __future__ import annotations

import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import joblib
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from merlin.artifacts.local import LocalStore
from merlin.progress import Silent
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest, BuiltImage, ModelSource
from merlin_images.image import annotation_keys
from merlin_images.image.errors import SystemLibrariesMissing
from merlin_images.image.layer_bytes import open_tar
from merlin_images.image.locations import locate
from merlin_images.image.stored import read_image
from merlin_images.image.validate import validate
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.port import ImageRegistry
from merlin_images.registry.reference import Reference
from tests.containers import container, ran, until_ready
from tests.registry_servers import serving


def paths_of(registry: ImageRegistry, built: BuiltImage) -> set[str]:
    """Paths in the image's dependency layers."""
    image = read_image(registry, built.reference)
    paths: set[str] = set()
    for layer in image.manifest.layers:
        if layer.annotations[annotation_keys.LAYER_KIND] == "dependency":
            chunks = registry.read_blob(built.reference, layer)
            with open_tar(layer.media_type, chunks) as archive:
                paths.update(archive.getnames())
    return paths


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one build leaves for the next: the base image above all."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parts("skopeo", "podman")
def test_an_image_built_here_runs_anywhere(tmp_path: Path, cache: Path) -> None:
    features, classes = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, classes)
    (tmp_path / "model").mkdir()
    joblib.dump(model, tmp_path / "model/model.joblib")
    storage = RegistryStorage(tmp_path / "registry")
    with serving(storage) as host, closing(DistributionRegistry(host)) as registry:
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
        built = NativeBuilder(lambda _: registry, cache).build(request, Silent())

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


@pytest.mark.parts("podman")
def test_a_model_that_needs_a_system_library_runs_with_it(tmp_path: Path, cache: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    features, classes = load_breast_cancer(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=5000).fit(features, classes), model / "model.joblib")
    (model / "requirements.txt").write_text("scikit-learn\npyodbc\n")
    with (
        serving(RegistryStorage(tmp_path / "registry")) as host,
        closing(DistributionRegistry(host)) as registry,
    ):
        builder = NativeBuilder(lambda _: registry, cache)
        request = BuildRequest(
            model=ModelSource(LocalStore(model), ""),
            target=Reference(host, "demo/odbc", tag="1"),
            model_type="sklearn",
            model_name="odbc",
            version="1",
            python="3.11",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            base="debian:",
        )
        with pytest.raises(
            SystemLibrariesMissing, match=r"pyodbc .* needs libodbc\.so\.2"
        ) as caught:
            builder.build(request, Silent())
        assert "libodbc2 into packages.txt" in caught.value.hint

        (model / "packages.txt").write_text("libodbc2\n")
        built = builder.build(request, Silent())
        assert [layer.kind for layer in built.layers[:3]] == ["base", "system", "dependency"]
        program = "import pyodbc, sklearn; print(pyodbc.version, sklearn.__cached__)"
        version, code = ran(str(request.target), "/opt/venv/bin/python", "-c", program).split()
        assert version.startswith("5.")
        assert f"{code.removeprefix('/')}" in paths_of(registry, built)
