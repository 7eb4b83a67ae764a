"""Base images assembled from Debian or Ubuntu packages: no container, no root, no hub.

apt resolves and verifies the packages, the tree is laid out by `debian_tree`, the standard library
byte-compiled by `bytecode`, and all of it is one layer in the layer store, keyed by the exact
list of packages. The lists are asked for news at most once a day.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from merlin.output.human import human_size
from merlin.progress import Progress, Silent, step
from merlin_images.environments.libc import parse_libc
from merlin_images.file_lock import exclusive
from merlin_images.image import annotation_keys, bytecode
from merlin_images.image.apt import DebianPackage, PackageNotKnown, PrivateApt
from merlin_images.image.base import Base, BaseLayer
from merlin_images.image.config import AddedLayer, base_config, parse_config
from merlin_images.image.deb import read_control, unpack
from merlin_images.image.debian_tree import place, tree_entries
from merlin_images.image.errors import AptFailed, BasePythonMismatch, BaseUnreachable
from merlin_images.image.manifest import Manifest, digest_of
from merlin_images.layers.byte_compiler import ByteCompiler, Interpreter
from merlin_images.layers.codecs import Codec
from merlin_images.layers.errors import ByteCompilationFailed
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.tar import LAYER_TIME, tar_stream
from merlin_images.registry.port import OCI_CONFIG, Descriptor

_FORMAT = "debian/1"
_FRESH = timedelta(days=1)
_RETRY = timedelta(minutes=10)
_CREATED = datetime.fromtimestamp(LAYER_TIME, UTC)
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


@dataclass(frozen=True)
class _Plan:
    """What a base is made of, and when the package lists were last asked."""

    packages: tuple[DebianPackage, ...]
    sources: str
    asked: datetime

    def version(self, name: str) -> str:
        """The upstream part of a package's version."""
        [version] = [p.version for p in self.packages if p.name == name]
        return version.partition(":")[2] or version

    @property
    def release(self) -> str:
        """The distribution and its release, such as ``Debian:12.15``."""
        [suite] = [p.suite for p in self.packages if p.name == "base-files"]
        return suite.partition("/")[0]


