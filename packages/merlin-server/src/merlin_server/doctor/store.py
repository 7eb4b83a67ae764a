"""Examining the blob store. Keys are new with every run, so that two do not disturb each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from merlin.artifacts import ArtifactStore, open_store
from merlin.artifacts.errors import ArtifactExists
from merlin.artifacts.store import Remote
from merlin_server.doctor.network import Reached
from merlin_server.doctor.steps import DoctorFoundFaults, NotNeeded, Step
from merlin_server.settings import Settings

_CONTENT = b"merlin doctor\n"
_FOLDER = "merlin/doctor"


class StoreExamination:
    """What is tried of the store that the settings name; `steps` are in order."""

    def __init__(self, settings: Settings, name: str, clock: Callable[[], datetime]) -> None:
        local = (settings.data_dir.absolute() / "artifacts").as_uri()
        self._url = settings.artifacts_url or local
        self._options = settings.artifacts.of(self._url)
        self._key = f"{_FOLDER}/{name}"
        self._clock = clock
        self._opened: ArtifactStore | None = None
        self._reached: Reached | None = None

    def steps(self) -> Sequence[Step]:
        return (
            Step("open", self._open),
            Step("reach", self._reach, after=("open",)),
            Step("credentials", self._identify, after=("open",)),
            Step("list", self._list, after=("reach", "credentials")),
            Step("write", self._write, after=("reach", "credentials")),
            Step("read", self._read, after=("write",)),
            Step("create once", self._create_once, after=("write",)),
            Step("clock", self._skew, after=("reach",)),
            Step("delete", self._delete, after=("write",)),
        )

    @property
    def _store(self) -> ArtifactStore:
        if self._opened is None:
            raise AssertionError("the step open comes first")
        return self._opened

    def _open(self) -> str:
        self._opened = open_store(self._url, self._options)
        return self._opened.url

    def _reach(self) -> str:
        if not isinstance(self._store, Remote):
            raise NotNeeded("this store is behind no network of its own")
        connection = self._store.connection
        self._reached = Reached(connection.address, connection.ca_file, self._clock)
        return self._reached.reach()

    def _identify(self) -> str:
        if isinstance(self._store, Remote):
            return self._store.connection.identity()
        raise NotNeeded("this store asks nobody who they are")

    def _list(self) -> str:
        count = sum(1 for _ in self._store.list(_FOLDER))
        return f"{count} left behind by earlier checks" if count else "nothing left behind"

    def _write(self) -> str:
        self._store.write(self._key, [_CONTENT])
        return f"{len(_CONTENT)} bytes at {self._key}"

    def _read(self) -> str:
        if b"".join(self._store.read(self._key)) != _CONTENT:
            raise DoctorFoundFaults(
                f"{self._store.url} returned other bytes than were written to {self._key}."
            )
        return "the same bytes"

    def _create_once(self) -> str:
        try:
            self._store.write(self._key, [_CONTENT], only_if_absent=True)
        except ArtifactExists:
            return "a second create is refused"
        raise DoctorFoundFaults(
            f"{self._store.url} let {self._key} be created twice.",
            hint="Replicas that start together may then lock an environment twice; use a store "
            "that keeps preconditions.",
        )

    def _skew(self) -> str:
        if self._reached is None:
            raise NotNeeded("the clock is this machine's own")
        return self._reached.skew()

    def _delete(self) -> str:
        self._store.delete(self._key)
        if self._key in {info.key for info in self._store.list(_FOLDER)}:
            raise DoctorFoundFaults(
                f"{self._store.url} still lists {self._key} after it was deleted."
            )
        return "gone"
