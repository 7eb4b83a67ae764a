"""Requirements as pip's files spell them, normalised so that spelling no longer matters.

What cannot be had anywhere but on the author's machine (local paths, editables) or would have to
be built by running code (VCS, source archives) is refused by file and line. Credentials are never
kept, and never repeated in messages.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from merlin_images.environments.errors import EnvironmentInvalid, RequirementRefused
from merlin_images.environments.model import CredentialNames

_COMMENT = re.compile(r"(?:^|\s)#.*$")
_HASH = re.compile(r"\s--hash(?:=|\s+)(sha256:[0-9a-fA-F]{64})(?=\s|$)")
_FRAGMENT_HASH = re.compile(r"#(?:\S*&)?(sha256=[0-9a-fA-F]{64})(?=[&\s;]|$)")
_FRAGMENT = re.compile(r"(?<=\.whl)#[^\s;]*")
_VCS = re.compile(r"(?:^|@\s*)(?:git|hg|svn|bzr)(?:\+|://|@)", re.IGNORECASE)
_LOCAL = re.compile(r"[./~\\]|file:|[a-z]:[\\/]", re.IGNORECASE)
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2")
_USERINFO = re.compile(r"(://)[^/@\s\"]*@")
_QUERY = re.compile(r"(https?://[^\s\"'`?]*)\?[^\s\"'`)]*")

_OPTION_NAMES = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-i": "--index-url",
    "--pypi-url": "--index-url",
    "-f": "--find-links",
    "-e": "--editable",
}
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_NAMED_CREDENTIALS = re.compile(
    r"(?P<scheme>https?://)(?P<who>[^/@\s]*\$\{[^/@\s]*)@(?P<host>[^/\s#?]+)", re.IGNORECASE
)
_DEEPEST = 32
_ADVICE = {
    "--no-binary": "Nothing is built here, because building runs code of packages: build wheels "
    "where you trust them (pip wheel) and publish those.",
    "--trusted-host": "Let the builder trust the index's certificate: SSL_CERT_FILE names a file "
    "of authorities.",
    "--no-index": "Name the only index as --index-url.",
}
_INDEX_OPTIONS = ("--prerelease", "--index-url", "--extra-index-url", "--find-links")
# Wheels only and hashes everywhere are what locking does anyway.
_NEEDLESS_OPTIONS = {"--prefer-binary", "--only-binary", "--require-hashes", "--use-feature"}


@dataclass(frozen=True)
class Place:
    """Where a line stands, for messages."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass
class RequirementLines:
    """Collects lines. ``open_file`` returns the text of a file of the model folder, given its path
    in there, or ``None`` where there is none."""

    open_file: Callable[[str], str | None]
    requirements: set[str] = field(default_factory=set)
    constraints: set[str] = field(default_factory=set)
    index_options: list[str] = field(default_factory=list)
    credentials: dict[str, CredentialNames] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _read: set[tuple[str, bool]] = field(default_factory=set)

    def add_file(self, path: str, *, named_by: Place | None = None, bound: bool = False) -> None:
        """Read a whole file, and those it names; ``bound`` makes its lines constraints."""
        if (path, bound) in self._read:
            return
        self._read.add((path, bound))
        place = named_by or Place(path, 1)
        if len(self._open) == _DEEPEST:
            raise EnvironmentInvalid(
                f"{place}: files name each other more than {_DEEPEST} deep.",
                file=place.file,
                line=place.line,
            )
        text = self.open_file(path)
        if text is None:
            raise EnvironmentInvalid(
                f"{place}: there is no {path} in the model folder.",
                hint="Log the file with the model, or write its lines here.",
                file=place.file,
                line=place.line,
            )
        self._open.append(path)
        for number, line in _logical_lines(text):
            self.add(line, Place(path, number), bound=bound)
        self._open.pop()

    def add(self, line: str, place: Place, *, bound: bool = False) -> None:
        """Take one line: a requirement, or an option that may stand in a requirements file."""
        line = _COMMENT.sub("", line).strip()
        if not line:
            return
        if line.startswith("-"):
            self._add_option(line, place, bound=bound)
        else:
            line = self._without_names(line, place)
            (self.constraints if bound else self.requirements).add(_requirement(line, place))

    def _add_option(self, line: str, place: Place, *, bound: bool) -> None:
        if line.startswith("--"):
            name, value = (*re.split(r"\s*=\s*|\s+", line, maxsplit=1), "")[:2]
        else:
            name, value = line[:2], line[2:].lstrip(" =")
        name = _OPTION_NAMES.get(name, name)
        if name in {"--requirement", "--constraint"}:
            path = _inside(value, place)
            self.add_file(path, named_by=place, bound=bound or name == "--constraint")
        elif name in _INDEX_OPTIONS:
            url = _index_url(self._without_names(value, place), name, place)
            self._add_index(name, f"{name}={url}")
        elif name == "--pre":
            self._add_index(name, "--prerelease=allow")
        elif name == "--editable":
            raise _refused(
                line, place, "is an editable install", "Publish it as a wheel, or log it as code."
            )
        elif name not in _NEEDLESS_OPTIONS:
            advice = _ADVICE.get(name, "Remove it.")
            raise _refused(line, place, "is an option images cannot honour", advice)

    def _without_names(self, line: str, place: Place) -> str:
        """Take ``${USER}:${TOKEN}@`` out of an address, and note whom the host wants to see."""

        def note(match: re.Match[str]) -> str:
            user, _, password = match["who"].partition(":")
            names = tuple(variables_of(match["who"]))
            if not names or _VARIABLE.sub("", password):
                return match[0]
            host = match["host"].lower()
            self.credentials[host] = CredentialNames(host, user, password, names, str(place))
            return f"{match['scheme']}{match['host']}"

        line = _NAMED_CREDENTIALS.sub(note, line)
        if names := variables_of(line):
            raise _refused(
                line,
                place,
                f"names {', '.join(names)}, and variables are known for credentials only",
                "Write it out, or put it before the @ of an address.",
            )
        return line

    def _add_index(self, name: str, option: str) -> None:
        """Kinds of options stand in one order; among addresses of a kind the first comes first."""
        if name == "--index-url":
            # There is only one; as with pip, the last counts.
            self.index_options = [
                kept for kept in self.index_options if not kept.startswith(f"{name}=")
            ]
        if option not in self.index_options:
            self.index_options.append(option)
        self.index_options.sort(key=lambda kept: _INDEX_OPTIONS.index(kept.partition("=")[0]))


