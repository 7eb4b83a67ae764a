"""What installing a wheel would put where, without doing it: zip members become tar entries.

Follows the binary distribution format (packaging.python.org) as an installer for one prefix would:
files under site-packages, ``.data`` spread over the prefix, entry points as scripts, and a RECORD
of what is there. Nothing of a wheel is executed, and every byte is checked against its RECORD.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from merlin_images.layers.byte_compiler import Compile, byte_code_path
from merlin_images.layers.tar import Entry
from merlin_images.layers.zip_archive import Member, ZipArchive

_DIGEST = re.compile(r"sha(?:256|384|512)=[\w=-]+")
# Written by installers about an installation; a signature of a RECORD that is rewritten is void.
_LEFT_OUT = {"RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json"}
_OBJECT = re.compile(r"(?P<module>\w+(?:\.\w+)*)\s*:\s*(?P<object>\w+(?:\.\w+)*)\s*(?:\[.*\])?")
_SCRIPT_NAME = re.compile(r"[\w.+-]+")
_PLACEHOLDER = re.compile(rb"#!pythonw?(?=[ \t\r\n]|$)")


@dataclass(frozen=True)
class InstalledFile:
    """An entry, and the digest its content is checked against (``sha256=...``); none for byte
    code."""

    entry: Entry
    digest: str


def installed_files(
    path: Path, *, prefix: str, python: str, compile_module: Compile | None = None
) -> list[InstalledFile]:
    """Return the files a wheel installs below ``prefix``, sorted, without parent directories.

    ``python`` is ``major.minor``; with ``compile_module`` modules get byte code beside them. The
    wheel must stay in place until the entries are written, as their sources read it. Raises
    `UnsafeWheel`, for content only when it is read.
    """
    installation = _Installation(path, prefix=prefix, python=python)
    return installation.files(compile_module)


class _Installation:
    def __init__(self, path: Path, *, prefix: str, python: str) -> None:
        self._archive = ZipArchive(path)
        try:
            self._name = parse_wheel_filename(path.name)[0]
        except InvalidWheelFilename as error:
            raise self._archive.refused("is not named as wheels are") from error
        self._python = python
        self._prefix = prefix.strip("/")
        self._site = f"{self._prefix}/lib/python{python}/site-packages"
        self._bin = f"{self._prefix}/bin"
        self._shebang = f"#!/{self._bin}/python".encode()
        self._headers = f"{self._prefix}/include/site/python{python}/{self._name}"
        self._reserved = {
            f"{self._prefix}/{path}"
            for path in ("pyvenv.cfg", "pylock.toml", "lib64", "bin/python", "bin/python3")
        } | {f"{self._bin}/python{python}"}
        self._dist_info = self._find_dist_info()
        self._data = self._dist_info.removesuffix(".dist-info") + ".data/"
        self._digests = self._read_record()

    def files(self, compile_module: Compile | None) -> list[InstalledFile]:
        self._check_version()
        files = {file.entry.path: file for file in self._scripts()}
        generated = set(files)
        for member in self._archive.members.values():
            path = self._place(member.name)
            if path is None or path in generated:
                continue
            if path in files:
                raise self._archive.refused("lands where another file of it does", member.name)
            files[path] = self._installed(member, path)
        for path in files:
            if path in self._reserved:
                raise self._archive.refused("would replace a part of the environment", path)
        if compile_module is not None:
            files = {
                file.entry.path: file for file in self._compiled(files, compile_module)
            } | files
        record = self._record(files.values())
        return sorted([*files.values(), record], key=lambda file: file.entry.path.encode())

    def _compiled(
        self, files: Mapping[str, InstalledFile], compile_module: Compile
    ) -> Iterator[InstalledFile]:
        """Byte code of the modules; a module that does not compile has none, as anywhere else."""
        for path, file in files.items():
            target = byte_code_path(path, self._python)
            if not target or target in files or file.entry.source is None:
                continue
            made = compile_module(f"/{path}", b"".join(file.entry.source()))
            if made is not None:
                size, source = made
                # Installers record byte code without a hash: it may be made again at any time.
                yield InstalledFile(Entry(target, 0o644, size, source=source), "")

    def _find_dist_info(self) -> str:
        tops = {name.partition("/")[0] for name in self._archive.members if "/" in name}
        found = sorted(top for top in tops if top.endswith(".dist-info"))
        if len(found) != 1 or canonicalize_name(found[0].partition("-")[0]) != self._name:
            raise self._archive.refused(f"has no single .dist-info folder of {self._name}")
        return found[0]

    def _check_version(self) -> None:
        text = self._metadata("WHEEL") or ""
        version = re.search(r"^Wheel-Version:\s*(\d+)\.", text, re.MULTILINE)
        if version is None or version[1] != "1":
            raise self._archive.refused("is of no wheel version we know")

    def _read_record(self) -> dict[str, str]:
        text = self._metadata("RECORD")
        if text is None:
            raise self._archive.refused("has no RECORD")
        digests: dict[str, str] = {}
        try:
            for row in csv.reader(io.StringIO(text)):
                if len(row) < 2 or not row[1]:
                    continue
                name, digest = row[0], row[1]
                if not _DIGEST.fullmatch(digest) or digests.get(name, digest) != digest:
                    raise self._archive.refused("has a weak or second hash in RECORD", name)
                digests[name] = digest
        except csv.Error as error:
            raise self._archive.refused("has a RECORD that cannot be read") from error
        return digests

    def _place(self, name: str) -> str | None:
        """Where a member goes; ``None`` for what is not installed."""
        if name.startswith(f"{self._dist_info}/"):
            return None if name.partition("/")[2] in _LEFT_OUT else f"{self._site}/{name}"
        if not name.startswith(self._data):
            return f"{self._site}/{name}"
        scheme, _, rest = name.removeprefix(self._data).partition("/")
        schemes = {
            "purelib": self._site,
            "platlib": self._site,
            "scripts": self._bin,
            "data": self._prefix,
            "headers": self._headers,
        }
        if scheme not in schemes or not rest:
            raise self._archive.refused("is in no .data folder we know", name)
        return f"{schemes[scheme]}/{rest}"

    def _installed(self, member: Member, path: str) -> InstalledFile:
        digest = self._digests.get(member.name, "")
        if path.startswith(f"{self._bin}/"):
            content = b"".join(self._checked(member, digest))
            return (
                _written(path, _PLACEHOLDER.sub(self._shebang, content, count=1), 0o755)
                if (_PLACEHOLDER.match(content))
                else _written(path, content, 0o755)
            )
        if not digest:
            digest = _sha256(self._archive.stream(member))
        return InstalledFile(
            Entry(
                path,
                0o755 if member.executable else 0o644,
                size=member.size,
                source=partial(self._checked, member, digest),
            ),
            digest,
        )

    def _checked(self, member: Member, digest: str) -> Iterator[bytes]:
        """Yield a member's content; raise at its end where it is not what RECORD says."""
        algorithm, _, expected = digest.partition("=")
        running = hashlib.new(algorithm or "sha256")
        for chunk in self._archive.stream(member):
            running.update(chunk)
            yield chunk
        if expected and _base64(running.digest()) != expected.rstrip("="):
            raise self._archive.refused("is not what RECORD says", member.name)

    def _scripts(self) -> Iterator[InstalledFile]:
        """Scripts for the entry points that are commands."""
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        parser.optionxform = str  # type: ignore[method-assign,assignment] # names keep their case
        try:
            parser.read_string(self._metadata("entry_points.txt") or "")
        except configparser.Error as error:
            raise self._archive.refused("has entry points that cannot be read") from error
        for section in ("console_scripts", "gui_scripts"):
            for name, value in parser[section].items() if parser.has_section(section) else ():
                target = _OBJECT.fullmatch(value.strip())
                if target is None or not _SCRIPT_NAME.fullmatch(name):
                    raise self._archive.refused("has an entry point that cannot be a script", name)
                content = _script(self._shebang.decode(), target["module"], target["object"])
                yield _written(f"{self._bin}/{name}", content, 0o755)

    def _metadata(self, name: str) -> str | None:
        member = self._archive.members.get(f"{self._dist_info}/{name}")
        if member is None:
            return None
        try:
            return self._archive.read(member).decode()
        except UnicodeDecodeError as error:
            raise self._archive.refused("is not UTF-8 text", member.name) from error

    def _record(self, files: Iterable[InstalledFile]) -> InstalledFile:
        depth = "../" * (self._site.count("/") - self._prefix.count("/"))
        path = f"{self._site}/{self._dist_info}/RECORD"
        rows = [(f"{self._dist_info}/RECORD", "", "")]
        for file in files:
            name = file.entry.path
            relative = name.removeprefix(f"{self._site}/")
            if relative == name:
                relative = depth + name.removeprefix(f"{self._prefix}/")
            rows.append((relative, file.digest, str(file.entry.size) if file.digest else ""))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(sorted(rows))
        return _written(path, text.getvalue().encode(), 0o644)


def _script(shebang: str, module: str, target: str) -> bytes:
    imported = target.partition(".")[0]
    return (
        f"{shebang}\nimport sys\n\nfrom {module} import {imported}\n\n"
        f'if __name__ == "__main__":\n    sys.exit({target}())\n'
    ).encode()


def _written(path: str, content: bytes, mode: int) -> InstalledFile:
    source: Callable[[], Iterable[bytes]] = partial(iter, [content])
    entry = Entry(path, mode, size=len(content), source=source)
    return InstalledFile(entry, _sha256([content]))


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return f"sha256={_base64(digest.digest())}"


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
