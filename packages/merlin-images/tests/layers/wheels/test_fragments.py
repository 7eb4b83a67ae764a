"""What wheels bring to shared layers: kept, joined again for other locks, and never trusted."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import pytest

from merlin.progress import Silent
from merlin_images.environments.download import WheelCache
from merlin_images.environments.errors import IndexUnreachable
from merlin_images.environments.model import Lock, LockedWheel, Target
from merlin_images.layers.byte_compiler import ByteCompiler, Interpreter
from merlin_images.layers.codecs import codec
from merlin_images.layers.errors import DuplicatePath
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.wheel import wheel_layers

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MakeWheel = Callable[..., Path]
Name = Literal["zstd", "gzip", "none"]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"opt/venv/lib/python{PYTHON}/site-packages"
INFLATE: Mapping[Name, Callable[[bytes], bytes]] = {
    "zstd": zstd.decompress,
    "gzip": gzip.decompress,
    "none": bytes,
}


class Bench:
    """Wheels in a cache, and layers made of some of them in stores given."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "wheels"
        self.wheels: dict[str, LockedWheel] = {}
        self.started = 0
        self.compiler = ByteCompiler("this Python", self._prepare)

    def add(self, *paths: Path) -> None:
        for path in paths:
            body = path.read_bytes()
            sha256 = hashlib.sha256(body).hexdigest()
            (self.cache / sha256).mkdir(parents=True)
            path.rename(self.cache / sha256 / path.name)
            name = path.name.partition("-")[0]
            url = f"http://127.0.0.1:9/{path.name}"
            self.wheels[name] = LockedWheel(name, "1.0", path.name, url, len(body), sha256)

    def forget_wheels(self) -> None:
        """Have no wheel at hand any more; their addresses answer nobody."""
        self.cache = self.cache.with_name("no-wheels")

    def layer(self, store: LayerStore, names: Sequence[str], compression: Name = "zstd") -> Layer:
        wheels = tuple(self.wheels[name] for name in sorted(names))
        [(layer, _)] = wheel_layers(
            Lock("key", Target("x86_64-manylinux_2_28", PYTHON), "", wheels),
            WheelCache(self.cache, pause=lambda _seconds: None),
            store,
            prefix="/opt/venv",
            codec=codec(compression),
            compiler=self.compiler,
            progress=Silent(),
        )
        return layer

    def _prepare(self) -> Interpreter:
        self.started += 1
        return Interpreter((sys.executable,))


def files_of(store: LayerStore, layer: Layer, compression: Name = "zstd") -> dict[str, bytes]:
    """The layer's files, after a look that its tar is what it should be."""
    tar = INFLATE[compression](b"".join(store.open(layer)))
    assert f"sha256:{hashlib.sha256(tar).hexdigest()}" == layer.diff_id
    assert len(tar) == layer.uncompressed
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = archive.getmembers()
        names = [member.name for member in members]
        assert len(set(names)) == len(names)
        for name in names:
            assert name.rpartition("/")[0] in {"", *names[: names.index(name)]}
        found = {member: archive.extractfile(member) for member in members if member.isfile()}
        return {member.name: file.read() for member, file in found.items() if file}


@pytest.fixture
def bench(tmp_path: Path, make_wheel: MakeWheel) -> Bench:
    bench = Bench(tmp_path)
    bench.add(
        *(
            make_wheel({f"space/{name}.py": f"NAME = {name!r}\n".encode() * 50}, name=name)
            for name in ("alpha", "beta", "gamma", "delta")
        )
    )
    return bench


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_a_new_lock_of_known_wheels_opens_none_and_compiles_nothing(
    bench: Bench, tmp_path: Path, compression: Name
) -> None:
    store = LayerStore(tmp_path / "store")
    bench.layer(store, ["alpha", "beta"], compression)
    bench.layer(store, ["gamma", "delta"], compression)
    fresh = LayerStore(tmp_path / "fresh")
    expected = bench.layer(fresh, ["alpha", "beta", "delta"], compression)

    bench.forget_wheels()
    bench.started = 0
    joined = bench.layer(store, ["alpha", "beta", "delta"], compression)
    assert joined == expected
    assert bench.started == 0
    files = files_of(store, joined, compression)
    assert {path for path in files if path.startswith(f"{SITE}/space/")} == {
        *(f"{SITE}/space/{name}.py" for name in ("alpha", "beta", "delta")),
        *(
            f"{SITE}/space/__pycache__/{name}.cpython-{PYTHON.replace('.', '')}.pyc"
            for name in ("alpha", "beta", "delta")
        ),
    }
    assert files[f"{SITE}/space/delta.py"] == b"NAME = 'delta'\n" * 50


def test_few_interpreters_serve_all_wheels(bench: Bench, tmp_path: Path) -> None:
    bench.layer(LayerStore(tmp_path / "store"), list(bench.wheels))
    assert 1 <= bench.started <= 2


