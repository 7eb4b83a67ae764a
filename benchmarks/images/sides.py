"""The two builders that are compared, each with what it needs to begin anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from merlin.artifacts.local import LocalStore
from merlin.progress import Silent
from merlin_images.builders.native import NativeBuilder
from merlin_images.builders.port import BuildRequest, BuiltImage, ModelSource
from merlin_images.image.base_images import BaseImages
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.reference import Reference, parse_reference

REQUIREMENTS = "scikit-learn==1.7.2\nmlflow-skinny==3.4.0\n"
# Small packages that W1 does not have: each added to it makes another lock.
ADDITIONS = (
    *("tabulate==0.9.0", "toolz==1.0.0", "colorama==0.4.6", "tomli==2.2.1", "iniconfig==2.1.0"),
    *("xmltodict==0.14.2", "wcwidth==0.2.13", "decorator==5.1.1", "sortedcontainers==2.4.0"),
)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
LEASE_SECONDS = 3600.0

_DOCKERFILE = """FROM {base}
COPY venv /opt/venv
COPY model /opt/model
WORKDIR /opt/model
USER 65532
ENTRYPOINT ["/usr/bin/python3"]
"""


class Counting(httpx2.HTTPTransport):
    """The network, and how many requests went over it."""

    def __init__(self) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=32, max_keepalive_connections=16))
        self._lock = threading.Lock()
        self.requests = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        with self._lock:
            self.requests += 1
        return super().handle_request(request)


class Ours:
    """The native builder as a library in a warm process, as a server or a worker uses it."""

    def __init__(self, folder: Path, host: str) -> None:
        self.host = host
        self.wire = Counting()
        self.registry = DistributionRegistry(host, insecure=True, transport=self.wire)
        self.store = LocalStore(folder / "store", durable=False)
        self.base = self.push_base(folder / "base-cache", "base:1")
        self._folder = folder
        self._knowing: set[Path] = set()
        self.forget("warm")

    def push_base(self, cache: Path, name: str) -> Reference:
        """Both sides start from the same base image in the registry."""
        images = BaseImages(cache, lambda _: self.registry)
        to = parse_reference(f"{self.host}/{name}")
        return images.publish("debian:", python="3.11", to=to, progress=Silent())

    def forget(self, name: str) -> None:
        """Begin with an empty cache, uv's own too, and a new repository."""
        self._cache = self._folder / f"ours-{name}"
        os.environ["UV_CACHE_DIR"] = str(self._cache / "uv")
        self._repository = f"ours/{name}"
        self.builder = self._builder(self._cache)

    def move(self, name: str) -> None:
        self._repository = f"ours/{name}"

    def take_lease(self) -> None:
        """Have what the registry is asked now count as known for a while."""
        self.builder = self._builder(self._cache, lease_seconds=LEASE_SECONDS)
        self.build()

    def other_lock(self, added: str) -> None:
        """Know the wheels of a lock that is still to be made, as other models brought them."""
        del added
        if self._cache not in self._knowing:
            self._knowing.add(self._cache)
            folder = self._folder / "store" / "additions"
            folder.mkdir(exist_ok=True)
            (folder / "requirements.txt").write_text("\n".join([REQUIREMENTS, *ADDITIONS]))
            self.build_of("additions", "additions")

    def build(self) -> None:
        self.builder.build(self.request(), Silent())

    def build_of(self, name: str, folder: str = "model") -> BuiltImage:
        """Build one of many models, each for a repository of its own."""
        target = parse_reference(f"{self.host}/ours/{name}:1")
        request = replace(self.request(), target=target, model=ModelSource(self.store, folder))
        return self.builder.build(request, Silent())

    def request(self) -> BuildRequest:
        return BuildRequest(
            model=ModelSource(self.store, "model"),
            target=parse_reference(f"{self.host}/{self._repository}:1"),
            model_type="pyfunc",
            model_name="bench",
            version="1",
            python="3.11",
            created=CREATED,
        )

    def _builder(self, cache: Path, *, lease_seconds: float = 0) -> NativeBuilder:
        return NativeBuilder(
            lambda _: self.registry,
            cache,
            default_base=str(self.base),
            lease_seconds=lease_seconds,
        )


class Buildah:
    """buildah with layer caching; uv installs the locked wheels into a folder for it."""

    def __init__(self, folder: Path, host: str, *, base: Reference) -> None:
        self._context = folder / "context"
        self._root = folder / "buildah"
        self._host = host
        self._name = "buildah/first"
        self._context.mkdir()
        (self._context / "Dockerfile").write_text(_DOCKERFILE.format(base=base))
        self._store = folder / "store"
        self._uv_cache = folder / "buildah-uv-cache"

    def forget(self, name: str) -> None:
        self._name = f"buildah/{name}"
        self.drop_images()
        shutil.rmtree(self._context / "venv", ignore_errors=True)
        shutil.rmtree(self._uv_cache, ignore_errors=True)

    def drop_images(self) -> None:
        self._run("rmi", "--all", "--force")

    def move(self, name: str) -> None:
        self._name = f"buildah/{name}"

    def take_lease(self) -> None:
        """There is none."""

    def other_lock(self, added: str) -> None:
        """Have the next build install anew, from wheels that uv knows."""
        self._install(added)
        shutil.rmtree(self._context / "venv")

    def build(self) -> None:
        self.build_of(self._name)

    def build_of(self, name: str, folder: str = "model") -> None:
        if not (self._context / "venv").exists():
            self._install("-r", str(self._store / folder / "requirements.txt"))
        shutil.rmtree(self._context / "model", ignore_errors=True)
        # Links, as a copy of gigabytes is no business of buildah's.
        shutil.copytree(self._store / folder, self._context / "model", copy_function=os.link)
        target = f"{self._host}/{name}:1"
        self._run("build", "--layers", "--isolation=chroot", "-t", target, str(self._context))
        self._run("push", target)

    def _install(self, *what: str) -> None:
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--target", str(self._context / "venv")]
            + ["--cache-dir", str(self._uv_cache), "--python", sys.executable]
            + [*what],
            check=True,
        )

    def _run(self, command: str, *arguments: str) -> None:
        tls = ["--tls-verify=false"] if command in {"build", "push"} else []
        subprocess.run(
            ["buildah", "--root", str(self._root), "--runroot", f"{self._root}-run", command]
            + [*tls, *arguments],
            check=command != "rmi",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


Side = Ours | Buildah
