"""``merlin image context``: what lies in the folder, and what is refused before there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from merlin.artifacts.local import LocalStore
from merlin.artifacts.memory import open_memory
from merlin.cli.main import run
from merlin_images.context.write import FACTS
from merlin_images.image.manifest import canonical_json
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.port import OCI_INDEX
from merlin_images.registry.reference import Reference

Capture = pytest.CaptureFixture[str]
Context = Callable[..., int]

CONDA = """\
# a comment that goes nowhere
name: someone's
dependencies:
  - python=3.10.4
  - pip:
    - Pandas==2.2.0
    - merlin-sdk==0.44.0
    - merlin-pyfunc-server==0.44.0
    - mlflow==2.9.2
    - my-mlflow-plugin
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "conda.yaml").write_text(CONDA)
    (folder / "python_model.pkl").write_bytes(b"pickle")
    (folder / "artifacts/weights.bin").write_bytes(b"weights")
    return folder


@pytest.fixture
def context(model: Path, tmp_path: Path) -> Context:
    """Run the command; returns its exit code. The folder is ``tmp_path / "context"``."""

    def call(*options: str, url: str = "", to: Path = tmp_path / "context") -> int:
        command = ["image", "context", "--model-url", url or str(model), "--to", str(to)]
        return run([*command, *options])

    return call


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(file.relative_to(folder)): (
            file.read_bytes(),
            file.stat().st_mode & 0o777,
            int(file.stat().st_mtime),
        )
        for file in folder.rglob("*")
        if file.is_file() and file.name != FACTS
    }


def test_the_environment_is_rewritten_as_data(
    context: Context, tmp_path: Path, capsys: Capture
) -> None:
    assert context() == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == (
        "Note: Left out merlin-pyfunc-server, merlin-sdk: the image brings Merlin's own runtime."
    )
    assert told[-1] == str(tmp_path / "context")
    folder = tmp_path / "context"
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert {"pandas==2.2.0", "mlflow==2.9.2", "my-mlflow-plugin", "cloudpickle"} < set(requirements)
    assert not any(line.startswith("merlin") for line in requirements)
    assert any(line.startswith("starlette") for line in requirements), "what the runtime needs"
    assert (folder / ".python-version").read_text() == "3.10\n"
    conda = yaml.safe_load((folder / "conda.yaml").read_text())
    assert conda["dependencies"] == ["python=3.10", "pip", {"pip": requirements}]
    assert "comment" not in (folder / "conda.yaml").read_text()
    assert (folder / "model/conda.yaml").read_text() == CONDA, "the model is as it was logged"
    assert (folder / "model/artifacts/weights.bin").read_bytes() == b"weights"


def test_our_own_packages_are_wheels_that_install_offline(context: Context, tmp_path: Path) -> None:
    assert context() == 0
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [str(uv), "pip", "install", "--quiet", "--no-cache", "--no-index", "--no-deps"]
        + ["--target", str(tmp_path / "site"), "-r", "runtime.txt"],
        cwd=tmp_path / "context",
        check=True,
        timeout=60,
    )
    program = "import merlin.model, merlin_runtime as r; print(r.__file__)"
    shown = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, sys.argv[1]); {program}"]
        + [str(tmp_path / "site")],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert shown.stdout.startswith(str(tmp_path / "site"))


def test_the_same_inputs_give_the_same_folder_and_nothing_is_done_twice(
    context: Context, tmp_path: Path, capsys: Capture
) -> None:
    assert context() == 0
    assert context(to=tmp_path / "other") == 0
    assert contents(tmp_path / "context") == contents(tmp_path / "other")
    before = (tmp_path / "context" / FACTS).stat().st_ino
    capsys.readouterr()
    assert context("--output", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["written"], told["python"], told["kind"]) == (False, "3.10", "online")
    assert (tmp_path / "context" / FACTS).stat().st_ino == before


def test_a_changed_model_replaces_the_folder_whole(
    context: Context, model: Path, tmp_path: Path
) -> None:
    assert context() == 0
    (model / "artifacts/weights.bin").unlink()
    (model / "packages.txt").write_text("libgomp1\n# why\nffmpeg\n")
    assert context() == 0
    assert not (tmp_path / "context/model/artifacts").exists()
    assert (tmp_path / "context/packages.txt").read_text() == "ffmpeg\nlibgomp1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context", "model"]