def normalise(requirement: Requirement) -> str:
    """Return the one spelling of a requirement (PEP 503 names, PEP 440 versions, PEP 508 text)."""
    requirement.name = canonicalize_name(requirement.name)
    requirement.extras = {canonicalize_name(extra) for extra in requirement.extras}
    requirement.specifier = SpecifierSet(",".join(map(_specifier, requirement.specifier)))
    return str(requirement)


def _specifier(specifier: Specifier) -> str:
    """``>=V1.0-RC1`` as ``>=1.0rc1``; zeros at the end stay, as the author reads them."""
    text = specifier.version.lower()
    if specifier.operator != "===" and not text.endswith(".*"):
        text = str(Version(text))
    return f"{specifier.operator}{text}"


def variables_of(text: str) -> list[str]:
    """Return the names in ``${NAME}``, as pip spells them."""
    return [name[2:-1] for name in _VARIABLE.findall(text)]


def name_of(line: str) -> str:
    """Return the normalised name in a line that `RequirementLines` made."""
    return canonicalize_name(Requirement(line.partition(" --hash=")[0]).name)


def hashes_of(line: str) -> set[str]:
    """Return the sha256 digests in a line that `RequirementLines` made."""
    return {option.removeprefix("sha256:") for option in line.split(" --hash=")[1:]}


def without_credentials(text: str) -> str:
    """Take user names, passwords and queries (tokens stand there) out of every URL in ``text``."""
    return _QUERY.sub(r"\1", _USERINFO.sub(r"\1", text))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Join lines continued by a backslash; the number is that of the first."""
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start or number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            pending += line[:-1] + " "
            continue
        yield start, pending + line
        pending, start = "", 0
    if pending:
        yield start, pending


def _requirement(line: str, place: Place) -> str:
    found = [*_HASH.findall(line), *_FRAGMENT_HASH.findall(line)]
    digests = sorted({match.lower().replace("=", ":") for match in found})
    line = _FRAGMENT.sub("", _HASH.sub("", line)).strip()
    line = _named(line)
    if _VCS.search(line):
        raise _refused(
            line, place, "comes from version control", "Build a wheel of it and publish that."
        )
    if _is_local(line):
        raise _refused(
            line,
            place,
            "is a file of the machine it was written on",
            "Write the package's name and version instead.",
        )
    try:
        requirement = Requirement(line)
        text = normalise(requirement)
    except InvalidRequirement as error:
        raise EnvironmentInvalid(
            f"{place}: {without_credentials(line)!r} is not a requirement.",
            file=place.file,
            line=place.line,
        ) from error
    if requirement.url is not None:
        _check_wheel_url(requirement.url, line, place)
    return " ".join([text, *(f"--hash={digest}" for digest in digests)])


def _named(line: str) -> str:
    """A wheel that is named by its address alone has its name in there."""
    address, semicolon, marker = line.partition(";")
    if not re.match(r"https?://\S+\.whl\s*$", address, re.IGNORECASE):
        return line
    file = unquote(urlsplit(address.strip()).path.rpartition("/")[2])
    try:
        name = parse_wheel_filename(file)[0]
    except InvalidWheelFilename:
        return line
    return f"{name} @ {address.strip()} {semicolon}{marker}".strip()


def _is_local(line: str) -> bool:
    what = line.partition(";")[0].strip()
    _, named, url = what.partition("@")
    if named:
        return _LOCAL.match(url.strip()) is not None
    return _LOCAL.match(what) is not None or ("://" not in what and what.endswith(_ARCHIVES))


def _check_wheel_url(url: str, line: str, place: Place) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.path.endswith(".whl"):
        raise _refused(line, place, "is no wheel", "Publish a wheel and name that.")
    if "@" in parts.netloc or parts.query:
        raise _refused(line, place, "has credentials in its URL", "Take them out of the URL.")


def _index_url(value: str, option: str, place: Place) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _refused(
            option, place, "names no http(s) address", "Name an index that builders see."
        )
    if "@" in parts.netloc or parts.query:
        raise _refused(
            option,
            place,
            "has credentials in its URL",
            "Take them out of the URL; the builder reads credentials from ~/.netrc, or write "
            "${USER}:${TOKEN}@ and set those where the image is built.",
        )
    return parts._replace(netloc=parts.netloc.lower()).geturl()


def _inside(value: str, place: Place) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place.file), value))
    if "://" in value or path.startswith(("/", "../")) or path == ".." or not value:
        raise _refused(
            value, place, "lies outside the model folder", "Log the file with the model."
        )
    return path


def _refused(what: str, place: Place, why: str, advice: str) -> RequirementRefused:
    return RequirementRefused(
        f"{place}: {without_credentials(what)!r} {why}.",
        hint=advice,
        file=place.file,
        line=place.line,
    )
