"""Wheels in the sizes of torch and transformers with CUDA: in little memory, a layer a heavy one.

The wheels are generated: half of what they hold cannot be compressed, half is zeros.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from merlin_images.layers.wheel import HEAVY

SCRIPT = Path(__file__).with_name("make_layers.py")
# What `torch` and `transformers` were locked to for Linux, in MB; 41 small ones besides.
HEAVY_WHEELS = {
    "torch": 539.1,
    "nvidia_cudnn_cu13": 519.2,
    "nvidia_cublas": 404.9,
    "triton": 285.8,
    "nvidia_cusolver": 227.9,
    "nvidia_cufft": 218.3,
    "nvidia_nccl_cu13": 216.0,
    "nvidia_cusparselt_cu13": 170.1,
    "nvidia_cusparse": 151.0,
    "nvidia_nvshmem_cu13": 135.4,
    "nvidia_cuda_nvrtc": 47.0,
    "nvidia_nvjitlink": 46.6,
    "numpy": 16.9,
    "transformers": 13.5,
    "nvidia_cuda_cupti": 12.0,
    "cuda_bindings": 8.5,
}
SMALL_WHEELS = {f"small_{number}": 0.85 for number in range(41)}
_MB = 1_000_000
_PIECE = 8 * _MB


def write_wheel(folder: Path, name: str, size: int) -> dict[str, Any]:
    """Write a wheel of about ``size`` bytes into a wheel cache; return its line of a lock."""
    noise = random.Random(name)
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number, start in enumerate(range(0, size, _PIECE)):
            body = noise.randbytes(min(_PIECE, size - start))
            body += bytes(len(body))
            member = f"{name}/lib{number}.so"
            archive.writestr(zipfile.ZipInfo(member), body, zipfile.ZIP_DEFLATED, 1)
            digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
            rows.append(f"{member},sha256={digest},{len(body)}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/METADATA", f"Name: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/RECORD", "".join(rows))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / sha256).mkdir(parents=True)
    path.rename(folder / sha256 / path.name)
    return {
        "name": name.replace("_", "-"),
        "version": "1.0",
        "filename": path.name,
        "url": "http://127.0.0.1:9/",
        "size": (folder / sha256 / path.name).stat().st_size,
        "sha256": sha256,
    }


def make_layers(folder: Path, scale: float) -> dict[str, Any]:
    (folder / "wheels").mkdir()
    wheels = [
        write_wheel(folder / "wheels", name, int(size * _MB * scale))
        for name, size in (HEAVY_WHEELS | SMALL_WHEELS).items()
    ]
    wheels.sort(key=lambda wheel: wheel["name"])
    asked = {"folder": str(folder), "wheels": wheels, "threshold": int(HEAVY * scale)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(asked)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=1500,
        text=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    titles = [layer["title"] for layer in report["layers"]]
    assert titles == [
        *sorted(f"{name.replace('_', '-')} 1.0" for name in HEAVY_WHEELS),
        "41 small pure-Python packages",
    ]
    largest = max(layer["plain"] for layer in report["layers"])
    assert largest > 2 * HEAVY_WHEELS["torch"] * _MB * scale
    return report


def test_layers_are_made_in_little_memory(tmp_path: Path) -> None:
    """At a fifteenth of the size two heavy wheels and their layers would already not fit."""
    report = make_layers(tmp_path, 1 / 15)
    assert report["grown"] < 48 * 2**20


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_three_gigabytes(tmp_path: Path) -> None:
    report = make_layers(tmp_path, 1)
    print({name: report[name] for name in ("peak", "grown", "seconds", "cpu_seconds")})
    assert report["peak"] < 200 * 2**20
    assert sum(layer["plain"] for layer in report["layers"]) > 6 * 10**9
