"""Equivalent environment files have one hash, different ones have different hashes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from merlin.artifacts.memory import MemoryStore
from merlin_images.environments.dependency_hash import dependency_hash, environment_text
from merlin_images.environments.files import read_environment
from merlin_images.environments.model import EnvironmentSpec

DIGEST = "a" * 64


def hash_of(files: dict[str, str], *, python: str = "3.11") -> str:
    return dependency_hash(read(files, python=python))


def read(files: dict[str, str], *, python: str = "3.11") -> EnvironmentSpec:
    store = MemoryStore()
    for name, text in files.items():
        store.write(f"model/{name}", [text.encode()])
    return read_environment(store, "model", model_type="pyfunc", python=python)


def conda(*lines: str, python: str = "3.11") -> dict[str, str]:
    document = {"dependencies": [f"python={python}", "pip", {"pip": list(lines)}]}
    return {"conda.yaml": yaml.safe_dump(document)}


def test_the_hash_of_a_known_environment_never_changes() -> None:
    """Were this another hash, all models would be resolved anew and share nothing with before."""
    spec = read(
        {
            "conda.yaml": "name: x\nchannels: [defaults]\ndependencies:\n- python=3.10.4\n- pip:\n"
            "  - --extra-index-url https://a.example/simple\n  - -c limits.txt\n"
            "  - Scikit_Learn [beta, ALPHA]==1.7.2 ; python_version<'3.13'  # a comment\n"
            f"  - six==1.17.0 --hash=sha256:{DIGEST}\n",
            "limits.txt": "numpy<3\n",
        }
    )
    assert json.loads(environment_text(spec)) == {
        "format": 1,
        "python": "3.10",
        "requirements": [
            "cloudpickle",
            'scikit-learn[alpha,beta]==1.7.2; python_version < "3.13"',
            f"six==1.17.0 --hash=sha256:{DIGEST}",
        ],
        "constraints": ["numpy<3"],
        "index_options": ["--extra-index-url=https://a.example/simple"],
    }
    known = "56885dc8d6de4e2e7cc9496b35ede604f2a022ed3e7d444fda3d9e7ef45ad9fb"
    assert dependency_hash(spec) == known
    assert hashlib.sha256(environment_text(spec).encode()).hexdigest() == known


PACKAGES = st.sampled_from(["scikit-learn", "ruamel.yaml", "zope-interface", "six"])
RELEASES = st.sampled_from(["1.0", "1.0.4", "2.0rc1", "1.0.post2", "2024.1.dev3"])
MARKERS = st.sampled_from(
    [
        "",
        'python_version < "3.13"',
        'os_name == "posix" and python_version >= "3.9"',
        'sys_platform == "linux" or (os_name == "nt" and python_version < "3.12")',
    ]
)


@st.composite
def requirements(draw: st.DrawFn) -> dict[str, Any]:
    """A requirement as its parts."""
    operator = draw(st.sampled_from(["==", ">=", "<", "!=", "~="]))
    return {
        "name": draw(PACKAGES),
        "extras": draw(st.lists(st.sampled_from(["a", "b-c", "d"]), unique=True, max_size=3)),
        "versions": draw(
            st.lists(st.tuples(st.just(operator), RELEASES), unique=True, min_size=1, max_size=2)
        ),
        "marker": draw(MARKERS),
        "digests": draw(st.lists(st.sampled_from(["a" * 64, "b" * 64]), unique=True, max_size=2)),
    }


ENVIRONMENTS = st.fixed_dictionaries(
    {
        "python": st.sampled_from(["3.10", "3.11"]),
        "requirements": st.lists(requirements(), max_size=4, unique_by=lambda each: each["name"]),
        "constraints": st.lists(requirements(), max_size=2, unique_by=lambda each: each["name"]),
        "indexes": st.lists(
            st.sampled_from(["https://a.example/simple", "https://b.example:8080/Simple"]),
            unique=True,
        ),
        "index": st.sampled_from(["", "https://c.example/simple"]),
        "prereleases": st.booleans(),
    }
)


class Spelling:
    """Writes an environment in one of the ways that mean the same."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def shuffled(self, items: list[Any]) -> list[Any]:
        return self._draw(st.permutations(items))

    def one_of(self, *choices: str) -> str:
        return self._draw(st.sampled_from(choices))

    def space(self) -> str:
        return self.one_of("", " ", "  ")

    def cased(self, text: str) -> str:
        return self.one_of(text, text.upper(), text.title())

    def name(self, text: str) -> str:
        for mark in "-.":
            text = text.replace(mark, self.one_of("-", "_", ".", "--"))
        return self.cased(text)

    def requirement(self, parts: dict[str, Any]) -> str:
        text = self.name(parts["name"]) + self.space()
        if parts["extras"]:
            extras = [self.name(extra) for extra in self.shuffled(parts["extras"])]
            text += f"[{(self.space() + ',' + self.space()).join(extras)}]{self.space()}"
        versions = [
            operator + self.space() + self.version(version)
            for operator, version in self.shuffled(parts["versions"])
        ]
        text += (self.space() + "," + self.space()).join(versions)
        if parts["marker"]:
            text += self.space() + ";" + self.space() + self.marker(parts["marker"])
        for digest in self.shuffled(parts["digests"]):
            text += f"{self.one_of(' ', '   ')}--hash{self.one_of('=', ' ')}sha256:"
            text += self.one_of(digest, digest.upper())
        return text

    def version(self, text: str) -> str:
        spellings = {
            "2.0rc1": ("2.0rc1", "2.0-RC.1", "2.0c1", "v2.0rc1"),
            "1.0.post2": ("1.0.post2", "1.0-2", "1.0.rev2"),
            "2024.1.dev3": ("2024.1.dev3", "2024.1-DEV3"),
        }
        return self.one_of(*spellings.get(text, (text, f"v{text}")))

    def marker(self, text: str) -> str:
        for operator in ("<", ">=", "=="):
            text = text.replace(f" {operator} ", self.space() + operator + self.space())
        text = text.replace("os_name", self.one_of("os_name", "os.name"))
        text = text.replace('"', self.one_of('"', "'"))
        return self.one_of(text, f"({text})")

    def line(self, text: str) -> str:
        return self.space() + text + self.one_of("", " ", "  # why", "\t# six==1.0")

    def address(self, url: str) -> str:
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        return f"{self.cased(scheme)}://{self.cased(host)}{slash}{path}"

    def lines(self, environment: dict[str, Any]) -> list[str]:
        """The lines of a requirements file; options of one kind keep their order."""
        loose = [self.requirement(parts) for parts in environment["requirements"]]
        loose += self.shuffled(loose)[:1]
        if environment["index"]:
            loose.append(
                f"{self.one_of('-i ', '--index-url ')}{self.address(environment['index'])}"
            )
        if environment["prereleases"]:
            loose.append("--pre")
        if environment["constraints"]:
            loose.append(self.one_of("-c limits.txt", "--constraint=./limits.txt"))
        loose = self.shuffled(loose)
        for url in reversed(environment["indexes"]):
            where = self._draw(st.integers(0, len(loose)))
            first = next(
                (at for at, line in enumerate(loose) if line.startswith("--extra-index-url")),
                len(loose),
            )
            loose.insert(min(where, first), f"--extra-index-url{self.one_of(' ', '=')}{url}")
        return loose

    def files(self, environment: dict[str, Any]) -> dict[str, str]:
        limits = [self.requirement(parts) for parts in self.shuffled(environment["constraints"])]
        files = {"limits.txt": "\n".join(self.line(line) for line in limits)}
        lines = self.lines(environment)
        python = environment["python"]
        kind = self.one_of("conda.yaml", "python_env.yaml", "requirements.txt")
        if kind == "requirements.txt":
            noise = ["# a comment", "", "   "]
            lines = [line for each in lines for line in (self.one_of("", *noise), each)]
            text = self.one_of("\n", "\r\n").join(map(self.line, lines))
            mlmodel = f"flavors: {{python_function: {{python_version: {python}.2}}}}"
            return files | {kind: text, "MLmodel": mlmodel}
        written = [line.strip() for line in map(self.line, lines)]
        document: dict[str, Any]
        if kind == "python_env.yaml":
            document = {"python": f"{python}.7", "dependencies": written}
        else:
            packages = self.one_of(
                f"python={python}", f"python=={python}.9", f"Python = {python}.*"
            )
            document = {
                "dependencies": self.shuffled([packages, "pip<24", {"pip": written}]),
                "name": self.one_of("merlin", "other"),
                "channels": ["conda-forge"],
            }
        flow = self._draw(st.sampled_from([None, True, False]))
        quotes = self._draw(st.sampled_from([None, "'", '"']))
        style: dict[str, Any] = {"default_flow_style": flow, "default_style": quotes}
        width = self._draw(st.sampled_from([20, 1000]))
        return files | {kind: yaml.safe_dump(document, width=width, sort_keys=False, **style)}


