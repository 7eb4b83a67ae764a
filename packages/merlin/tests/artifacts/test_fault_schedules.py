"""Blob stores over networks that break, by seeded schedules of faults.

What a call says is done is there whole; what fails is an error of the family that names the store;
nothing is half visible; and the same again without faults succeeds. Bytes are not corrupted here:
between a store and its clients that is the business of TLS.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from merlin.artifacts import azure, bucket, gcs, s3
from merlin.artifacts.errors import ArtifactError, ArtifactExists, ArtifactNotFound
from merlin.artifacts.folders import delete_folder, download_folder, upload_folder
from merlin.artifacts.store import ArtifactStore
from tests.blob_servers import Service
from tests.fault_schedules import FAULTS, ONLY_SEED, Schedule, seeds
from tests.faulty_proxy import FaultyProxy

# So soon a store that says nothing is given up, where there are faults.
SILENCE_SECONDS = 0.5
PATIENT_SECONDS = 60.0
PART_BYTES = 5 << 20
NETWORK_FAULTS = [kind for kind in FAULTS if not kind.startswith("corrupt")]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between tries and for silent servers, and cut uploads into smaller parts."""
    monkeypatch.setattr(bucket, "PART_BYTES", PART_BYTES)
    pauses = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=9)}
    real = bucket.client_options

    def options(**given: Any) -> Any:
        return {**real(**given), "read_timeout": timedelta(seconds=_silence)}

    for module in (s3, azure):
        retries = {**bucket.RETRIES, "backoff": {**pauses, "base": 2}}
        monkeypatch.setattr(module, "RETRIES", retries)
        monkeypatch.setattr(module, "client_options", options)


@dataclass
class Place:
    """A bucket of a service, seen directly and through a proxy."""

    name: str
    direct: ArtifactStore
    broken: ArtifactStore
    proxy: FaultyProxy


@contextmanager
def opened(kind: str, service: Service) -> Iterator[Place]:
    name = f"faults-{uuid.uuid4()}"
    service.make_bucket(name)
    with FaultyProxy(service.url) as proxy:
        environ = {
            key: value.replace(service.url, proxy.url) for key, value in service.environ.items()
        }
        direct = _open(kind, name, service.environ)
        yield Place(name, direct, _open(kind, name, environ, silence=SILENCE_SECONDS), proxy)


_silence = PATIENT_SECONDS


def _open(kind: str, name: str, environ: Any, *, silence: float = PATIENT_SECONDS) -> ArtifactStore:
    global _silence  # noqa: PLW0603 -- what the options of a client are made with
    _silence = silence
    if kind == "azurite":
        return azure.open_azure(f"az://{name}/root", environ)
    if kind == "gcs":
        store = gcs.open_gcs(f"gs://{name}/root", environ)
        store._client.timeout = silence
        return store
    return s3.open_s3(f"s3://{name}/root", environ)


