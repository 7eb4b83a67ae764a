"""The reference pages say what the code says, and the README's commands exist."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from pkgutil import resolve_name

import pytest

from merlin.errors import Kind
from merlin_server.settings_loading import load_settings
from scripts import reference
from tests.conftest import ROOT
from tests.live_server import MERLIN


@pytest.mark.parametrize("name", list(reference.pages()))
def test_a_page_is_what_the_code_would_write(name: str) -> None:
    written = (reference.DOCS / name).read_text()
    assert written == reference.pages()[name], "run `python -m scripts.reference`"


def test_every_error_has_a_code_that_means_one_thing() -> None:
    kinds: dict[str, set[Kind]] = {}
    for error in reference._errors():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code), error
        assert error.__doc__, error
        # The SDK may find early what the server would: then both say it under one code.
        kinds.setdefault(error.code, set()).add(error.kind)
    assert {code: found for code, found in kinds.items() if len(found) > 1} == {}


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    commands = set(re.findall(r"^\s*(?:\$ )?merlin ((?:image )?[a-z]+)", text, re.MULTILINE))
    assert commands
    for command in sorted(commands):
        done = subprocess.run(
            [MERLIN, *command.split(), "--help"], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, f"merlin {command}: {done.stderr}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_what_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    groups = {point.group for found in distributions() for point in found.entry_points}
    for name in set(re.findall(r"`(merlin(?:_\w+)?(?:\.\w+)+)`", text)) - groups:
        assert resolve_name(name), name
    folders = r"(?:merlin\w*|endpoints|operations|images|deployers)"
    for path in set(re.findall(rf"`({folders}/[\w/.]+)`", text)):
        assert [*ROOT.glob(f"packages/*/src/{path}"), *ROOT.glob(f"packages/*/src/*/{path}")], path


def _examples() -> list[str]:
    text = (reference.DOCS / "stores.md").read_text()
    return re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)


def test_there_is_an_example_for_every_kind_of_store_and_registry() -> None:
    found = "".join(_examples())
    for word in ("s3://", "gs://", "az://", "type: ecr", "type: gcr", "type: docker"):
        assert word in found, word


@pytest.mark.parametrize("number", range(len(_examples())))
def test_an_example_is_accepted_as_it_stands(number: int, tmp_path: Path) -> None:
    text = _examples()[number]
    for name in set(re.findall(r"/run/secrets/([\w./-]+)", text)):
        file = tmp_path / "secrets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
    (tmp_path / "merlin.yaml").write_text(text.replace("/run/secrets", f"{tmp_path}/secrets"))
    told: list[str] = []
    settings = load_settings(
        [tmp_path / "merlin.yaml"], {"data_dir": tmp_path}, environ={}, tell=told.append
    )
    assert told == []
    assert settings.registry.prefix
