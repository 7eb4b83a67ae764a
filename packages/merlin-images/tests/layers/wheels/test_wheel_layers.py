"""Layers of locked environments: small ones made here, and the real one of a scikit-learn model."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import pytest

from merlin.progress import Silent
from merlin_images.environments.download import WheelCache
from merlin_images.environments.errors import IndexUnreachable
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Lock, LockedWheel, Target
from merlin_images.environments.runtime_requirements import runtime_requirements
from merlin_images.layers.byte_compiler import ByteCompiler, Interpreter
from merlin_images.layers.codecs import codec
from merlin_images.layers.errors import UnsafeWheel
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.tar import LAYER_TIME, tar_stream
from merlin_images.layers.venv import venv_entries
from merlin_images.layers.wheel import MOST_LAYERS, planned_layers, wheel_layers

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MakeWheel = Callable[..., Path]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TARGET = Target(f"{platform.machine()}-manylinux_2_28", PYTHON)
SITE = f"opt/venv/lib/python{PYTHON}/site-packages"


class Recorded(Silent):
    def __init__(self) -> None:
        self.steps: dict[str, str] = {}

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        self.steps[step] = detail


def locked(cache: Path, *paths: Path) -> Lock:
    """A lock of wheels that are in the cache already; their address answers nobody."""
    wheels = []
    for path in paths:
        body = path.read_bytes()
        sha256 = hashlib.sha256(body).hexdigest()
        (cache / sha256).mkdir(parents=True)
        path.rename(cache / sha256 / path.name)
        name = path.name.partition("-")[0]
        url = f"http://127.0.0.1:9/{path.name}"
        wheels.append(LockedWheel(name, "1.0", path.name, url, len(body), sha256))
    return Lock("key", TARGET, "", tuple(sorted(wheels, key=lambda wheel: wheel.name)))


def layers_of(
    lock: Lock,
    cache: Path,
    store: LayerStore,
    *,
    threshold: int = 8 * 2**20,
    compression: Literal["zstd", "none"] = "zstd",
    compiler: ByteCompiler | None = None,
    progress: Silent | None = None,
) -> list[tuple[Layer, bool]]:
    wheels = WheelCache(cache, pause=lambda _seconds: None)
    return wheel_layers(
        lock,
        wheels,
        store,
        prefix="/opt/venv",
        codec=codec(compression),
        threshold=threshold,
        compiler=compiler,
        progress=progress or Silent(),
    )


def extract(store: LayerStore, layers: Iterable[Layer], root: Path) -> None:
    for layer in layers:
        tar = zstd.decompress(b"".join(store.open(layer)))
        assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == layer.diff_id
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            archive.extractall(root, filter="fully_trusted")


def skeleton(root: Path) -> Path:
    """Write an environment's skeleton under ``root``; return its interpreter."""
    base = os.path.realpath(sys.executable)
    body = b"".join(tar_stream(venv_entries("/opt/venv", PYTHON, base), mtime=LAYER_TIME))
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        archive.extractall(root, filter="fully_trusted")
    return root / "opt/venv/bin/python"


def test_heavy_wheels_have_their_own_layers(tmp_path: Path, make_wheel: MakeWheel) -> None:
    cache, store = tmp_path / "wheels", LayerStore(tmp_path / "store")
    heavy = make_wheel({"heavy/data": os.urandom(20_000)}, name="heavy")
    small = [make_wheel({f"{name}/x.py": b""}, name=name) for name in ("alpha", "beta")]
    lock = locked(cache, heavy, *small)
    layers = layers_of(lock, cache, store, threshold=20_000)
    assert [(layer.title, layer.kind, made) for layer, made in layers] == [
        ("heavy 1.0", "dependency", True),
        ("2 small pure-Python packages", "dependency", True),
    ]
    again = layers_of(lock, cache / "empty", store, threshold=20_000)
    assert again == [(layer, False) for layer, _ in layers]

    without_small = Lock("other", TARGET, "", tuple(w for w in lock.wheels if w.name == "heavy"))
    assert layers_of(without_small, cache / "empty", store, threshold=20_000) == [again[0]]


