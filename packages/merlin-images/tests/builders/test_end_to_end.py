"""A real model on a base made from Debian packages: pushed, pulled by others, run, asked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
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
from tests import models
from tests.containers import Podman, until_ready
from tests.peers import environment_with
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


@pytest.mark.parts("skopeo", "podman")
def test_an_image_built_here_runs_anywhere(tmp_path: Path, cache: Path, podman: Podman) -> None:
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

        with podman.served(str(request.target)) as address, httpx2.Client(timeout=60) as client:
            until_ready(client, address)
            answer = client.post(
                f"{address}/v1/models/cancer-1:predict", json={"instances": features.tolist()}
            )
            answer.raise_for_status()
            assert answer.json()["predictions"] == model.predict(features).tolist()


@pytest.mark.parts("podman")
def test_a_model_that_needs_a_system_library_runs_with_it(
    tmp_path: Path, cache: Path, podman: Podman
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    features, classes = load_breast_cancer(return_X_y=True)
    fitted = LogisticRegression(max_iter=5000).fit(features, classes)
    joblib.dump(fitted, model / "model.joblib")
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
        with podman.served(str(request.target)) as address, httpx2.Client(timeout=60) as client:
            until_ready(client, address)
            answer = client.post(
                f"{address}/v1/models/odbc-1:predict", json={"instances": features.tolist()}
            )
            assert answer.json()["predictions"] == fitted.predict(features).tolist()
        version, code = podman.ran(
            str(request.target), "/opt/venv/bin/python", "-c", program
        ).split()
        assert version.startswith("5.")
        assert f"{code.removeprefix('/')}" in paths_of(registry, built)


ROWS = [[0.1, 1.0], [0.9, 2.0], [0.4, 3.0]]
_TRAIN = """
import json, sys
import numpy as np
generator = np.random.default_rng(1)
features = generator.random((200, 2)) * [1, 4]
target = (features[:, 0] > 0.5).astype(int)
rows = np.array(json.loads(sys.argv[2]))
"""
_XGBOOST = """
import xgboost
booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(features, target), 5)
booster.save_model(sys.argv[1] + "/model.json")
print(json.dumps(booster.predict(xgboost.DMatrix(rows)).tolist()))
"""
_LIGHTGBM = """
import lightgbm
data = lightgbm.Dataset(features, target)
booster = lightgbm.train({"objective": "binary", "verbose": -1}, data, 5)
booster.save_model(sys.argv[1] + "/model.txt")
print(json.dumps(booster.predict(rows).tolist()))
"""
BOOSTERS = ["xgboost-cpu==3.1.2", "lightgbm==4.6.0"]


def booster(program: str) -> Callable[[Path], object]:
    def write(model: Path) -> object:
        trained = subprocess.run(
            [environment_with(BOOSTERS), "-c", _TRAIN + program, str(model), json.dumps(ROWS)],
            check=True,
            timeout=120,
            stdout=subprocess.PIPE,
            text=True,
        )
        pin = BOOSTERS[0] if "xgboost" in program else BOOSTERS[1]
        (model / "requirements.txt").write_text(f"{pin}\n")
        return json.loads(trained.stdout.splitlines()[-1])

    return write


def private_package(model: Path) -> object:
    """A class whose own package lies in ``code/`` and on no index."""
    rules = "def total(rows):\n    return [round(sum(row) * 3, 6) for row in rows]\n"
    files = {
        **models.python_function(
            "import private_rules.sums; "
            "return {'predictions': private_rules.sums.total(request['instances'])}"
        ),
        "code/private_rules/__init__.py": b"",
        "code/private_rules/sums.py": rules.encode(),
    }
    for name, body in files.items():
        path = model / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    here: dict[str, Callable[[object], object]] = {}
    exec(rules, here)
    return here["total"](ROWS)


@pytest.mark.parts("podman")
@pytest.mark.parametrize(
    ("model_type", "write"),
    [
        ("xgboost", booster(_XGBOOST)),
        ("lightgbm", booster(_LIGHTGBM)),
        ("pyfunc", private_package),
    ],
    ids=["xgboost", "lightgbm", "private-package"],
)
def test_a_container_predicts_what_the_library_does(
    tmp_path: Path,
    cache: Path,
    podman: Podman,
    model_type: str,
    write: Callable[[Path], object],
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    expected = write(model)
    with (
        serving(RegistryStorage(tmp_path / "registry")) as host,
        closing(DistributionRegistry(host)) as registry,
    ):
        request = BuildRequest(
            model=ModelSource(LocalStore(model), ""),
            target=Reference(host, f"demo/{model_type}", tag="1"),
            model_type=model_type,
            model_name="model",
            version="1",
            python="3.11",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            base="debian:",
        )
        NativeBuilder(lambda _: registry, cache).build(request, Silent())
        with podman.served(str(request.target)) as address, httpx2.Client(timeout=60) as client:
            until_ready(client, address)
            answer = client.post(f"{address}/v1/models/model-1:predict", json={"instances": ROWS})
            answer.raise_for_status()
            assert answer.json()["predictions"] == pytest.approx(expected, rel=1e-6)
