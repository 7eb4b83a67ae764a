"""Our own packages as wheels, made from what is installed here.

They are the files that the native builder puts into an image, so nothing of ours is downloaded by
name, and a checkout that was never released works like a release. Equal files give equal bytes.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping

from merlin_images.layers.runtime import Runtime

_TIME = (2000, 1, 1, 0, 0, 0)
_WHEEL = b"Wheel-Version: 1.0\nGenerator: merlin-images\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def runtime_wheels(runtime: Runtime) -> dict[str, bytes]:
    """Return the wheels of the runtime and of the model interfaces, by file name."""
    return dict(sorted(_wheels(runtime.files)))


def _wheels(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for path, content in files.items():
        folder, _, name = path.partition("/")
        if name == "RECORD" and folder.endswith(".dist-info"):
            paths = [row[0] for row in csv.reader(content.decode().splitlines())]
            installed = {f"{folder}/RECORD", f"{folder}/INSTALLER"}
            members = {each: files[each] for each in paths if each not in installed}
            members[f"{folder}/WHEEL"] = _WHEEL
            yield f"{folder.removesuffix('.dist-info')}-py3-none-any.whl", _packed(folder, members)


def _packed(folder: str, members: Mapping[str, bytes]) -> bytes:
    """Pack without compression, whose output differs between releases of zlib."""
    lines = [f"{path},sha256={_hash(data)},{len(data)}" for path, data in sorted(members.items())]
    record = "\n".join([*lines, f"{folder}/RECORD,,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in [*sorted(members.items()), (f"{folder}/RECORD", record)]:
            member = zipfile.ZipInfo(path, _TIME)
            member.external_attr = 0o100644 << 16
            archive.writestr(member, data)
    return buffer.getvalue()


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