def test_very_many_heavy_wheels_share_layers(tmp_path: Path) -> None:
    wheels = tuple(
        LockedWheel(f"w{n}", "1.0", f"w{n}-1.0-py3-none-any.whl", "", 2**23 + n * 2**20, f"{n:064}")
        for n in range(90)
    )
    lock = Lock("key", TARGET, "", wheels)
    planned = planned_layers(lock)
    assert planned[0] == "w56 1.0", "the border is at 64 MiB"
    assert planned[-1] == "56 small pure-Python packages"
    assert len(planned) == 35 <= MOST_LAYERS


def test_parents_stand_once_before_their_files(tmp_path: Path, make_wheel: MakeWheel) -> None:
    cache, store = tmp_path / "wheels", LayerStore(tmp_path / "store")
    wheels = [make_wheel({f"space/{name}.py": b""}, name=name) for name in ("alpha", "beta")]
    ((layer, _),) = layers_of(locked(cache, *wheels), cache, store, compression="none")
    with tarfile.open(fileobj=io.BytesIO(b"".join(store.open(layer)))) as archive:
        members = list(archive)
    names = [member.name for member in members]
    assert len(set(names)) == len(names)
    assert names[:2] == ["opt", "opt/venv"]
    for name in names:
        assert name.rpartition("/")[0] in {"", *names[: names.index(name)]}
    assert {member.mtime for member in members} == {LAYER_TIME}
    assert {member.mode for member in members if member.isdir()} == {0o755}


def test_a_path_of_two_wheels_is_the_laters_by_name(tmp_path: Path, make_wheel: MakeWheel) -> None:
    cache, store = tmp_path / "wheels", LayerStore(tmp_path / "store")
    wheels = [
        make_wheel({"tests/a.py": name.encode(), "tests/__init__.py": b""}, name=name)
        for name in ("beta", "alpha")
    ]
    progress = Recorded()
    ((layer, _),) = layers_of(locked(cache, *wheels), cache, store, progress=progress)
    extract(store, [layer], tmp_path / "root")
    assert (tmp_path / "root" / SITE / "tests/a.py").read_text() == "beta"
    assert progress.steps["Make layer 2 small pure-Python packages"] == (
        f"1 paths are in two packages: {SITE}/tests/a.py"
    )