class Run:
    """One seed on one place."""

    def __init__(self, seed: int, place: Place, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.seed = seed
        self.place = place
        self.folder = folder
        self.key = f"s{seed}/object +%?#é"
        self.outcomes: dict[str, bool] = {}

    def broken(self, action: str, work: Callable[[], object]) -> bool:
        """Whether an action came through the faults; if not, its error is a clear one."""
        proxy = self.place.proxy
        proxy.faults.clear()
        proxy.plan = Schedule(self.seed * 100 + len(self.outcomes), faults=NETWORK_FAULTS)
        failure: ArtifactError | None = None
        try:
            work()
        except ArtifactError as error:
            failure = error
        finally:
            proxy.plan = lambda _: None
        if failure is not None:
            assert not isinstance(failure, ArtifactNotFound), "a broken store is not an empty one"
            assert self.place.name in failure.message or proxy.host in failure.message, failure
        self.outcomes[action] = failure is None
        return failure is None

    def again(self, work: Callable[[], object]) -> None:
        """Without faults; a machine under load may be too slow for this impatience."""
        for left in (2, 1, 0):
            try:
                work()
            except ArtifactError:
                if not left:
                    raise
            else:
                return

    def objects(self) -> None:
        """Write, replace, create once, read, read a part, list and delete."""
        broken, direct, key = self.place.broken, self.place.direct, self.key
        size = PART_BYTES + 99 if self.seed % 8 == 0 else self.chance.randrange(70_000)
        old, new = b"old content", self.chance.randbytes(size)
        direct.write(key, [old])
        pieces = [new[:7], new[7:]]
        if not self.broken("write", lambda: broken.write(key, pieces)):
            assert self.read(direct) in (old, new), "half visible"
            self.again(lambda: broken.write(key, pieces))
        assert self.read(direct) == new

        created = f"{key} once"

        def create() -> None:
            try:
                broken.write(created, [old], only_if_absent=True)
            except ArtifactExists:
                # Our own, whose answer was lost: whole, as for any who came too late.
                assert self.read(direct, created) == old

        if not self.broken("create", create):
            self.again(create)
        assert self.read(direct, created) == old

        def read() -> None:
            assert self.read(broken) == new
            middle = b"".join(broken.read(key, offset=size // 3, length=size // 3))
            assert middle == new[size // 3 : size // 3 * 2]
            assert broken.head(key).size == size

        if not self.broken("read", read):
            self.again(read)

        def listing() -> None:
            found = [info.key for info in broken.list(f"s{self.seed}")]
            assert found == sorted([key, created])

        if not self.broken("list", listing):
            self.again(listing)

        if not self.broken("delete", lambda: broken.delete(key)):
            self.again(lambda: broken.delete(key))
        with pytest.raises(ArtifactNotFound):
            direct.head(key)

    def folders(self) -> None:
        """Upload a folder, download it and delete it."""
        broken, direct, there = self.place.broken, self.place.direct, f"f{self.seed}"
        local = self.folder / "up"
        files = {f"d{n % 3}/f{n}": self.chance.randbytes(n * 500) for n in range(6)}
        for name, content in files.items():
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            (local / name).write_bytes(content)

        if not self.broken("upload", lambda: upload_folder(local, broken, there)):
            for info in direct.list(there):
                content = b"".join(direct.read(info.key))
                assert content == files[info.key.partition("/")[2]], "half visible"
            self.again(lambda: upload_folder(local, broken, there))
        found = {info.key: b"".join(direct.read(info.key)) for info in direct.list(there)}
        assert found == {f"{there}/{name}": content for name, content in files.items()}

        target = self.folder / "down"
        if not self.broken("download", lambda: download_folder(broken, there, target)):
            for file in target.rglob("*/*"):
                assert file.read_bytes() == files[file.relative_to(target).as_posix()]
            self.again(lambda: download_folder(broken, there, target))
        written = [file for file in target.rglob("*") if file.is_file()]
        downloaded = {file.relative_to(target).as_posix(): file.read_bytes() for file in written}
        assert downloaded == files

        def delete() -> None:
            failed = delete_folder(broken, there).failed
            left = {info.key for info in direct.list(there)}
            assert left <= {key for key, _ in failed}
            if failed:
                raise failed[0][1]

        if not self.broken("delete folder", delete):
            self.again(delete)
        assert list(direct.list(there)) == []

    def read(self, store: ArtifactStore, key: str = "") -> bytes:
        return b"".join(store.read(key or self.key))


def run_all(kind: str, service: Service, folder: Path, count: int, start: int = 0) -> None:
    totals: dict[str, int] = {}
    chosen = seeds(count, start=start)
    with opened(kind, service) as place:
        for seed in chosen:
            run = Run(seed, place, folder / str(seed))
            try:
                run.objects()
                run.folders()
            except BaseException as error:
                error.add_note(f"{ONLY_SEED}={seed}; faults: {place.proxy.faults}")
                raise
            for action, done in run.outcomes.items():
                totals[action] = totals.get(action, 0) + done
    print(f"{kind}: {len(chosen)} seeds; completed in spite of faults: {totals}")


@pytest.mark.parametrize(
    "kind",
    [pytest.param(name, marks=pytest.mark.parts(name)) for name in ("moto", "azurite", "gcs")],
)
def test_a_few_schedules(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run_all(kind, request.getfixturevalue(f"{kind}_service"), tmp_path, 6)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["moto", "swift", "azurite", "gcs"])
def test_many_schedules(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run_all(kind, request.getfixturevalue(f"{kind}_service"), tmp_path, 125, start=1000)
