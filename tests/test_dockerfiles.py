"""What every Dockerfile of ours keeps; that they build is shown by test_dockerfile_builds."""

from __future__ import annotations

import hashlib
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from merlin_images.context.build_arguments import CREDENTIALS, HONOURED
from merlin_images.context.write import default_dockerfile
from tests.dockerfile_parser import Instruction, parse

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.rglob("*Dockerfile"))
NAMES = [str(file.relative_to(DOCKER)) for file in FILES]
KINDS = {"online": "pyfunc-server", "batch": "batch-predictor"}

_EXEC = {"RUN", "COPY", "ENTRYPOINT", "CMD"}
_SECRET = re.compile(r"SECRET|PASSW|TOKEN|CREDENTIAL|ACCESS_KEY|API_?KEY", re.IGNORECASE)
_PINNED = re.compile(r"\S+(:(?!latest$)[\w.-]+|@sha256:[a-f0-9]{64})")


@pytest.fixture(params=FILES, ids=NAMES)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def instructions(file: Path) -> list[Instruction]:
    return parse(file.read_text())


def test_all_that_should_be_there_is() -> None:
    assert set(NAMES) == {
        *(f"batch-predictor/{name}.Dockerfile" for name in ("app", "base", "local")),
        *(f"pyfunc-server/{name}.Dockerfile" for name in ("app", "base", "local")),
        "tools/Dockerfile",
    }


def test_nothing_goes_through_a_shell_that_expands_words(instructions: list[Instruction]) -> None:
    for each in instructions:
        if each.name in _EXEC:
            assert each.words is not None, f"line {each.line} is not in exec form"
    assert not {"ADD", "SHELL", "ONBUILD", "VOLUME"} & {each.name for each in instructions}


def test_no_secret_can_come_in_by_name(instructions: list[Instruction]) -> None:
    for each in instructions:
        if each.name in {"ARG", "ENV", "LABEL"}:
            for name in each.names:
                assert name not in CREDENTIALS
                assert not _SECRET.search(name), f"line {each.line} declares {name}"


def test_no_client_of_a_cloud_is_installed(instructions: list[Instruction]) -> None:
    text = " ".join(each.text for each in instructions)
    assert not re.search(r"gcloud|gsutil|awscli|aws s3|azcopy|curl|wget", text)


def test_what_it_starts_from_is_named_by_the_builder_or_pinned(
    instructions: list[Instruction],
) -> None:
    defaults = dict(_defaults(instructions))
    stages: set[str] = set()
    for each in instructions:
        if each.name == "FROM":
            source, _, stage = each.text.partition(" AS ")
            if variable := re.fullmatch(r"\$\{(\w+)\}", source):
                default = defaults[variable[1]]
                assert not default or _PINNED.fullmatch(default), f"{variable[1]} is not pinned"
            else:
                assert source in stages or _PINNED.fullmatch(source)
            stages.add(stage)


def _defaults(instructions: list[Instruction]) -> Iterator[tuple[str, str]]:
    for each in instructions:
        if each.name == "ARG":
            name, _, value = each.text.partition("=")
            yield name, value