class DebianBases:
    """Makes and remembers bases below ``folder``, their layers in ``layers``.

    ``now`` tells the time for the once-a-day rule. ``sources`` is where the host's package sources
    are configured: a change there makes the lists stale.
    """

    def __init__(
        self,
        folder: Path,
        layers: LayerStore,
        *,
        codec: Codec,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sources: Path = Path("/etc/apt"),
    ) -> None:
        self._folder = folder
        self._layers = layers
        self._codec = codec
        self._now = now
        self._sources = sources

    def base(self, python: str, architecture: str, progress: Progress) -> Base:
        """Return the base for a Python version, made anew if the package lists have changed.

        Raises `BaseUnreachable`, `BasePythonMismatch` or `AptFailed`.
        """
        record = self._folder / f"{architecture}-python{python}.json"
        if base := self._fresh(record, python, architecture):
            return base
        with exclusive(self._folder / "lock"):
            for left in self._folder.glob("tree-*"):
                shutil.rmtree(left)
            return self._fresh(record, python, architecture) or self._refresh(
                record, python, architecture, progress
            )

    def _fresh(self, record: Path, python: str, architecture: str) -> Base | None:
        plan = _read(record)
        if plan is None or plan.sources != self._sources_key() or self._now() - plan.asked > _FRESH:
            return None
        layer = self._layers.get(self._key(plan, architecture))
        if layer is None:
            return None
        return self._describe(plan, layer, python, architecture, ())

    def _refresh(self, record: Path, python: str, architecture: str, progress: Progress) -> Base:
        apt = PrivateApt(
            self._folder / f"apt-{architecture}-{python}",
            architecture=architecture,
            python=python,
            sources=self._sources,
        )
        with step(progress, f"Resolve Debian packages for Python {python}") as running:
            plan, complaint = self._ask(apt, python)
            running.detail = f"{len(plan.packages)} packages of {plan.release}"
        with step(progress, "Assemble the base image") as running:
            layer, made = self._layers.make(
                self._key(plan, architecture),
                kind="base",
                title=f"{plan.release}, {len(plan.packages)} packages",
                codec=self._codec,
                produce=lambda: self._tar(apt, plan.packages, python, architecture),
            )
            running.detail = human_size(layer.descriptor.size) if made else "unchanged"
        _write(record, plan)
        notes = (f"{complaint} Older package lists were used.",) if complaint else ()
        return self._describe(plan, layer, python, architecture, notes)

    def _ask(self, apt: PrivateApt, python: str) -> tuple[_Plan, str]:
        asked, sources = self._now(), self._sources_key()
        complaint = apt.update()
        if complaint:
            asked -= _FRESH - _RETRY
        try:
            packages = self._resolve(apt, python)
        except PackageNotKnown as error:
            if complaint:
                raise BaseUnreachable(complaint) from error
            have = ", ".join(apt.pythons()) or "none"
            raise BasePythonMismatch(
                f"This machine's package sources have no Python {python} "
                f"(no package {error.name}); they have {have}.",
                hint=f"Ask for one of those, or name a base image with Python {python}, such as "
                f"python:{python}-slim.",
            ) from error
        return _Plan(tuple(packages), sources, asked), complaint

    @staticmethod
    def _resolve(apt: PrivateApt, python: str) -> list[DebianPackage]:
        # Debian splits distutils off; models of the time of these Pythons may import it. The
        # package is made for one Python only, which may be another.
        if python in {"3.9", "3.10", "3.11"}:
            with suppress(PackageNotKnown, AptFailed):
                return apt.plan([*_wanted(python), "python3-distutils"])
        return apt.plan(_wanted(python))

    def _tar(
        self, apt: PrivateApt, packages: Sequence[DebianPackage], python: str, architecture: str
    ) -> Iterator[bytes]:
        archives = apt.fetch(packages)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="tree-") as folder:
            root = Path(folder)
            unpacked = [item for archive in archives for item in unpack(archive, root, place)]
            controls = {
                package.name: read_control(archive)
                for package, archive in zip(packages, archives, strict=True)
            }
            compiled: list[Path] = []
            if bytecode.can_compile(architecture):
                compiled = bytecode.compile_standard_library(
                    root, python=python, architecture=architecture
                )
            yield from tar_stream(
                tree_entries(root, unpacked, controls, compiled), mtime=LAYER_TIME
            )

    def _describe(
        self,
        plan: _Plan,
        layer: Layer,
        python: str,
        architecture: str,
        notes: tuple[str, ...],
    ) -> Base:
        facts = {
            annotation_keys.PYTHON_VERSION: plan.version(f"python{python}-minimal").partition("-")[
                0
            ],
            annotation_keys.PYTHON_PATH: f"/usr/bin/python{python}",
            annotation_keys.GLIBC_VERSION: _leading_version(plan.version("libc6")),
        }
        body = base_config(
            architecture=architecture,
            layers=[AddedLayer(layer.diff_id, layer.title)],
            environment=_ENVIRONMENT,
            labels=facts,
            created=_CREATED,
        )
        listed = ", ".join(f"{package.name}={package.version}" for package in plan.packages)
        descriptor = Descriptor(
            layer.descriptor.media_type,
            layer.descriptor.digest,
            layer.descriptor.size,
            {annotation_keys.BASE_PACKAGES: listed, annotation_keys.BASE_SUITE: plan.release},
        )
        manifest = Manifest(Descriptor(OCI_CONFIG, digest_of(body), len(body)), (descriptor,))
        return Base(
            name=f"debian:{plan.release.partition(':')[2] or plan.release}",
            digest=digest_of(manifest.to_bytes()),
            layers=(
                BaseLayer(
                    descriptor, layer.diff_id, layer.title, open=lambda: self._layers.open(layer)
                ),
            ),
            config=parse_config(body),
            python=python,
            python_path=facts[annotation_keys.PYTHON_PATH],
            libc=parse_libc("glibc", facts[annotation_keys.GLIBC_VERSION]),
            notes=notes,
            compiler=self._compiler(plan, layer, python, architecture),
        )

    def _compiler(
        self, plan: _Plan, layer: Layer, python: str, architecture: str
    ) -> ByteCompiler | None:
        # Byte code does not depend on the processor, nor on a rebuild of a package for one.
        version = re.sub(r"\+b\d+$", "", plan.version(f"python{python}-minimal"))
        name = f"python{python} {version}"
        if not bytecode.can_compile(architecture):
            host = bytecode.host_architecture()
            return ByteCompiler(name, partial(self._borrow, name, python, host)) if host else None

        def prepare() -> Interpreter:
            folder = self._folder / "interpreters" / layer.descriptor.digest[7:19]
            bytecode.unpack_interpreter(
                folder,
                lambda: self._layers.open(layer),
                media_type=layer.descriptor.media_type,
                python=python,
            )
            found = bytecode.interpreter(folder, python=python, architecture=architecture)
            if found is None:
                raise ByteCompilationFailed(f"{layer.title} has no loader for its programs.")
            return found

        return ByteCompiler(name, prepare)

    def _borrow(self, name: str, python: str, host: str) -> Interpreter:
        """The interpreter of this machine's own base stands in for one that does not run here."""
        compiler = self.base(python, host, Silent()).compiler
        if compiler is None or compiler.version != name:
            raise ByteCompilationFailed(
                f"This machine's package sources have {compiler.version if compiler else 'nothing'}"
                f" to compile with for a base with {name}."
            )
        return compiler.prepare()

    def _key(self, plan: _Plan, architecture: str) -> str:
        compiled = "pyc" if bytecode.can_compile(architecture) else "no-pyc"
        listed = "\n".join(
            f"{p.name} {p.version} {p.architecture} {p.sha256}" for p in plan.packages
        )
        sums = hashlib.sha256(listed.encode()).hexdigest()
        return f"{_FORMAT}/{self._codec.name}/{compiled}/{architecture}/{sums}"

    def _sources_key(self) -> str:
        digest = hashlib.sha256()
        folder = self._sources / "sources.list.d"
        for file in (self._sources / "sources.list", *sorted(folder.glob("*"))):
            if file.is_file() and file.suffix in {".list", ".sources"}:
                digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()


def _wanted(python: str) -> list[str]:
    return [
        *("base-files", "ca-certificates", "dash", "libc-bin", "netbase", "tzdata"),
        # Many wheels need these two and, by their platform tag, may expect them.
        *("libstdc++6", "libgomp1"),
        *(f"python{python}-minimal", f"libpython{python}-stdlib"),
    ]


def _read(record: Path) -> _Plan | None:
    try:
        body = json.loads(record.read_text())
        return _Plan(
            packages=tuple(DebianPackage(**package) for package in body["packages"]),
            sources=body["sources"],
            asked=datetime.fromisoformat(body["asked"]),
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _write(record: Path, plan: _Plan) -> None:
    body = {
        "packages": [asdict(package) for package in plan.packages],
        "sources": plan.sources,
        "asked": plan.asked.isoformat(),
    }
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps(body, indent=1))
    partial.rename(record)


def _leading_version(text: str) -> str:
    match = re.match(r"\d+\.\d+", text)
    return match[0] if match else ""
