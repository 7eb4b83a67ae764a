"""Locks from the real PyPI, as a builder makes them."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from merlin.errors import MerlinError
from merlin.progress import Silent
from merlin_images.environments.errors import (
    EnvironmentInvalid,
    IndexUnreachable,
    LockFailed,
    RequirementHashMismatch,
    RequirementHasNoWheel,
    RequirementNotFound,
    RequirementsConflict,
)
from merlin_images.environments.lock import Resolver
from merlin_images.environments.model import EnvironmentSpec, Lock, Target
from merlin_images.environments.runtime_requirements import runtime_requirements

TARGET = Target("x86_64-manylinux_2_28", "3.11")
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def lock(
    resolver: Resolver,
    *requirements: str,
    runtime: tuple[str, ...] = (),
    target: Target = TARGET,
    constraints: tuple[str, ...] = (),
    as_of: datetime | None = JUNE,
) -> Lock:
    return resolver.lock(
        EnvironmentSpec(target.python, requirements, constraints),
        target,
        runtime_requirements=runtime,
        as_of=as_of,
        progress=Silent(),
    )


@pytest.fixture
def plain_index(tmp_path: Path) -> Iterator[str]:
    """A mirror that is a folder of pages behind a web server: it knows no upload times."""
    (wheel,) = lock(Resolver(tmp_path / "known"), "six==1.17.0").wheels
    page = tmp_path / "index/six/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="{wheel.url}#sha256={wheel.sha256}">{wheel.filename}</a>')
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Recorded(Silent):
    def __init__(self) -> None:
        self.details: list[str] = []

    def finish(self, step: str, detail: str = "", *, failed: bool = False) -> None:
        self.details.append(detail)


def test_scikit_learn_and_the_runtime(tmp_path: Path) -> None:
    made = lock(
        Resolver(tmp_path),
        "mlflow-skinny",
        "scikit-learn==1.7.2",
        runtime=tuple(runtime_requirements()),
        constraints=("numpy<2.3",),
    )
    by_name = {wheel.name: wheel for wheel in made.wheels}
    assert by_name["scikit-learn"].version == "1.7.2"
    assert by_name["numpy"].version.startswith("2.2.")
    assert {"starlette", "uvicorn", "uvloop", "orjson"} <= set(by_name)
    assert "cp311" in by_name["numpy"].filename
    assert list(by_name) == sorted(by_name)
    assert tomllib.loads(made.text)["lock-version"] == "1.0"


def test_a_lock_is_made_once_and_kept(tmp_path: Path) -> None:
    progress = Recorded()
    spec, resolver = EnvironmentSpec("3.11", ("six==1.17.0",)), Resolver(tmp_path)

    def once(_: int) -> Lock:
        return resolver.lock(spec, TARGET, runtime_requirements=(), progress=progress)

    with ThreadPoolExecutor(4) as pool:
        locks = list(pool.map(once, range(4)))
    assert len(set(locks)) == 1
    assert sorted(detail.rpartition(", ")[2] for detail in progress.details) == [
        *["known"] * 3,
        "resolved",
    ]
    offline = Resolver(tmp_path, index_url="")
    assert lock(offline, "six==1.17.0", as_of=None) == locks[0]


def test_the_key_is_made_of_every_input(tmp_path: Path) -> None:
    resolver = Resolver(tmp_path)
    same = lock(resolver, "six", "idna", runtime=("h11",))
    assert lock(resolver, "idna", "six", runtime=("h11",)).key == same.key
    others = [
        lock(resolver, "six", "idna", "h11"),
        lock(resolver, "six", "idna"),
        lock(resolver, "six", "idna", runtime=("h11",), constraints=("six<99",)),
        lock(resolver, "six", "idna", runtime=("h11",), target=Target(TARGET.platform, "3.12")),
        lock(
            Resolver(tmp_path, index_url="https://pypi.org/simple"), "six", "idna", runtime=("h11",)
        ),
    ]
    assert len({same.key, *(other.key for other in others)}) == 6


@pytest.mark.parametrize(
    ("requirements", "error", "words"),
    [
        (("no-such-package-of-merlin-xyz",), RequirementNotFound, "no-such-package-of-merlin-xyz"),
        (("six==99",), RequirementNotFound, "six==99"),
        (("numpy>=99",), RequirementNotFound, "numpy>=99"),
        (("pyspark==3.5.0",), RequirementHasNoWheel, "pyspark"),
        (("scikit-learn==0.24.2",), RequirementHasNoWheel, "Python 3.11"),
        (("starlette==0.30", "fastapi==0.120"), RequirementsConflict, "fastapi==0.120.0 depends"),
        (("pydantic==1.10.2", "fastapi>=0.130"), RequirementsConflict, "pydantic==1.10.2"),
    ],
)
def test_what_cannot_be_locked_is_named(
    tmp_path: Path, requirements: tuple[str, ...], error: type[MerlinError], words: str
) -> None:
    with pytest.raises(error) as caught:
        lock(Resolver(tmp_path), *requirements)
    assert words in caught.value.message
    assert caught.value.hint
    assert not list(tmp_path.rglob("*.toml"))


def test_a_conflict_with_the_runtime_says_so(tmp_path: Path) -> None:
    with pytest.raises(RequirementsConflict) as caught:
        lock(Resolver(tmp_path), "starlette==0.30", runtime=("starlette>=0.37",))
    assert "Merlin's model server needs starlette>=0.37" in caught.value.hint


def test_a_known_wrong_name_is_put_right(tmp_path: Path) -> None:
    with pytest.raises(RequirementHasNoWheel) as caught:
        lock(Resolver(tmp_path), "sklearn==0.0.post1")
    assert caught.value.hint == "Write scikit-learn instead."


def test_an_index_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(IndexUnreachable, match=r"127\.0\.0\.1 cannot be reached"):
        lock(Resolver(tmp_path, index_url="http://127.0.0.1:9/simple"), "six")


def test_an_index_address_holds_no_credentials(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentInvalid, match=r"index index\.example has credentials") as caught:
        Resolver(tmp_path, index_url="https://me:secret@index.example/simple")
    assert "secret" not in str(caught.value)


def test_hashes_are_held_to(tmp_path: Path) -> None:
    resolver = Resolver(tmp_path)
    (wheel,) = lock(resolver, "six==1.17.0").wheels
    assert lock(resolver, f"six==1.17.0 --hash=sha256:{wheel.sha256}").wheels == (wheel,)
    with pytest.raises(RequirementHashMismatch, match=wheel.filename):
        lock(resolver, f"six==1.17.0 --hash=sha256:{'0' * 64}")


def test_a_wheel_by_address_gets_its_size(tmp_path: Path) -> None:
    resolver = Resolver(tmp_path)
    (wheel,) = lock(resolver, "six==1.17.0").wheels
    (named,) = lock(resolver, f"six @ {wheel.url}").wheels
    assert named == wheel


def test_what_was_published_later_is_left_out(tmp_path: Path) -> None:
    """idna 3.10 is of September 2024, 3.11 of October 2025."""
    then = datetime(2025, 1, 1, tzinfo=UTC)
    made = lock(Resolver(tmp_path), "idna", as_of=then)
    assert [(wheel.version, made.notes) for wheel in made.wheels] == [("3.10", ())]
    # It is everybody's from then on.
    assert lock(Resolver(tmp_path), "idna", as_of=JUNE) == made


def test_a_day_on_which_the_packages_were_not_there_yet(tmp_path: Path) -> None:
    made = lock(Resolver(tmp_path), "six==1.17.0", as_of=datetime(2001, 1, 1, tzinfo=UTC))
    assert [wheel.version for wheel in made.wheels] == ["1.17.0"]
    (note,) = made.notes
    assert "published before 2001-01-01T00:00:00Z do not meet the requirements" in note
    with pytest.raises(RequirementNotFound, match="six==99"):
        lock(Resolver(tmp_path), "six==99")


def test_an_index_that_does_not_tell_days(tmp_path: Path, plain_index: str) -> None:
    made = lock(Resolver(tmp_path, index_url=plain_index), "six", as_of=JUNE)
    assert [wheel.version for wheel in made.wheels] == ["1.17.0"]
    (note,) = made.notes
    assert "the index does not tell when it got them" in note


def test_without_uv(tmp_path: Path) -> None:
    with pytest.raises(LockFailed, match="uv cannot be run"):
        lock(Resolver(tmp_path, uv=tmp_path / "nowhere"), "six")
