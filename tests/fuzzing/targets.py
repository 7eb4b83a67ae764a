"""What is fuzzed: each target takes bytes from nowhere and may only succeed or raise `MerlinError`.

Seeds are valid inputs, from which mutations reach further than from noise. Targets that read files
get a folder of their own.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from backports import zstd

from merlin.artifacts.memory import MemoryStore
from merlin.errors import MerlinError
from merlin_images.environments.files import read_environment
from merlin_images.environments.model import Target as Platform
from merlin_images.environments.pylock import read_pylock
from merlin_images.image.config import AddedLayer, Run, extend_config, parse_config
from merlin_images.image.deb import read_control, unpack
from merlin_images.image.layer_contents import list_layer
from merlin_images.image.manifest import choose_platform, parse_manifest
from merlin_images.layers.installation import installed_files
from merlin_images.layers.tar import LAYER_TIME, tar_stream
from merlin_images.registry.manifests import read_links, read_referrers
from merlin_images.registry.port import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from merlin_images.registry.reference import parse_reference

DIGEST = "sha256:" + "ab" * 32


@dataclass(frozen=True)
class Target:
    """``run`` is given the input and a folder; ``seeds`` are inputs it accepts."""

    run: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]


def holds(target: Target, data: bytes, folder: Path) -> bool:
    """Run a target and tell whether it took the input; anything but a refusal is raised."""
    try:
        target.run(data, folder)
    except MerlinError as refusal:
        # Every refusal is one sentence that a log or a terminal can show.
        text = str(refusal)
        text.encode()
        if any(ord(character) < 0x20 and character not in "\n\t" for character in text):
            raise AssertionError(f"a refusal with control characters: {text!a}") from refusal
        return False
    return True


def _wheel(data: bytes, folder: Path) -> None:
    path = folder / "demo-1.0-py3-none-any.whl"
    path.write_bytes(data)
    files = installed_files(path, prefix="/opt/venv", python="3.11")
    for _ in tar_stream((file.entry for file in files), mtime=LAYER_TIME):
        pass


def _layer(media_type: str) -> Callable[[bytes, Path], object]:
    return lambda data, _: list_layer(media_type, [data[:100], data[100:]])


def _deb(data: bytes, folder: Path) -> None:
    path = folder / "demo_1.0_amd64.deb"
    path.write_bytes(data)
    read_control(path)
    unpack(path, folder / "root", lambda name: name)


def _manifest(data: bytes, _: Path) -> None:
    parse_manifest(data).to_bytes()
    read_links("", data)


def _index(data: bytes, _: Path) -> None:
    choose_platform(data, "amd64")
    for descriptor in read_referrers(data):
        descriptor.to_dict()
    read_links(OCI_INDEX, data)


def _config(data: bytes, _: Path) -> None:
    config = parse_config(data)
    config.setdefault("architecture", "amd64")
    config.setdefault("os", "linux")
    run = Run(entrypoint=["x"], environment={}, user="1", working_directory="/", port=1)
    extend_config(config, [AddedLayer(DIGEST, "x")], run, created=_EPOCH)


def _environment(name: str) -> Callable[[bytes, Path], object]:
    def run(data: bytes, _: Path) -> None:
        store = MemoryStore()
        store.write(f"model/{name}", [data])
        if name != "requirements.txt":
            store.write("model/requirements.txt", [b"cloudpickle"])
        read_environment(store, "model", model_type="pyfunc", python="3.11")

    return run


def _reference(data: bytes, _: Path) -> None:
    parsed = parse_reference(data.decode("utf-8", "replace"))
    again = parse_reference(str(parsed))
    if again != parsed:
        raise AssertionError(f"{parsed} is read as {again}")


def _lock(data: bytes, _: Path) -> None:
    read_pylock(data.decode("utf-8", "replace"), Platform("x86_64-manylinux_2_28", "3.11"))


def _seed_wheel() -> bytes:
    files = {
        "demo/__init__.py": b"x = 1\n" * 20,
        "demo-1.0.data/scripts/tool": b"#!python\n",
        "demo-1.0.dist-info/METADATA": b"Name: demo\nVersion: 1.0\n",
        "demo-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "demo-1.0.dist-info/entry_points.txt": b"[console_scripts]\nrun = demo:main\n",
    }
    rows = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(sha256(body).digest()).decode().rstrip('=')},\n"
        for name, body in files.items()
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in {**files, "demo-1.0.dist-info/RECORD": rows.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), body, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _seed_tar(form: int, *, white_out: bool) -> bytes:
    out = io.BytesIO()
    files = {
        "./control": b"Package: demo\n",
        "./usr/lib/x86_64-linux-gnu/libx.so.1": b"x",
        f"./{'long/' * 40}name": b"y",
        "./var/lib/dpkg/status": b"Package: demo\n",
        **({"./usr/.wh.gone": b""} if white_out else {}),
    }
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        link = tarfile.TarInfo("./usr/lib/liby.so")
        link.type, link.linkname = tarfile.SYMTYPE, "libx.so.1"
        archive.addfile(link)
    return out.getvalue()


def _seed_deb(tar: bytes) -> bytes:
    out = b"!<arch>\n"
    for name, data in {"debian-binary": b"2.0\n", "control.tar": tar, "data.tar": tar}.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        out += data + b"\n" * (len(data) % 2)
    return out


_PART = {"mediaType": OCI_LAYER_GZIP, "digest": DIGEST, "size": 3, "annotations": {"a": "b"}}
_MANIFEST = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": _PART,
    "layers": [_PART],
    "subject": _PART,
}
_PLATFORM = {"os": "linux", "architecture": "amd64"}
_INDEX = {
    "schemaVersion": 2,
    "mediaType": OCI_INDEX,
    "manifests": [{**_PART, "mediaType": OCI_MANIFEST, "platform": _PLATFORM}],
}
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_FORMS = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
_TARS = tuple(_seed_tar(form, white_out=True) for form in _FORMS)
_DEBS = tuple(_seed_deb(_seed_tar(form, white_out=False)) for form in _FORMS)
_CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=b"], "Labels": {"a": "b"}, "Cmd": ["x"]},
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [{"created_by": "x"}, {"empty_layer": True}],
}
_CONDA = (
    b"channels: [a]\ndependencies:\n- python=3.11\n- pip:\n"
    b"  - pandas==2.3.3\n  - -r requirements.txt\n"
    b"  - pandas==2.3.3\n  - -r requirements.txt\n"
)
_REQUIREMENTS = (
    b"# c\npandas[x]==2.3.3; python_version < '3.12' \\\n  --hash=sha256:" + b"ab" * 32 + b"\n"
    b"--extra-index-url https://x/simple\ndemo @ https://x/demo-1.0-py3-none-any.whl\n"
)
_MLMODEL = b"flavors:\n  python_function: {python_version: 3.11.2, loader_module: x}\n"
_PYLOCK = (
    'lock-version = "1.0"\n[[packages]]\nname = "demo"\nversion = "1.0"\n'
    'wheels = [{url = "https://x/demo-1.0-py3-none-any.whl", size = 3, '
    f'hashes = {{sha256 = "{"ab" * 32}"}}}}]\n'
).encode()

TARGETS = {
    "wheel": Target(_wheel, (_seed_wheel(),)),
    "layer": Target(_layer(OCI_LAYER), _TARS),
    "layer-gzip": Target(_layer(OCI_LAYER_GZIP), tuple(gzip.compress(tar) for tar in _TARS)),
    "layer-zstd": Target(_layer(OCI_LAYER_ZSTD), tuple(zstd.compress(tar) for tar in _TARS)),
    "deb": Target(_deb, _DEBS),
    "manifest": Target(_manifest, (json.dumps(_MANIFEST).encode(),)),
    "index": Target(_index, (json.dumps(_INDEX).encode(),)),
    "config": Target(_config, (json.dumps(_CONFIG).encode(),)),
    "reference": Target(
        _reference, (b"localhost:5000/a/b-c:1.0", b"python", f"x.io/a@{DIGEST}".encode())
    ),
    "conda": Target(_environment("conda.yaml"), (_CONDA,)),
    "python-env": Target(
        _environment("python_env.yaml"), (b"python: 3.11.2\ndependencies: [-r requirements.txt]\n",)
    ),
    "requirements": Target(_environment("requirements.txt"), (_REQUIREMENTS,)),
    "mlmodel": Target(_environment("MLmodel"), (_MLMODEL,)),
    "pylock": Target(_lock, (_PYLOCK,)),
}