@st.composite
def spellings(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    environment = draw(ENVIRONMENTS)
    spelling = Spelling(draw)
    return spelling.files(environment), spelling.files(environment)


@settings(deadline=None)
@given(files=spellings())
def test_spelling_does_not_matter(files: tuple[dict[str, str], dict[str, str]]) -> None:
    first, second = files
    assert environment_text(read(first)) == environment_text(read(second))


@settings(deadline=None)
@given(one=ENVIRONMENTS, other=ENVIRONMENTS, data=st.data())
def test_what_changes_the_environment_matters(
    one: dict[str, Any], other: dict[str, Any], data: st.DataObject
) -> None:
    spelling = Spelling(data.draw)
    hashes = {hash_of(spelling.files(each)) for each in (one, other)}
    assert len(hashes) == (1 if meaning(one) == meaning(other) else 2)


def meaning(environment: dict[str, Any]) -> Any:
    """What of an environment counts, with what has no order as sets."""

    def parts(requirement: dict[str, Any]) -> Any:
        sets = {name: frozenset(requirement[name]) for name in ("extras", "versions", "digests")}
        return frozenset({**requirement, **sets}.items())

    return environment | {
        name: {parts(each) for each in environment[name]}
        for name in ("requirements", "constraints")
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (conda("six==1.17.0"), conda("six==1.16.0")),
        (conda("six==1.17.0"), conda("six>=1.17.0")),
        (conda("six==1.17.0"), conda()),
        (conda("six~=1.0"), conda("six~=1.0.0")),
        (conda("six"), conda("six", python="3.12")),
        (conda("six[a]"), conda("six")),
        (conda("six; os_name == 'nt'"), conda("six")),
        (conda("six"), conda("six", "--pre")),
        (conda(f"six==1 --hash=sha256:{DIGEST}"), conda("six==1")),
        (
            conda("--extra-index-url https://a.example", "--extra-index-url https://b.example"),
            conda("--extra-index-url https://b.example", "--extra-index-url https://a.example"),
        ),
        (conda("--index-url https://a.example"), conda("--extra-index-url https://a.example")),
        (conda("--index-url https://a.example/X"), conda("--index-url https://a.example/x")),
        (
            {"requirements.txt": "-r l.txt", "l.txt": "six<2"},
            {"requirements.txt": "-c l.txt", "l.txt": "six<2"},
        ),
    ],
)
def test_each_part_counts(one: dict[str, str], other: dict[str, str]) -> None:
    assert hash_of(one) != hash_of(other)
    assert hash_of(one) == hash_of(one)


def test_the_python_counts_also_where_no_file_names_it() -> None:
    files = {"requirements.txt": "six"}
    assert hash_of(files, python="3.11") != hash_of(files, python="3.12")
    assert hash_of(files, python="3.11") == hash_of(conda("six"), python="3.12")


def test_of_two_index_urls_the_last_counts() -> None:
    twice = conda("-i https://a.example/simple", "six", "-i https://b.example/simple")
    assert hash_of(twice) == hash_of(conda("six", "--index-url=https://b.example/simple"))


def test_notes_are_no_part_of_it() -> None:
    assert hash_of(conda("six", "merlin-sdk==0.40")) == hash_of(conda("six"))