def test_the_image_runs_as_an_ordinary_user(instructions: list[Instruction]) -> None:
    last_stage = max(at for at, each in enumerate(instructions) if each.name == "FROM")
    users = [each.text for each in instructions[last_stage:] if each.name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:\d+", users[-1])


@pytest.mark.parametrize("folder", KINDS.values())
def test_the_order_goes_from_what_seldom_changes_to_what_always_does(folder: str) -> None:
    steps = [each.text for each in parse((DOCKER / folder / "app.Dockerfile").read_text())]
    order = [
        *("packages.txt", "requirements.txt", "--requirements=requirements.txt", '"/opt/venv", "'),
        *("runtime.txt", "--no-deps", '"model"', "--dry-run", "MODEL_NAME", "MODEL_ARTIFACTS_URL"),
    ]
    places = [next(at for at, step in enumerate(steps) if mark in step) for mark in order]
    assert places == sorted(places)


@pytest.mark.parametrize("folder", KINDS.values())
def test_the_local_variant_does_the_same_with_a_context_it_makes_itself(folder: str) -> None:
    app = parse((DOCKER / folder / "app.Dockerfile").read_text())
    local = parse((DOCKER / folder / "local.Dockerfile").read_text())
    at = next(at for at, each in enumerate(local) if each.text == "${BASE_IMAGE} AS system")
    shown = [
        (each.name, each.text.replace("/tmp/context/", ""), without_context(each))
        for each in local[at:]
    ]
    assert shown == [(each.name, each.text, each.flags) for each in app[1:]]


def without_context(each: Instruction) -> tuple[tuple[str, str], ...]:
    return tuple(flag for flag in each.flags if flag != ("from", "context"))


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_dockerfile_is_the_one_that_contexts_hold(kind: str) -> None:
    held = default_dockerfile(kind)  # type: ignore[arg-type]
    assert held == (DOCKER / KINDS[kind] / "app.Dockerfile").read_bytes()
    arguments = {name for name, _ in _defaults(parse(held.decode()))}
    assert arguments <= set(HONOURED)


def test_uv_is_the_one_of_our_own_lock() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    [uv] = [package for package in lock["package"] if package["name"] == "uv"]
    name, *options = (DOCKER / "uv.txt").read_text().replace("\\\n", " ").split()
    assert name == f"uv=={uv['version']}"
    assert set(options) <= {f"--hash={wheel['hash']}" for wheel in uv["wheels"]}


def test_the_documented_arguments_are_those_of_the_code() -> None:
    page = (ROOT / "docs/dockerfiles.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", page, re.MULTILINE))
    assert rows == {**HONOURED, **dict.fromkeys(CREDENTIALS, "refused")}


@pytest.fixture
def fetch_jars() -> object:
    return runpy.run_path(str(DOCKER / "batch-predictor/fetch_jars.py"))["main"]


def test_jars_are_pinned_once_and_held_to_it(
    tmp_path: Path, fetch_jars: object, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.wheel_index import serving_wheels

    assert callable(fetch_jars)
    jar = tmp_path / "connector-1.0.jar"
    jar.write_bytes(b"a jar")
    listed, target = tmp_path / "jars.txt", tmp_path / "jars"
    target.mkdir()
    with serving_wheels({}, tmp_path) as url:
        address = f"{url.removesuffix('/simple')}/connector-1.0.jar"
        listed.write_text(f"# connectors\n{address}\n")
        assert fetch_jars(["--to", str(target), str(listed)]) == 1
        assert "has no sha256" in capsys.readouterr().err
        assert fetch_jars(["--pin", str(listed)]) == 0
        checksum = hashlib.sha256(b"a jar").hexdigest()
        assert listed.read_text() == f"# connectors\n{address} sha256:{checksum}\n"
        assert fetch_jars(["--to", str(target), str(listed)]) == 0
        assert (target / "connector-1.0.jar").read_bytes() == b"a jar"
        (target / "connector-1.0.jar").unlink()

        jar.write_bytes(b"another")
        assert fetch_jars(["--to", str(target), str(listed)]) == 1
        assert checksum in capsys.readouterr().err
        listed.write_text(f"{address}.gone sha256:{checksum}\n")
        assert fetch_jars(["--to", str(target), str(listed)]) == 1
        assert "cannot be fetched" in capsys.readouterr().err
    assert list(target.iterdir()) == []


def test_every_connector_is_named_with_its_version() -> None:
    lines = (DOCKER / "batch-predictor/jars.txt").read_text().splitlines()
    urls = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert all(re.search(r"/\d+[\w.]*/|/hadoop3-[\d.]+/", url) for url in urls)
    for connector in ("hadoop-aws", "gcs-connector", "spark-bigquery"):
        assert any(connector in url for url in urls)
