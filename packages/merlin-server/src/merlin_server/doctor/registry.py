"""Examining the image registry. Tag and image are new with every run: nobody else's go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime

from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.errors import RegistryUnsupported
from merlin_images.registry.http_transport import Retry
from merlin_images.registry.open import open_registry
from merlin_images.registry.permissions import product_of
from merlin_images.registry.port import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Deletes,
    Descriptor,
    ImageRegistry,
)
from merlin_images.registry.reference import Reference, parse_reference
from merlin_server.doctor.network import Reached
from merlin_server.doctor.steps import NotNeeded, Step
from merlin_server.registries import credentials_of, open_outside
from merlin_server.settings import Settings

_REPOSITORY = "merlin-doctor"


class RegistryExamination:
    """What is tried of the registry that the settings name; `steps` are in order."""

    def __init__(self, settings: Settings, name: str, clock: Callable[[], datetime]) -> None:
        self._settings = settings.registry
        self._folder = settings.data_dir.absolute() / "registry"
        self._name = name
        self._clock = clock
        self._opened: tuple[ImageRegistry, Reference] | None = None
        self._reached: Reached | None = None
        self._digest = ""

    def steps(self) -> Sequence[Step]:
        return (
            Step("open", self._open),
            Step("reach", self._reach, after=("open",)),
            Step("credentials", self._identify, after=("open",)),
            Step("look up", self._look_up, after=("reach", "credentials")),
            Step("push", self._push, after=("reach", "credentials")),
            Step("clock", self._skew, after=("reach",)),
            Step("delete", self._delete, after=("push",)),
        )

    @property
    def _registry(self) -> ImageRegistry:
        return self._at[0]

    @property
    def _reference(self) -> Reference:
        return self._at[1]

    @property
    def _at(self) -> tuple[ImageRegistry, Reference]:
        if self._opened is None:
            raise AssertionError("the step open comes first")
        return self._opened

    def _open(self) -> str:
        settings = self._settings
        if settings.type in {"builtin", "layout"}:
            reference = parse_reference(f"localhost/{_REPOSITORY}:{self._name}")
            if settings.type == "builtin":
                self._opened = RegistryStorage(self._folder), reference
                return f"built in, in {self._folder}"
            self._opened = open_registry(settings.prefix, type="layout"), reference
            return f"a layout in {settings.prefix}"
        reference = parse_reference(f"{settings.prefix.rstrip('/')}/{_REPOSITORY}:{self._name}")
        impatient = Retry(attempts=2, wait_seconds=1)
        self._opened = open_outside(settings, reference, retry=impatient), reference
        return str(reference)

    def _reach(self) -> str:
        if not isinstance(self._registry, DistributionRegistry):
            raise NotNeeded("this registry is behind no network")
        ca_file = str(self._settings.ca_file or "")
        self._reached = Reached(f"{self._registry.address}v2/", ca_file, self._clock)
        return self._reached.reach()

    def _identify(self) -> str:
        if not isinstance(self._registry, DistributionRegistry):
            raise NotNeeded("this registry asks nobody who they are")
        host = self._reference.host
        found = credentials_of(self._settings, host).find(host, self._reference.repository)
        if found is None:
            return f"none are known for {host}: we are nobody to it"
        user = found.username if found.username not in {"", "oauth2accesstoken", "AWS"} else ""
        return f"{user} by {found.source}" if user else found.source

    def _look_up(self) -> str:
        self._registry.resolve(self._reference)
        return "answers, and lets us look images up"

    def _push(self) -> str:
        content = json.dumps({"check": self._name}).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blob = Descriptor(OCI_CONFIG, digest, len(content))
        self._registry.write_blob(self._reference, blob, lambda: [content])
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": blob.to_dict(),
            "layers": [],
        }
        body = json.dumps(manifest).encode()
        self._digest = self._registry.write_manifest(self._reference, OCI_MANIFEST, body).digest
        return self._digest

    def _skew(self) -> str:
        if self._reached is None:
            raise NotNeeded("the clock is this machine's own")
        return self._reached.skew()

    def _delete(self) -> str:
        stays = "this registry deletes nothing; the check's image stays"
        if not isinstance(self._registry, Deletes):
            return stays
        # Many cannot delete a tag; the digest is of this check alone, so nothing goes with it.
        for reference in (self._reference, self._reference.at_digest(self._digest)):
            try:
                self._registry.delete_manifest(reference)
            except RegistryUnsupported:
                continue
            return "gone (its blob goes with the registry's next garbage collection)"
        wanted = product_of(self._reference.host).rights["delete"]
        return f"{stays} (it would take {wanted})"
