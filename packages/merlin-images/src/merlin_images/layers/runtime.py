"""The runtime layer: our own packages as they are installed here, never downloaded by name.

So an image always holds the builder's own version, also of a checkout that was never released.
The packages are found, not imported: the runtime belongs to another interpreter.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from merlin.errors import Kind
from merlin_images.layers.byte_compiler import ByteCompiler, Compile, byte_code_path
from merlin_images.layers.codecs import Codec
from merlin_images.layers.errors import LayerError
from merlin_images.layers.layer_store import Layer, LayerStore
from merlin_images.layers.tar import LAYER_TIME, Entry, directories, tar_stream
from merlin_images.layers.venv import venv_entries

VENV_PREFIX = "opt/venv"
LOCK_FILE = "pylock.toml"

_FORMAT = "runtime/2"
_PACKAGES = {"merlin-runtime": "merlin_runtime", "merlin-serving": "merlin"}
# Of merlin only what user classes refer to is used in images, so the SDK's needs stay out.
_WITH_REQUIREMENTS = {"merlin-runtime"}


class RuntimeNotInstalled(LayerError):
    """A package of ours that images need is not installed beside the builder."""

    code = "runtime_not_installed"
    kind = Kind.INTERNAL
    hint = "Install it with: pip install merlin-images"


class PythonNotSupported(LayerError):
    """The runtime does not run on the Python that the model asks for."""

    code = "python_not_supported"
    kind = Kind.INVALID


@dataclass(frozen=True)
class Runtime:
    """Our packages: site-packages relative path to content, and a key that is theirs alone."""

    version: str
    requires_python: str
    files: Mapping[str, bytes]
    key: str


def read_runtime() -> Runtime:
    """Read the installed packages, editable or not. Raises `RuntimeNotInstalled`."""
    files: dict[str, bytes] = {}
    for distribution, package in _PACKAGES.items():
        files |= _with_record(_metadata(distribution), _package(distribution, package))
    metadata = _installed("merlin-runtime").metadata
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{hashlib.sha256(files[path]).hexdigest()}\n".encode())
    return Runtime(
        version=metadata["Version"],
        requires_python=_requires_python(metadata),
        files=dict(sorted(files.items())),
        key=digest.hexdigest(),
    )


def runtime_files(python: str) -> Mapping[str, bytes]:
    """Return what makes `merlin_runtime` importable, by path below site-packages.

    For whoever installs a lock elsewhere than in an image. Raises `PythonNotSupported`.
    """
    runtime = read_runtime()
    check_python(runtime, python)
    return runtime.files


def runtime_key() -> str:
    """Return a key that changes whenever `runtime_files` would."""
    return read_runtime().key


def check_python(runtime: Runtime, python: str) -> None:
    """Raise `PythonNotSupported` unless the runtime runs on ``python`` (``major.minor``)."""
    if f"{python}.99" not in SpecifierSet(runtime.requires_python):
        raise PythonNotSupported(
            f"Models can run on Python {runtime.requires_python}, not on {python}.",
            hint="Set another Python version in the model's environment file.",
        )


def runtime_layer(
    runtime: Runtime,
    layers: LayerStore,
    *,
    python: str,
    base_python: str,
    lock_key: str,
    lock_text: str,
    codec: Codec,
    compiler: ByteCompiler | None = None,
) -> tuple[Layer, bool]:
    """Return the layer with the venv's skeleton, our packages and the lock the venv is made from.

    ``base_python`` is the interpreter's path in the base image. With ``compiler`` our packages get
    byte code.
    """
    check_python(runtime, python)
    lock_digest = hashlib.sha256(lock_text.encode()).hexdigest()
    version = compiler.version if compiler else ""
    made_of = f"{runtime.key}/{python}/{base_python}/{lock_key}/{lock_digest}"
    key = f"{_FORMAT}/{codec.name}/{version}/{made_of}"

    def produce() -> Iterator[bytes]:
        site = f"{VENV_PREFIX}/lib/python{python}/site-packages"
        files = {f"{site}/{path}": data for path, data in runtime.files.items()}
        with ExitStack() as stack:
            entries = [
                *(entry for entry in venv_entries(VENV_PREFIX, python, base_python)),
                *(_file(path, data) for path, data in files.items()),
                _file(f"{VENV_PREFIX}/{LOCK_FILE}", lock_text.encode()),
            ]
            if compiler is not None:
                compile_module = stack.enter_context(compiler.compiling())
                entries += _compiled(files, python, compile_module)
            parents = directories(entry.path for entry in entries)
            whole = {entry.path: entry for entry in (*parents, *entries)}
            yield from tar_stream([whole[path] for path in sorted(whole)], mtime=LAYER_TIME)

    return layers.make(
        key, kind="runtime", title=f"merlin-runtime {runtime.version}", codec=codec, produce=produce
    )


def _compiled(files: Mapping[str, bytes], python: str, compile_module: Compile) -> Iterator[Entry]:
    for path, data in files.items():
        target = byte_code_path(path, python)
        if target and (made := compile_module(f"/{path}", data)):
            yield Entry(target, 0o644, made[0], source=made[1])


def _file(path: str, data: bytes) -> Entry:
    return Entry(path, 0o644, len(data), source=lambda: [data])


def _package(distribution: str, package: str) -> dict[str, bytes]:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise RuntimeNotInstalled(f"The package {distribution} is not installed.")
    root = Path(next(iter(found.submodule_search_locations)))
    return {
        f"{package}/{file.relative_to(root).as_posix()}": file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


def _metadata(distribution: str) -> tuple[str, bytes]:
    """Return the folder of the metadata and a METADATA that does not tell how it was installed."""
    metadata = _installed(distribution).metadata
    lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {metadata['Version']}"]
    if requires := _requires_python(metadata):
        lines.append(f"Requires-Python: {requires}")
    if distribution in _WITH_REQUIREMENTS:
        lines += sorted(f"Requires-Dist: {line}" for line in metadata.get_all("Requires-Dist", []))
    folder = f"{distribution.replace('-', '_')}-{metadata['Version']}.dist-info"
    return folder, "\n".join([*lines, ""]).encode()


def _with_record(metadata: tuple[str, bytes], package: Mapping[str, bytes]) -> dict[str, bytes]:
    folder, description = metadata
    files = {**package, f"{folder}/METADATA": description, f"{folder}/INSTALLER": b"merlin\n"}
    lines = [f"{path},sha256={_record_hash(data)},{len(data)}" for path, data in files.items()]
    record = "\n".join([*sorted(lines), f"{folder}/RECORD,,", ""])
    return {**files, f"{folder}/RECORD": record.encode()}


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _requires_python(metadata: importlib.metadata.PackageMetadata) -> str:
    return "".join(metadata.get_all("Requires-Python", []))


def _installed(distribution: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise RuntimeNotInstalled(f"The package {distribution} is not installed.") from error
