"""buildah on storage of its own, away from all of this machine's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SECONDS = 300


class Buildah:
    """Builds Dockerfiles as root of a chroot, which needs no container runtime and works in a
    container; the network is this machine's. ``mounts`` are host paths seen by every step."""

    def __init__(self, root: Path, mounts: Mapping[Path, str]) -> None:
        self._root = root
        self._driver = "overlay" if _overlays(root) else "vfs"
        self._mounts = [f"--volume={host}:{inside}:ro" for host, inside in mounts.items()]

    def build(
        self,
        dockerfile: Path,
        context: Path,
        *,
        to: str,
        arguments: Mapping[str, str] | None = None,
    ) -> str:
        """Build an image, reusing layers of builds before, and return what the steps printed."""
        given = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
        where = ["--isolation=chroot", "--network=host", "--layers", f"--file={dockerfile}"]
        command = ["build", *where, *self._mounts, *given, f"--tag={to}", str(context)]
        return self._run(*command).stderr

    def save(self, image: str, folder: Path) -> None:
        """Write an image into a folder that is an OCI layout."""
        self._run("push", image, f"oci:{folder}")

    def config(self, image: str) -> dict[str, Any]:
        """Return the image's config, history and all."""
        shown = json.loads(self._run("inspect", "--type=image", image).stdout)
        config: dict[str, Any] = shown["OCIv1"]
        return config

    def close(self) -> None:
        """Unmount what a failed build left mounted, so that the storage can be removed."""
        self._run("rm", "--all")

    def _run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # A shell's settings of builds here must not steer this one.
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BUILDAH_", "STORAGE_", "CONTAINERS_"))
        }
        storage = [
            "--storage-driver",
            self._driver,
            "--root",
            f"{self._root}/root",
            "--runroot",
            f"{self._root}/run",
        ]
        done = subprocess.run(
            ["buildah", *storage, command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=environ,
        )
        if done.returncode:
            raise BuildFailed(f"{done.stdout}\n{done.stderr}")
        return done


def _overlays(root: Path) -> bool:
    """Tell whether layers can be mounted here; where they cannot, each is a copy of all below."""
    command = ["buildah", "--storage-driver", "overlay"]
    command += ["--root", f"{root}/probe", "--runroot", f"{root}/probe-run", "info"]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


class BuildFailed(AssertionError):
    """A build failed; the text is what it printed."""