def test_what_fails_leaves_the_folder_as_it_was(
    context: Context, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert context() == 0
    before = contents(tmp_path / "context")
    (model / "conda.yaml").write_text("dependencies: [python=3.10, {pip: [./local]}]")
    assert context() != 0
    assert "conda.yaml, line 1: './local' is a file of the machine" in capsys.readouterr().err
    assert contents(tmp_path / "context") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["context", "model"]


def test_a_dockerfile_of_ones_own_is_taken_as_it_is(context: Context, tmp_path: Path) -> None:
    own = tmp_path / "our.Dockerfile"
    own.write_bytes(b"FROM ours\r\nRUN whatever ${X} `y`\n")
    assert context("--dockerfile", str(own)) == 0
    assert (tmp_path / "context/Dockerfile").read_bytes() == own.read_bytes()
    assert context("--dockerfile", str(tmp_path / "absent")) != 0


def test_a_package_index_is_written_for_uv_unless_the_model_names_one(
    context: Context, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    index = "https://pypi.example.com/simple"
    assert context() == 0
    assert context("--index-url", index) == 0
    settings = tmp_path / "context" / "uv.toml"
    assert settings.read_text() == f'index-url = "{index}"\n'
    (model / "conda.yaml").unlink()
    (model / "requirements.txt").write_text("--index-url https://own.example.com/simple\npandas\n")
    assert context("--index-url", index) == 0
    assert settings.read_text() == 'index-url = "https://own.example.com/simple"\n'
    capsys.readouterr()
    assert context("--index-url", "https://user:canary@pypi.example.com/simple") == 65
    assert "canary" not in "".join(capsys.readouterr())


def test_the_environment_may_lie_elsewhere(
    context: Context, tmp_path: Path, capsys: Capture
) -> None:
    store = LocalStore(tmp_path / "store")
    store.write("by-hash/0a1b", [b"dependencies: [python=3.12, {pip: [numpy==2.0.0]}]"])
    store.write("requirements.txt", [b"--index-url https://index.example/simple\nnumpy\n--pre\n"])
    assert context("--environment-url", f"{store.url}/by-hash/0a1b") == 0
    folder = tmp_path / "context"
    assert "numpy==2.0.0" in (folder / "requirements.txt").read_text().splitlines()
    assert (folder / ".python-version").read_text() == "3.12\n"
    url = f"{store.url}/requirements.txt"
    assert context("--environment-url", url, "--python", "3.11") == 0
    assert (folder / "uv.toml").read_text() == (
        'prerelease = "allow"\nindex-url = "https://index.example/simple"\n'
    )
    assert (folder / ".python-version").read_text() == "3.11\n"
    store.write("requirements.txt", [b"pandas\n"])
    assert context("--environment-url", url, "--python", "3.11") == 0
    assert "pandas" in (folder / "requirements.txt").read_text(), "a changed file is seen"
    assert context("--environment-url", f"{url}.gone") != 0
    assert "requirements.txt.gone" in capsys.readouterr().err


def test_hostile_folders_are_refused(context: Context, tmp_path: Path, capsys: Capture) -> None:
    store = open_memory("memory://hostile")
    store.write("a/model/.wh.etc", [b""])
    store.write("b/model/line\nbreak", [b""])
    for folder in ("a", "b"):
        assert context(url=f"memory://hostile/{folder}/model") != 0
        assert "Traceback" not in capsys.readouterr().err
    assert context(url="memory://hostile/none") != 0
    assert "There is no model" in capsys.readouterr().err
    assert not (tmp_path / "context").exists()


def test_links_out_of_a_model_folder_are_not_followed(
    context: Context, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("hidden")
    (model / "link").symlink_to(tmp_path / "secret")
    (model / "folder").symlink_to("/etc")
    assert context() == 0
    copied = {str(file.relative_to(tmp_path / "context/model")) for file in _files(tmp_path)}
    assert copied == {"conda.yaml", "python_model.pkl", "artifacts/weights.bin"}


def _files(tmp_path: Path) -> list[Path]:
    return [file for file in (tmp_path / "context/model").rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("AWS_SECRET_ACCESS_KEY=hush-hush", "AWS_SECRET_ACCESS_KEY would put a credential"),
        ("GOOGLE_APPLICATION_CREDENTIALS=hush-hush", "would put a credential"),
        ("PIP_TOKEN=hush-hush", "PIP_TOKEN would put a credential"),
        ("INDEX=https://me:hush-hush@index.example", "URL with credentials"),
        ("MODEL_ARTIFACTS_URL=https://x.blob/y?sig=hush-hush", "URL with credentials or a query"),
        ("no equals", "is no name of a build argument"),
        ("A-B=1", "is no name of a build argument"),
        ("A=two\nlines", "not one printable line"),
        ("MLFLOW_ARTIFACT_STORAGE_TYPE=gcs", "the model's URL starts with"),
        ("MERLIN_DEP_CONSTRAINT===0.44.0", "the runtime is merlin-runtime"),
        ("MERLIN_DEP_CONSTRAINT=newest", "no version specifier"),
    ],
)
def test_build_arguments_are_refused_without_repeating_their_values(
    context: Context, tmp_path: Path, capsys: Capture, argument: str, sentence: str
) -> None:
    assert context("--build-arg", argument) != 0
    complaint = " ".join(capsys.readouterr().err.split())
    assert sentence in complaint
    assert "hush-hush" not in complaint
    assert not (tmp_path / "context").exists()


def test_merlins_own_build_arguments_are_taken(context: Context, tmp_path: Path) -> None:
    arguments = {
        "BASE_IMAGE": "registry.example.com/base@sha256:" + "0" * 64,
        "MLFLOW_ARTIFACT_STORAGE_TYPE": "",
        "MODEL_DEPENDENCIES_URL": "gs://bucket/merlin/model_dependencies/0a",
        "MODEL_ARTIFACTS_URL": "gs://bucket/1/artifacts/model",
        "MERLIN_DEP_CONSTRAINT": ">=0.1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "OURS": "anything at all",
    }
    given = [part for pair in arguments.items() for part in ("--build-arg", "=".join(pair))]
    assert context(*given) == 0
    facts = json.loads((tmp_path / "context" / FACTS).read_text())
    assert facts["build_arguments"] == arguments


def test_only_a_context_is_replaced(context: Context, tmp_path: Path, capsys: Capture) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    assert context(to=mine) == 0
    shutil.rmtree(mine)
    mine.mkdir()
    (mine / "thesis").write_text("years of work")
    assert context(to=mine) != 0
    assert "something else than a build context" in capsys.readouterr().err
    assert (mine / "thesis").read_text() == "years of work"
    (tmp_path / "file").touch()
    assert context(to=tmp_path / "file") != 0
    assert context(to=tmp_path / "file" / "below") != 0
    assert "Traceback" not in capsys.readouterr().err


def test_the_base_is_fetched_as_builders_look_for_it(
    context: Context, small_base: str, tmp_path: Path, capsys: Capture
) -> None:
    [digest] = {
        e.digest for e in LayoutRegistry(Path(small_base.removeprefix("layout:"))).entries()
    }
    base = ["--base", f"{small_base}@{digest}", "--base-to", str(tmp_path / "base")]
    assert context(*base, "--base-format", "kaniko-cache") == 0
    assert [path.name for path in (tmp_path / "base").iterdir()] == [digest]
    # Kaniko takes a folder of exactly one image, named by the digest that FROM asks for.
    assert [e.digest for e in LayoutRegistry(tmp_path / "base" / digest).entries()] == [digest]
    marker = (tmp_path / "base" / digest / "oci-layout").stat().st_ino
    assert context(*base, "--base-format", "kaniko-cache") == 0
    assert (tmp_path / "base" / digest / "oci-layout").stat().st_ino == marker, "fetched once"

    capsys.readouterr()
    layout = ["--base", small_base, "--base-to", str(tmp_path / "layout"), "--output", "json"]
    assert context(*layout, "--base-format", "oci-layout") == 0
    assert json.loads(capsys.readouterr().out)["base"]["image"].endswith(f"@{digest}")
    assert [e.digest for e in LayoutRegistry(tmp_path / "layout").entries()] == [digest]
    assert run(["image", "validate", f"layout:{tmp_path / 'layout'}"]) == 0


def test_the_digest_of_an_index_leads_kaniko_to_the_platforms_image(
    context: Context, small_base: str, tmp_path: Path
) -> None:
    folder = tmp_path / "several"
    shutil.copytree(small_base.removeprefix("layout:"), folder)
    layout = LayoutRegistry(folder)
    image = layout.entries()[0]
    body = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {**image.to_dict(), "platform": {"architecture": "amd64", "os": "linux"}}
            ],
        }
    )
    index = layout.write_manifest(Reference("base.test", "base", tag="all"), OCI_INDEX, body)
    base = ["--base", f"layout:{folder}@{index.digest}", "--base-to", str(tmp_path / "base")]
    for _ in range(2):
        assert context(*base, "--base-format", "kaniko-cache") == 0
        for name in (image.digest, index.digest):
            found = LayoutRegistry(tmp_path / "base" / name).entries()
            assert [entry.digest for entry in found] == [image.digest]


def test_a_base_that_cannot_be_found_later_is_refused(
    context: Context, tmp_path: Path, capsys: Capture
) -> None:
    to = ["--base-to", str(tmp_path / "base"), "--base-format", "kaniko-cache"]
    assert context("--base", "127.0.0.1:9/python:3.11", *to) != 0
    assert "by the digest alone" in capsys.readouterr().err
    absent = f"layout:{tmp_path / 'none'}@sha256:{'0' * 64}"
    assert context("--base", absent, *to) != 0
    assert "There is no base image" in capsys.readouterr().err
    assert context("--base", absent) != 0
    assert "needs both --base and --base-to" in capsys.readouterr().err
    assert not (tmp_path / "base").exists()
    assert not (tmp_path / "context").exists()
