from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Edit = Callable[[zipfile.ZipFile], None]


class WheelFactory:
    """Makes wheels of a few files; ``edit`` may add what no honest wheel has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        files: Mapping[str, bytes],
        *,
        name: str = "demo",
        record: Mapping[str, str] | None = None,
        without: tuple[str, ...] = (),
        edit: Edit | None = None,
    ) -> Path:
        dist_info = f"{name}-1.0.dist-info"
        content = {
            f"{dist_info}/METADATA": f"Name: {name}\nVersion: 1.0\n".encode(),
            f"{dist_info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            **files,
        }
        rows = {file: self._digest(body) for file, body in content.items()} | dict(record or {})
        text = io.StringIO()
        csv.writer(text).writerows(
            [
                *((file, digest, "") for file, digest in rows.items()),
                (f"{dist_info}/RECORD", "", ""),
            ]
        )
        content[f"{dist_info}/RECORD"] = text.getvalue().encode()
        path = self._folder / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file, body in content.items():
                if file not in without:
                    info = zipfile.ZipInfo(file, (2020, 1, 1, 0, 0, 0))
                    info.external_attr = (0o100755 if file.endswith(".sh") else 0o100644) << 16
                    info.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(info, body)
            if edit is not None:
                edit(archive)
        return path

    @staticmethod
    def _digest(body: bytes) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest())
        return f"sha256={digest.rstrip(b'=').decode()}"


@pytest.fixture
def make_wheel(tmp_path: Path) -> WheelFactory:
    return WheelFactory(tmp_path)
