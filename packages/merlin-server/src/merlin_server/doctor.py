"""What ``merlin doctor`` does: try, in small, all that a deployment needs of stores and registries.

Keys and tags are new with every run, so that two runs at once do not disturb each other.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from merlin.artifacts import ArtifactStore, open_store
from merlin.errors import Kind, MerlinError
from merlin_images.registry.open import open_registry
from merlin_images.registry.port import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Deletes,
    Descriptor,
    ImageRegistry,
)
from merlin_images.registry.reference import Reference, parse_reference
from merlin_server.registries import open_outside
from merlin_server.settings import Settings
from merlin_server.settings_loading import load_settings

# Signed requests are refused beyond 15 minutes (S3, Azure); this leaves time to mend it.
CLOCK_SKEW_SECONDS = 300
_CONTENT = b"merlin doctor\n"

Step = tuple[str, Callable[[], str]]


class DoctorFoundFaults(MerlinError):
    """A check of ``merlin doctor`` failed; what it printed says which and why."""

    code = "doctor_found_faults"
    kind = Kind.FAILED
    hint = "Mend what the failed steps name, then run merlin doctor again."


@dataclass(frozen=True)
class Finding:
    """What came of one step. ``detail`` is the finding, or why it failed and what to do."""

    step: str
    is_good: bool
    detail: str


def run_doctor(*, files: Sequence[Path], options: Mapping[str, Any]) -> None:
    """Print one line a step. Raises `DoctorFoundFaults` after the last if any failed."""
    settings = load_settings(files, options)
    failed = 0
    for finding in examine(settings, secrets.token_hex(8), lambda: datetime.now(UTC)):
        failed += not finding.is_good
        word = "ok    " if finding.is_good else "FAILED"
        sys.stdout.write(f"{word}  {finding.step}: {finding.detail}\n")
    if failed:
        raise DoctorFoundFaults("A check failed." if failed == 1 else f"{failed} checks failed.")


def examine(settings: Settings, name: str, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """Yield findings as they are made; in each place the steps end at the first that fails."""
    yield from _walk(_store_steps(settings, name, clock))
    yield from _walk(_registry_steps(settings, name))


def _walk(steps: Iterator[Step]) -> Iterator[Finding]:
    for step, action in steps:
        try:
            detail = action()
        except MerlinError as error:
            yield Finding(step, is_good=False, detail=str(error))
            return
        yield Finding(step, is_good=True, detail=detail)


def _store_steps(settings: Settings, name: str, clock: Callable[[], datetime]) -> Iterator[Step]:
    url = settings.artifacts_url or (settings.data_dir.absolute() / "artifacts").as_uri()
    opened: list[ArtifactStore] = []
    yield "artifact store, open", lambda: _opened(opened, url)
    store, key = opened[0], f"merlin/doctor/{name}"
    yield "artifact store, list", lambda: _listed(store)
    yield "artifact store, write", lambda: _written(store, key)
    yield "artifact store, read", lambda: _read_back(store, key)
    yield "artifact store, clock", lambda: _skew(store, key, clock)
    yield "artifact store, delete", lambda: _deleted(store, key)


def _opened(opened: list[ArtifactStore], url: str) -> str:
    opened.append(open_store(url))
    return opened[0].url


def _listed(store: ArtifactStore) -> str:
    count = sum(1 for _ in store.list("merlin/doctor"))
    return "nothing left behind" if count == 0 else f"{count} left behind by earlier checks"


def _written(store: ArtifactStore, key: str) -> str:
    store.write(key, [_CONTENT])
    return f"{len(_CONTENT)} bytes at {key}"


def _read_back(store: ArtifactStore, key: str) -> str:
    if b"".join(store.read(key)) != _CONTENT:
        raise DoctorFoundFaults(f"{store.url} returned other bytes than were written to {key}.")
    return "the same bytes"


def _skew(store: ArtifactStore, key: str, clock: Callable[[], datetime]) -> str:
    seconds = (clock() - store.head(key).modified).total_seconds()
    if abs(seconds) > CLOCK_SKEW_SECONDS:
        direction = "ahead of" if seconds > 0 else "behind"
        raise DoctorFoundFaults(
            f"This machine's clock is {abs(seconds):.0f} s {direction} the store's.",
            hint="Set the clock (NTP): signed requests are refused when it is off.",
        )
    return f"within {CLOCK_SKEW_SECONDS} s of the store's"


def _deleted(store: ArtifactStore, key: str) -> str:
    store.delete(key)
    if key in {info.key for info in store.list(key.rpartition("/")[0])}:
        raise DoctorFoundFaults(f"{store.url} still lists {key} after it was deleted.")
    return "gone"


def _registry_steps(settings: Settings, name: str) -> Iterator[Step]:
    registry = settings.registry
    if registry.type == "builtin":
        yield "image registry", lambda: "built in, nothing to reach"
        return
    opened: list[tuple[ImageRegistry, Reference]] = []

    def opening() -> str:
        if registry.type == "layout":
            reference = parse_reference(f"localhost/merlin-doctor:{name}")
            found = open_registry(registry.prefix, type="layout")
        else:
            reference = parse_reference(f"{registry.prefix}/merlin-doctor:{name}")
            found = open_outside(registry, reference)
        opened.append((found, reference))
        return str(reference)

    yield "image registry, open", opening
    client, reference = opened[0]
    yield "image registry, reach and log in", lambda: _looked_up(client, reference)
    yield "image registry, push", lambda: _pushed(client, reference)
    yield "image registry, delete", lambda: _untagged(client, reference)


def _looked_up(registry: ImageRegistry, reference: Reference) -> str:
    registry.resolve(reference)
    return "answers, and lets us look images up"


def _pushed(registry: ImageRegistry, reference: Reference) -> str:
    content = b"{}"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blob = Descriptor(OCI_CONFIG, digest, len(content))
    registry.write_blob(reference, blob, lambda: [content])
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": blob.to_dict(),
        "layers": [],
    }
    written = registry.write_manifest(reference, OCI_MANIFEST, json.dumps(manifest).encode())
    return written.digest


def _untagged(registry: ImageRegistry, reference: Reference) -> str:
    if not isinstance(registry, Deletes):
        return "this kind of registry deletes nothing; the check's image stays"
    registry.delete_manifest(reference)
    return "gone (its blob of 2 bytes goes with the registry's next garbage collection)"
