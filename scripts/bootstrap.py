"""Set up `.venv` from `uv.lock`. Needs Python 3.11 and nothing else, not even pip or venv.

uv does the work. It is taken from pip when this interpreter has pip (so that a configured package
index is honoured), and else from the address in `uv.lock`, checked against the hash there.
"""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
import sys
import tomllib
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
            _uv_from_lock()
    print("installing the locked dependencies into .venv", flush=True)
    subprocess.run(
        [str(UV), "sync", "--quiet", "--locked", "--compile-bytecode", "--python", sys.executable],
        cwd=ROOT,
        check=True,
    )


def _has_pip() -> bool:
    command = [sys.executable, "-m", "pip", "--version"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _uv_from_pip() -> None:
    options = ["--quiet", "--no-input", "--root-user-action", "ignore", "--target", str(UV_HOME)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "uv>=0.9"], check=True)


def _uv_from_lock() -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    wheels = next(package["wheels"] for package in locked if package["name"] == "uv")
    wanted = f"manylinux_2_17_{platform.machine()}"
    wheel = next(wheel for wheel in wheels if wanted in wheel["url"])
    with urllib.request.urlopen(wheel["url"], timeout=300) as answer:
        content = answer.read()
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != wheel["hash"]:
        sys.exit(f"{wheel['url']} does not have the hash that uv.lock names; not used.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
        UV.parent.mkdir(parents=True, exist_ok=True)
        UV.write_bytes(archive.read(member))
    UV.chmod(0o755)


if __name__ == "__main__":
    main()
