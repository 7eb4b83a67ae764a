"""Install the real parts that the tests run against: Debian packages, where they are missing.

A part that cannot be installed is said here and skipped visibly by the tests, unless
MERLIN_REQUIRE_ALL=1 makes it an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# part as the tests name it -> (Debian packages, a program that shows it is there)
DEBIAN_PARTS = {
    "docker-registry": (["docker-registry"], "docker-registry"),
    "skopeo": (["skopeo"], "skopeo"),
    "podman": (["podman", "runc", "netavark"], "podman"),
    "buildah": (["buildah", "runc"], "buildah"),
    "postgres": (["postgresql"], "/usr/lib/postgresql/*/bin/initdb"),
    "chromium": (["chromium"], "chromium"),
    "npm": (["npm"], "npm"),
    "tmux": (["tmux"], "tmux"),
    "pushgateway": (["prometheus-pushgateway"], "prometheus-pushgateway"),
}


def installed(part: str) -> bool:
    """Tell whether a part is on this machine."""
    program = DEBIAN_PARTS[part][1]
    if "/" in program:
        return any(Path("/").glob(program.lstrip("/")))
    return shutil.which(program) is not None


def main() -> None:
    missing = [part for part in DEBIAN_PARTS if not installed(part)]
    if not missing:
        return
    packages = sorted({package for part in missing for package in DEBIAN_PARTS[part][0]})
    print(f"installing {', '.join(missing)} from Debian packages", flush=True)
    root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        ["update", "-qq"],
        ["install", "-qq", "--yes", "--no-install-recommends", *packages],
    ):
        command = [*root, "apt-get", *arguments]
        done = subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            break
    still = [part for part in missing if not installed(part)]
    if still:
        print(f"could not install: {', '.join(still)}", file=sys.stderr)
        sys.exit(os.environ.get("MERLIN_REQUIRE_ALL") == "1")


if __name__ == "__main__":
    main()