def test_only_what_is_missing_is_fetched(
    bench: Bench, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    store = LayerStore(tmp_path / "store")
    bench.layer(store, ["alpha", "beta"])
    bench.forget_wheels()
    with pytest.raises(IndexUnreachable, match="gamma-1"):
        bench.layer(store, ["alpha", "beta", "gamma"])
    bench.add(make_wheel({"extra.py": b""}, name="extra"))
    files = files_of(store, bench.layer(store, ["alpha", "beta", "extra"]))
    assert f"{SITE}/extra.py" in files


@pytest.mark.parametrize("first", [["alpha", "other"], ["alpha", "beta"], ["beta", "other"]])
def test_a_path_of_two_wheels_is_the_laters_whatever_came_before(
    bench: Bench, tmp_path: Path, make_wheel: MakeWheel, first: list[str]
) -> None:
    owner = {"space/alpha.py": b"print 'Python 2'\n", "space/own.py": b""}
    bench.add(make_wheel(owner, name="other"))
    store = LayerStore(tmp_path / "store")
    bench.layer(store, first)
    names = ["alpha", "beta", "other"]
    layer = bench.layer(store, names)
    assert layer == bench.layer(LayerStore(tmp_path / "fresh"), names)
    files = files_of(store, layer)
    assert files[f"{SITE}/space/alpha.py"] == b"print 'Python 2'\n"
    # The other one's byte code would be loaded unseen.
    assert not [path for path in files if "__pycache__/alpha." in path]
    assert [path for path in files if "__pycache__/own." in path]
    assert f"{SITE}/alpha-1.0.dist-info/RECORD" in files
    # Without the other wheel it is all there again.
    again = files_of(store, bench.layer(store, ["alpha", "beta"]))
    assert [path for path in again if "__pycache__/alpha." in path]


def test_a_file_that_is_anothers_folder_is_refused(
    bench: Bench, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    bench.add(make_wheel({"space": b"no folder"}, name="plain"))
    store = LayerStore(tmp_path / "store")
    with pytest.raises(DuplicatePath, match="site-packages/space "):
        bench.layer(store, ["alpha", "plain"])
    assert not list((tmp_path / "store/blobs").rglob("*"))


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize("damage", [cut_off, flip, Path.unlink])
def test_damaged_fragments_are_made_anew(
    bench: Bench, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    names = ["alpha", "beta", "delta"]
    expected = bench.layer(LayerStore(tmp_path / "fresh"), names)
    kept = sorted(path.name for path in (tmp_path / "fresh/fragments/blobs/sha256").iterdir())
    assert len(kept) == 2 * len(names), "a frame and a listing each"
    for number, name in enumerate(kept):
        store = LayerStore(tmp_path / f"store-{number}")
        bench.layer(store, ["alpha", "beta"])
        bench.layer(store, ["beta", "delta"])
        damage(tmp_path / f"store-{number}/fragments/blobs/sha256" / name)
        assert bench.layer(store, names) == expected
        files_of(store, expected)


def test_a_damaged_fragment_whose_wheel_is_gone_leaves_no_layer(
    bench: Bench, tmp_path: Path
) -> None:
    store = LayerStore(tmp_path / "store")
    bench.layer(store, ["alpha", "beta"])
    bench.layer(store, ["gamma", "delta"])
    before = sorted((tmp_path / "store/blobs/sha256").iterdir())
    for path in (tmp_path / "store/fragments/blobs/sha256").iterdir():
        flip(path)
    bench.forget_wheels()
    with pytest.raises(IndexUnreachable):
        bench.layer(store, ["alpha", "beta", "delta"])
    assert sorted((tmp_path / "store/blobs/sha256").iterdir()) == before
    assert bench.layer(store, ["alpha", "beta"]).descriptor.size > 0, "finished ones serve on"


def make_and_die(folder: Path, cache: Path, wheels: Mapping[str, LockedWheel], after: int) -> None:
    bench = Bench(folder)
    bench.cache, bench.wheels = cache, dict(wheels)
    left = after
    rename = Path.rename

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.rename = dying  # type: ignore[method-assign,assignment]
    bench.layer(LayerStore(folder / "store"), list(wheels))


def test_a_kill_at_any_rename_leaves_what_the_next_one_completes(
    bench: Bench, tmp_path: Path
) -> None:
    names = list(bench.wheels)
    expected = bench.layer(LayerStore(tmp_path / "fresh"), names)
    context = get_context("fork")
    # Blob and record of a frame and a listing for each wheel, then of the layer.
    for after in range(0, 4 * len(names) + 2, 3):
        folder = tmp_path / f"killed-{after}"
        process = context.Process(
            target=make_and_die, args=(folder, bench.cache, bench.wheels, after)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        store = LayerStore(folder / "store")
        assert bench.layer(store, names) == expected
        files_of(store, expected)


def test_builds_at_once_share_fragments(bench: Bench, tmp_path: Path) -> None:
    locks = [["alpha", "beta"], ["alpha", "gamma"], ["alpha", "beta", "gamma"]] * 4
    with ThreadPoolExecutor(len(locks)) as threads:
        made = list(
            threads.map(
                lambda names: bench.layer(LayerStore(tmp_path / "store"), names),
                locks,
            )
        )
    for names, layer in zip(locks, made, strict=True):
        assert layer == bench.layer(LayerStore(tmp_path / "fresh"), names)


@pytest.mark.parametrize(
    ("compression", "command"), [("zstd", ["zstd", "-dc"]), ("gzip", ["gzip", "-dc"])]
)
def test_the_common_programs_read_all_frames(
    bench: Bench, tmp_path: Path, compression: Name, command: list[str]
) -> None:
    store = LayerStore(tmp_path / "store")
    layer = bench.layer(store, list(bench.wheels), compression)
    try:
        done = subprocess.run(
            command, input=b"".join(store.open(layer)), capture_output=True, check=True, timeout=60
        )
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    assert f"sha256:{hashlib.sha256(done.stdout).hexdigest()}" == layer.diff_id
