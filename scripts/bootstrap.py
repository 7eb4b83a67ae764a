"""Set up `.venv` from `uv.lock`. Needs Python 3.11 and nothing else, not even pip or venv.

uv does the work. It is taken from pip when this interpreter has pip (so that a configured package
index is honoured), and else from PyPI by hand, checked against the index's SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV_HOME = ROOT / ".parts" / "uv"
UV = UV_HOME / "bin" / "uv"


def main() -> None:
    if not UV.exists():
        print("installing uv into .parts/uv", flush=True)
        if _has_pip():
            _uv_from_pip()
        else:
            _uv_from_pypi()
    print("installing the locked dependencies into .venv", flush=True)
    subprocess.run(
        [str(UV), "sync", "--quiet", "--locked", "--python", sys.executable], cwd=ROOT, check=True
    )


def _has_pip() -> bool:
    command = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _uv_from_pip() -> None:
    options = ["--quiet", "--no-input", "--root-user-action", "ignore", "--target", str(UV_HOME)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "uv>=0.9"], check=True)


def _uv_from_pypi() -> None:
    # The simple index in its JSON form (PEP 691); its file addresses may be relative (PEP 503).
    index = urllib.request.Request(
        "https://pypi.org/simple/uv/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(index, timeout=60) as answer:
        files = json.load(answer)["files"]
    wanted = f"manylinux_2_17_{platform.machine()}"
    wheel = [file for file in files if wanted in file["filename"]][-1]
    address = urllib.parse.urljoin(index.full_url, wheel["url"])
    with urllib.request.urlopen(address, timeout=300) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != wheel["hashes"]["sha256"]:
        sys.exit(f"{wheel['filename']} does not have the SHA-256 that its index names; not used.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
        UV.parent.mkdir(parents=True, exist_ok=True)
        UV.write_bytes(archive.read(member))
    UV.chmod(0o755)


if __name__ == "__main__":
    main()
