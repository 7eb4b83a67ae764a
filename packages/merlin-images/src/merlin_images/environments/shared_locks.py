"""Environments and their locks in a blob store, for all builders of a platform.

One folder an environment, named by its `dependency_hash`::

    merlin/model_dependencies/{hash}/environment.json
    merlin/model_dependencies/{hash}/pylock.x86_64-manylinux_2_28-py311-{key}.toml

The JSON is the normalised environment; its sha256 is the folder's name. Each lock has a name that
PEP 751 allows, so what is downloaded from the bucket can be given to uv or pip as it is. Merlin's
own server keeps raw conda.yaml files as *objects* ``merlin/model_dependencies/{hash}``; those are
hashes of other bytes, so both can share a bucket.

A lock is created once and never changed: the first builder's is everybody's. Its first line is a
digest of the rest. A lock that does not agree with it is refused, not made anew: versions that
other images already have would change with nobody's decision. The digest finds accidents; against
somebody who may write to the bucket only the bucket's permissions help.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

from merlin.artifacts.errors import (
    ArtifactExists,
    ArtifactNotFound,
    StoreDenied,
    StoreUnsupported,
)
from merlin.artifacts.store import ArtifactStore
from merlin_images.environments.dependency_hash import dependency_hash, environment_text
from merlin_images.environments.errors import StoredLockCorrupt
from merlin_images.environments.model import EnvironmentSpec, Target

FOLDER = "merlin/model_dependencies"
ENVIRONMENT = "environment.json"

_SEAL = "# merlin-lock/1 sha256:"


@dataclass(frozen=True)
class LockName:
    """Which lock: of an environment (its `dependency_hash`), for a target, by the key of all that
    it was resolved from."""

    environment: str
    target: Target
    key: str

    @property
    def path(self) -> str:
        """The object's key in a store."""
        python = self.target.python.replace(".", "")
        name = f"{self.target.platform}-py{python}-{self.key[:16]}"
        return f"{FOLDER}/{self.environment}/pylock.{name.replace('.', '_')}.toml"


class SharedLocks:
    """Finds and keeps locks in ``store``; safe for many threads, processes and machines.

    S3, GCS, Azure and folders have exactly one first builder. A store that cannot create
    conditionally (an MLflow server's), or whose condition is no more than a look beforehand
    (Swift's), is read after it was written; two builders that meet in just that moment may each go
    on with their own lock until they start anew.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def find(self, name: LockName) -> str | None:
        """Return the lock another builder kept.

        S3 denies reading an object that is absent to who may not list; `keep` tells the difference.
        Raises `StoredLockCorrupt`, and what the store raises.
        """
        try:
            return self._read(name)
        except StoreDenied:
            return None

    def keep(self, name: LockName, text: str) -> str:
        """Keep a lock and return it, or the one that was kept before. Raises as `find`."""
        content = [seal(name.key, text).encode()]
        try:
            self._store.write(name.path, content, only_if_absent=True)
        except ArtifactExists:
            pass
        except StoreUnsupported:
            if self._read(name) is None:
                self._store.write(name.path, content)
        return self._read(name) or text

    def describe(self, spec: EnvironmentSpec) -> None:
        """Write the environment beside its locks, if it is not there as it should be.

        What must stand there follows from its name, so writing it again harms nobody.
        """
        key = f"{FOLDER}/{dependency_hash(spec)}/{ENVIRONMENT}"
        content = environment_text(spec).encode()
        with contextlib.suppress(ArtifactNotFound, StoreDenied):
            if b"".join(self._store.read(key)) == content:
                return
        self._store.write(key, [content])

    def _read(self, name: LockName) -> str | None:
        try:
            content = b"".join(self._store.read(name.path))
        except ArtifactNotFound:
            return None
        text = unseal(name.key, content)
        if text is None:
            raise StoredLockCorrupt(
                f"The lock {name.path} in {self._store.url} is not as it was written.",
                key=name.path,
                store=self._store.url,
            )
        return text


def seal(key: str, text: str) -> str:
    """Put a line before a lock that tells whether the lock is whole, and that of ``key``.

    The lock may not be mistaken for that of another key, so the key is part of the digest.
    """
    body = f"# key {key}\n{text}"
    return f"{_SEAL}{hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def unseal(key: str, content: bytes) -> str | None:
    """Return what was sealed for ``key``; ``None`` if a byte of it is another one."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    text = text.partition("\n")[2].partition("\n")[2]
    return text if seal(key, text).encode() == content else None
