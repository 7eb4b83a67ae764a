"""A private apt: resolves and fetches Debian packages without root and without the host's state.

The host's package sources, keyrings, proxies and sign-ins are used, so apt itself checks every
signature; its lists, cache and idea of what is installed are ours. Hooks of the host (which may
clean its own cache after an update) do not run: only the ``Acquire`` and ``Dir::Etc`` parts of its
configuration are taken over.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from merlin_images.image.errors import AptFailed, BaseUnreachable

# What maintainer scripts and administrators need; no script ever runs in an image made here.
_PRETENDED = (
    ("awk", "no", "mawk, original-awk"),
    ("debconf", "foreign", "debconf-2.0, cdebconf"),
    ("debianutils", "foreign", ""),
    ("dpkg", "foreign", ""),
    ("libpython3-stdlib", "same", ""),
    ("openssl", "foreign", ""),
    ("openssl-provider-legacy", "foreign", ""),
    ("perl-base", "foreign", "perl"),
    ("python3", "allowed", ""),
    ("python3-minimal", "allowed", ""),
    ("tar", "foreign", ""),
)
_INSTALLED = re.compile(
    r"Inst (?P<name>\S+) (?:\[[^\]]*\] )?\((?P<version>\S+) (?P<source>.*) \[(?P<arch>\S+)\]"
)
_MISSING = re.compile(
    r"E: (?:Unable to locate package|Package '?)\s*'?(\S+?)'?(?: has no|$)", re.MULTILINE
)
_NETWORK = re.compile(r"(?:Failed to fetch|Could not resolve|Unable to connect|Could not connect)")


@dataclass(frozen=True, order=True)
class DebianPackage:
    """One package of a plan; ``sha256`` is of its ``.deb``."""

    name: str
    version: str
    architecture: str
    sha256: str
    suite: str


class PackageNotKnown(Exception):
    """The sources have no package of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class PrivateApt:
    """apt-get with its state in ``folder``; one process at a time may use a folder.

    ``python`` (``major.minor``) is what packages for Debian's own Python are matched with,
    ``sources`` the folder with sources.list, keyrings and sign-ins, and ``installed`` the control
    stanzas of packages that are there already.
    """

    def __init__(
        self,
        folder: Path,
        *,
        architecture: str,
        python: str,
        sources: Path = Path("/etc/apt"),
        installed: str = "",
        environ: Mapping[str, str] | None = None,
        timeout_seconds: float = 300,
    ) -> None:
        self._folder = folder
        self._architecture = architecture
        self._python = python
        self._sources = sources
        self._installed = installed
        self._environ = dict(os.environ if environ is None else environ)
        self._timeout = timeout_seconds

    @property
    def archives(self) -> Path:
        """Where fetched packages lie."""
        return self._folder / "packages"

    def update(self) -> str:
        """Fetch the package lists and return what was wrong, as a sentence or empty.

        A source that is away is no error by itself: older lists of it, or other sources, may do.
        """
        output, failed = self._run("apt-get", "update", "-q")
        failure = _failure("The package lists could not be fetched", output)
        return failure.message if failed or isinstance(failure, BaseUnreachable) else ""

    def plan(self, names: Sequence[str]) -> list[DebianPackage]:
        """Resolve packages and all they depend on, recommendations aside, sorted by name.

        Raises `PackageNotKnown`.
        """
        output, failed = self._run(
            *("apt-get", "install", "-q", "-y", "--simulate", "--no-upgrade"), *names
        )
        if failed:
            if missing := _MISSING.search(output):
                raise PackageNotKnown(missing[1])
            raise _failure("The Debian packages could not be resolved", output)
        found = {
            match["name"]: match for match in map(_INSTALLED.match, output.splitlines()) if match
        }
        stanzas, _ = self._run(
            "apt-cache", "show", *(f"{name}={match['version']}" for name, match in found.items())
        )
        sums = dict(_sums(stanzas))
        if unknown := sorted(found.keys() - sums.keys()):
            raise AptFailed(f"apt gives no checksum for {', '.join(unknown)}.")
        return sorted(
            DebianPackage(
                name=name.partition(":")[0],
                version=match["version"],
                architecture=match["arch"],
                sha256=sums[name],
                suite=match["source"].partition(",")[0],
            )
            for name, match in found.items()
        )

    def fetch(self, packages: Sequence[DebianPackage]) -> list[Path]:
        """Download exactly these packages; apt verifies them. In the order given."""
        self.archives.mkdir(parents=True, exist_ok=True)
        wanted = [f"{package.name}={package.version}" for package in packages]
        output, failed = self._run("apt-get", "download", "-q", *wanted, folder=self.archives)
        if failed:
            raise _failure("The Debian packages could not be downloaded", output)
        return [self._archive(package) for package in packages]

    def pythons(self) -> list[str]:
        """Python versions the sources have, such as ``["3.11"]``."""
        output, _ = self._run("apt-cache", "pkgnames", "python3.")
        minors = {int(m[1]) for m in re.finditer(r"^python3\.(\d+)-minimal$", output, re.MULTILINE)}
        return [f"3.{minor}" for minor in sorted(minors)]

    def _archive(self, package: DebianPackage) -> Path:
        version = package.version.replace(":", "%3a")
        return self.archives / f"{package.name}_{version}_{package.architecture}.deb"

    def _run(self, *command: str, folder: Path | None = None) -> tuple[str, bool]:
        if shutil.which("apt-get", path=self._environ.get("PATH")) is None:
            raise BaseUnreachable(
                "A debian: base is made with apt-get, which this machine does not have.",
                hint="Name a base image in a registry, or an OCI layout folder as layout:DIR.",
            )
        for part in ("state/lists/partial", "cache/archives/partial"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        # The host's settings may hold a proxy's password: the file is private and short-lived.
        with tempfile.NamedTemporaryFile("w", suffix=".conf", dir=self._folder) as config:
            config.write(self._configuration())
            config.flush()
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env={**self._environ, "APT_CONFIG": config.name, "LC_ALL": "C.UTF-8"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    timeout=self._timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise BaseUnreachable(
                    f"{command[0]} {command[1]} did not end within {self._timeout:.0f} s."
                ) from error
        return done.stdout, done.returncode != 0

    def _configuration(self) -> str:
        host = subprocess.run(
            ["apt-config", "dump"], env=self._environ, capture_output=True, text=True, check=True
        ).stdout
        kept = [line for line in host.splitlines() if line.startswith(("Acquire", "Dir::Etc"))]
        installed = self._folder / "pretended-status"
        installed.write_text(_status(self._installed, self._python))
        ours = {
            "Acquire::http::Timeout": "20",
            "Acquire::https::Timeout": "20",
            "APT::Architecture": self._architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
            "Dir::Cache": self._folder / "cache",
            "Dir::Etc": self._sources,
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Log": self._folder / "log",
            "Dir::State": self._folder / "state",
            "Dir::State::status": installed,
        }
        return "\n".join([*kept, *(f'{key} "{value}";' for key, value in ours.items())]) + "\n"


def _status(installed: str, python: str) -> str:
    """What dpkg would say is installed: what is, and what need not be."""
    stanzas = [stanza.strip() for stanza in installed.split("\n\n") if stanza.strip()]
    marked = [
        stanza if "\nStatus: " in stanza else f"{stanza}\nStatus: install ok installed"
        for stanza in stanzas
    ]
    names = {
        m[1] for stanza in stanzas if (m := re.search(r"^Package: (\S+)", stanza, re.MULTILINE))
    }
    return "\n\n".join([*marked, _pretended_status(python, besides=names)])


def _pretended_status(python: str, besides: Container[str]) -> str:
    # Packages for "python3" say which versions they are for.
    versions = dict.fromkeys(("python3", "python3-minimal", "libpython3-stdlib"), f"{python}.99")
    return "\n".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: all\n"
        f"Version: {versions.get(name, '99:0')}\n"
        + (f"Multi-Arch: {multi}\n" if multi not in ("no", "same") else "")
        + (f"Provides: {provides}\n" if provides else "")
        + "Maintainer: nobody\nDescription: pretended\n"
        for name, multi, provides in _PRETENDED
        if name not in besides
    )


def _sums(stanzas: str) -> list[tuple[str, str]]:
    found = []
    for stanza in stanzas.split("\n\n"):
        fields = dict(re.findall(r"^(Package|SHA256): (\S+)$", stanza, re.MULTILINE))
        if len(fields) == 2:
            found.append((fields["Package"], fields["SHA256"]))
    return found


def _failure(what: str, output: str) -> AptFailed | BaseUnreachable:
    complaints = [line[3:] for line in output.splitlines() if line.startswith(("E: ", "W: "))]
    for line in complaints:
        if _NETWORK.search(line):
            return BaseUnreachable(f"{what}: {line.rstrip('.')}.")
    reason = (complaints or output.strip().splitlines() or ["apt-get said nothing"])[-1]
    return AptFailed(f"{what}: {reason.rstrip('.')}.")