def test_modules_get_byte_code_that_python_takes(tmp_path: Path, make_wheel: MakeWheel) -> None:
    first = make_wheel({"one/m.py": b"NAME = 1\n", "one/tests/t.py": b"", "one/py2.py": b"print 2"})
    # Where two packages own a module, byte code of the other one must not be found.
    second = make_wheel({"one/m.py": b"print 'Python 2'\n"}, name="other")
    store, cache = LayerStore(tmp_path / "store"), tmp_path / "cache"
    lock = locked(cache, first)
    compiler = ByteCompiler("this Python", lambda: Interpreter((sys.executable,)))
    [(layer, _)] = layers_of(lock, cache, store, compiler=compiler)
    extract(store, [layer], tmp_path)
    site = tmp_path / SITE
    code = sorted(path.name for path in site.rglob("*.pyc"))
    assert code == [f"m.cpython-{PYTHON.replace('.', '')}.pyc"]
    record = (site / "demo-1.0.dist-info/RECORD").read_text()
    assert f"one/__pycache__/{code[0]},,\n" in record
    (site / "one/m.py").write_text("NAME = 2\n")
    shown = subprocess.run(
        [sys.executable, "-c", "import one.m; print(one.m.NAME)"],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "1\n", "it is loaded instead of its source"

    plain = layers_of(lock, cache, store)[0][0]
    assert plain.descriptor.digest != layer.descriptor.digest
    both = Lock("both", TARGET, "", (*lock.wheels, *locked(cache, second).wheels))
    [(shared, _)] = layers_of(both, cache, store, compiler=compiler)
    extract(store, [shared], tmp_path / "both")
    assert not [*(tmp_path / "both").rglob("*.pyc")]


def test_a_hostile_wheel_leaves_no_layer(tmp_path: Path, make_wheel: MakeWheel) -> None:
    cache, store = tmp_path / "wheels", LayerStore(tmp_path / "store")
    good = make_wheel({"good/x.py": b""}, name="good")
    bad = make_wheel({"bad/x.py": b""}, name="bad", record={"bad/x.py": f"sha256={'A' * 43}"})
    with pytest.raises(UnsafeWheel, match=r"bad/x\.py"):
        layers_of(locked(cache, good, bad), cache, store)
    assert not list((tmp_path / "store/blobs").rglob("*"))


def test_a_wheel_that_cannot_be_had(tmp_path: Path, make_wheel: MakeWheel) -> None:
    lock = locked(tmp_path / "wheels", *(make_wheel({}, name=name) for name in ("a", "b", "c")))
    with pytest.raises(IndexUnreachable, match=r"[abc]-1\.0-py3-none-any\.whl"):
        layers_of(lock, tmp_path / "empty", LayerStore(tmp_path / "store"))


def test_pth_files_and_scripts_work(tmp_path: Path, make_wheel: MakeWheel) -> None:
    files = {
        "demo.pth": b"import sys; sys.demo_was_here = True\nextra\n",
        "extra/hidden_module.py": b"def main():\n    print('hello from a script')\n",
        "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\nhi = hidden_module:main\n",
    }
    cache, store = tmp_path / "wheels", LayerStore(tmp_path / "store")
    ((layer, _),) = layers_of(locked(cache, make_wheel(files)), cache, store)
    python = skeleton(tmp_path / "root")
    extract(store, [layer], tmp_path / "root")
    assert output(python, "-Ic", "import sys, hidden_module; print(sys.demo_was_here)") == "True"
    # Its first line names the place it will have in an image, so it is run by the name here.
    assert output(python, "-I", str(python.parent / "hi")) == "hello from a script"


PREDICT = """
import sys, sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

assert sklearn.__file__.startswith(sys.argv[1]), sklearn.__file__
rows, labels = load_breast_cancer(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
print(sklearn.__version__, round(model.score(rows, labels), 2))
"""


def test_a_scikit_learn_environment_from_pypi(tmp_path: Path) -> None:
    lock = Resolver(tmp_path).lock(
        EnvironmentSpec(PYTHON, ("joblib", "mlflow-skinny", "scikit-learn==1.7.2")),
        TARGET,
        runtime_requirements=runtime_requirements(),
        progress=Silent(),
    )
    first, second = LayerStore(tmp_path / "first"), LayerStore(tmp_path / "second")
    made = layers_of(lock, tmp_path / "wheels", first)
    assert made == layers_of(lock, tmp_path / "wheels", second)
    titles = [layer.title for layer, _ in made]
    assert [title.split()[0] for title in titles[:-2]] == ["numpy", "scikit-learn", "scipy"]
    assert titles[-2].endswith("small packages")
    assert titles[-1].endswith("small pure-Python packages")

    python = skeleton(tmp_path / "root")
    extract(first, [layer for layer, _ in made], tmp_path / "root")
    found = output(python, "-Ic", PREDICT, str(tmp_path / "root" / SITE))
    assert found == "1.7.2 0.99"
    listed = output(
        python,
        "-Ic",
        "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))",
    )
    assert len(listed.split()) == len(lock.wheels)


def test_the_skeleton_follows_the_python_asked_for() -> None:
    entries = venv_entries("/opt/venv", "3.9", "/usr/local/bin/python3.9")
    links = {entry.path: entry.target for entry in entries if entry.kind == "symlink"}
    assert links == {
        "opt/venv/bin/python": "/usr/local/bin/python3.9",
        "opt/venv/bin/python3": "python",
        "opt/venv/bin/python3.9": "python",
        "opt/venv/lib64": "lib",
    }
    assert "opt/venv/lib/python3.9/site-packages" in {entry.path for entry in entries}


def output(*command: str | Path) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
