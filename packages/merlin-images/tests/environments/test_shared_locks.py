"""One lock for all builders of a platform, kept in its blob store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from uv import find_uv_bin

from merlin.artifacts import open_store
from merlin.artifacts.errors import ArtifactNotFound, StoreDenied, StoreUnsupported
from merlin.artifacts.local import LocalStore
from merlin.artifacts.memory import MemoryStore
from merlin.artifacts.store import ArtifactStore, ObjectInfo
from merlin.progress import Silent
from merlin_images.environments.dependency_hash import dependency_hash, environment_text
from merlin_images.environments.errors import StoredLockCorrupt
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Lock, Target
from merlin_images.environments.shared_locks import FOLDER, seal, unseal
from tests.blob_servers import CannotInstall, Service, moto
from tests.peers import missing

TARGET = Target("x86_64-manylinux_2_28", "3.11")
SPEC = EnvironmentSpec("3.11", ("six==1.17.0",))
ENVIRONMENT = f"{FOLDER}/{dependency_hash(SPEC)}/environment.json"
BUILDER = Path(__file__).with_name("racing_builder.py")


class Recorded(Silent):
    """Remembers whether locks were known, shared or resolved."""

    def __init__(self) -> None:
        self.origins: list[str] = []

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        self.origins.append(detail.rpartition(", ")[2])


def lock(resolver: Resolver, progress: Silent | None = None) -> Lock:
    return resolver.lock(SPEC, TARGET, runtime_requirements=(), progress=progress or Silent())


def stored(store: ArtifactStore) -> list[str]:
    return [info.key for info in store.list(FOLDER)]


@pytest.fixture
def restless_uv(tmp_path: Path) -> Path:
    """uv on an index that changes all the time: no two locks are equal."""
    program = tmp_path / "uv"
    program.write_text(
        f'#!/bin/sh\n"{find_uv_bin()}" "$@" || exit\n'
        'if [ "$1" = pip ]; then\n'
        f'  echo "# made by $$" >> pylock.toml\n  echo "$$" >> "{tmp_path}/resolved"\nfi\n'
    )
    program.chmod(0o755)
    return program


@pytest.fixture(scope="session")
def s3_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with contextlib.ExitStack() as stack:
        try:
            service = stack.enter_context(moto(tmp_path_factory.mktemp("moto")))
        except CannotInstall as error:
            missing(str(error))
        service.make_bucket("locks")
        yield service


def race(store: str, caches: Iterable[Path], uv: Path, environ: dict[str, str]) -> list[str]:
    """Let builders with these caches lock at once, eight threads each."""
    builders = [
        subprocess.Popen(
            [sys.executable, str(BUILDER), store, str(cache), str(uv), "8"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )
        for cache in caches
    ]
    try:
        for builder in builders:
            assert _pipe(builder.stdout).readline() == "ready\n"
        for builder in builders:
            _pipe(builder.stdin).write("\n")
            _pipe(builder.stdin).flush()
        return [text for each in builders for text in json.loads(_pipe(each.stdout).readline())]
    finally:
        for builder in builders:
            builder.kill()
            builder.communicate()


def _pipe(pipe: IO[Any] | None) -> IO[Any]:
    assert pipe is not None
    return pipe


def test_replicas_processes_and_threads_use_one_lock_in_a_folder(
    tmp_path: Path, restless_uv: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    caches = [tmp_path / "here", tmp_path / "here", tmp_path / "there", tmp_path / "there"]
    texts = race(store.url, caches, restless_uv, {})
    assert len(texts) == 32
    assert len(set(texts)) == 1
    assert len(stored(store)) == 2
    # Processes of one machine resolve once.
    assert len((tmp_path / "resolved").read_text().split()) <= 2


@pytest.mark.parts("moto")
def test_replicas_processes_and_threads_use_one_lock_in_s3(
    tmp_path: Path, restless_uv: Path, s3_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = [tmp_path / "here", tmp_path / "here", tmp_path / "there", tmp_path / "elsewhere"]
    texts = race("s3://locks/race", caches, restless_uv, dict(s3_service.environ))
    assert len(texts) == 32
    assert len(set(texts)) == 1
    for name, value in s3_service.environ.items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://locks/race")
    assert len(stored(store)) == 2
    # Who comes later, on a machine of its own, takes it from there.
    progress = Recorded()
    assert lock(Resolver(tmp_path / "later", uv=restless_uv, store=store), progress).text in texts
    assert progress.origins == ["shared"]


def test_what_a_machine_knows_is_put_into_a_store_that_lacks_it(tmp_path: Path) -> None:
    alone = lock(Resolver(tmp_path / "cache"))
    store, progress = MemoryStore(), Recorded()
    resolver = Resolver(tmp_path / "cache", store=store)
    assert lock(resolver, progress) == alone
    assert len(stored(store)) == 2
    assert lock(Resolver(tmp_path / "other", store=store), progress) == alone
    assert progress.origins == ["known", "shared"]


def test_the_store_has_the_last_word(tmp_path: Path, restless_uv: Path) -> None:
    here = lock(Resolver(tmp_path / "here", uv=restless_uv))
    store = MemoryStore()
    there = lock(Resolver(tmp_path / "there", uv=restless_uv, store=store))
    assert here.text != there.text
    assert lock(Resolver(tmp_path / "here", uv=restless_uv, store=store)) == there
    # From now on this machine knows it, also where there is no store.
    assert lock(Resolver(tmp_path / "here", uv=restless_uv)) == there


def test_a_store_is_asked_once_by_a_process(tmp_path: Path) -> None:
    store = MemoryStore()
    resolver = Resolver(tmp_path / "cache", store=store)
    first = lock(resolver)
    for key in stored(store):
        store.delete(key)
    assert lock(resolver) == first
    assert stored(store) == []


def test_what_a_maintainer_sees_in_the_bucket(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    made = lock(Resolver(tmp_path / "cache", store=store))
    # Merlin's own server keeps conda files here, each under the hash of its bytes.
    store.write(f"{FOLDER}/{hashlib.sha256(b'name: x').hexdigest()}", [b"name: x"])
    folder = tmp_path / "store" / FOLDER / made.environment
    text, lock_file = sorted(folder.iterdir())
    assert text.name == "environment.json"
    assert text.read_text() == environment_text(SPEC)
    said = subprocess.run(["sha256sum", text], capture_output=True, text=True, check=True).stdout
    assert said.split()[0] == folder.name
    assert lock_file.name == f"pylock.x86_64-manylinux_2_28-py311-{made.key[:16]}.toml"
    said = subprocess.run(
        [find_uv_bin(), "pip", "sync", "--dry-run", "--target", tmp_path / "new", lock_file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stderr
    assert "six==1.17.0" in said


def test_locks_of_several_targets_lie_beside_each_other(tmp_path: Path) -> None:
    store = MemoryStore()
    resolver = Resolver(tmp_path, store=store)
    for platform in ("x86_64-manylinux_2_28", "aarch64-manylinux2014"):
        resolver.lock(SPEC, Target(platform, "3.11"), runtime_requirements=(), progress=Silent())
    names = [key.removeprefix(f"{FOLDER}/{dependency_hash(SPEC)}/") for key in stored(store)]
    assert [name.rpartition("-")[0] for name in names] == [
        "",
        "pylock.aarch64-manylinux2014-py311",
        "pylock.x86_64-manylinux_2_28-py311",
    ]


def _edited(content: bytes) -> bytes:
    return content.replace(b"1.17.0", b"1.16.0")


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _of_another_key(content: bytes) -> bytes:
    text = content.decode().split("\n", 2)[2]
    return seal("another", text).encode()


def _unsealed(content: bytes) -> bytes:
    return content.split(b"\n", 2)[2]


@pytest.mark.parametrize("change", [_edited, _cut, _of_another_key, _unsealed, lambda _: b"\xff"])
@pytest.mark.parametrize("known", [False, True])
def test_a_damaged_lock_is_refused_by_name(tmp_path: Path, change: Any, known: bool) -> None:
    store = MemoryStore()
    first = lock(Resolver(tmp_path / "a", store=store))
    (name,) = (key for key in stored(store) if key != ENVIRONMENT)
    whole = b"".join(store.read(name))
    store.write(name, [change(whole)])
    cache = tmp_path / ("a" if known else "b")
    with pytest.raises(StoredLockCorrupt, match=name.rpartition("/")[2]) as caught:
        lock(Resolver(cache, store=store))
    assert caught.value.data == {"key": name, "store": store.url}
    # As the hint says: without it, it is made again.
    store.delete(name)
    assert lock(Resolver(cache, store=store)) == first
    assert b"".join(store.read(name)) == whole


def test_a_damaged_lock_of_this_machine_is_fetched_again(tmp_path: Path) -> None:
    store, progress = MemoryStore(), Recorded()
    resolver = Resolver(tmp_path, store=store)
    first = lock(resolver)
    (path,) = tmp_path.rglob("pylock.toml")
    path.write_bytes(path.read_bytes()[:-7])
    assert lock(resolver, progress) == first
    assert progress.origins == ["shared"]


def test_an_edited_environment_is_put_right(tmp_path: Path) -> None:
    store = MemoryStore()
    lock(Resolver(tmp_path, store=store))
    store.write(ENVIRONMENT, [b"{}"])
    lock(Resolver(tmp_path, store=store))
    assert b"".join(store.read(ENVIRONMENT)).decode() == environment_text(SPEC)


class Unconditional(MemoryStore):
    """Cannot create conditionally, as an MLflow server."""

    def write(
        self, key: str, source: Iterable[bytes], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        if only_if_absent:
            raise StoreUnsupported("not here")
        return super().write(key, source)


def test_a_store_without_conditional_creation(tmp_path: Path, restless_uv: Path) -> None:
    store = Unconditional()
    first = lock(Resolver(tmp_path / "a", uv=restless_uv, store=store))
    lock(Resolver(tmp_path / "b", uv=restless_uv))
    assert lock(Resolver(tmp_path / "b", uv=restless_uv, store=store)) == first
    assert lock(Resolver(tmp_path / "c", uv=restless_uv, store=store)) == first


class Unlistable(MemoryStore):
    """S3 to somebody without the right to list: what is absent is denied."""

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        try:
            return super().read(key, offset=offset, length=length)
        except ArtifactNotFound as error:
            raise StoreDenied("403") from error


def test_without_the_right_to_list(tmp_path: Path) -> None:
    store, progress = Unlistable(), Recorded()
    first = lock(Resolver(tmp_path / "a", store=store), progress)
    assert lock(Resolver(tmp_path / "b", store=store), progress) == first
    assert progress.origins == ["resolved", "shared"]


@pytest.mark.parametrize("text", ["", "a", "a\n", "\n\na\r\n\n", "ä"])
def test_seals(text: str) -> None:
    sealed = seal("key", text).encode()
    assert unseal("key", sealed) == text
    assert unseal("yek", sealed) is None
    assert unseal("key", sealed + b"\n") is None
    assert unseal("key", b"") is None
