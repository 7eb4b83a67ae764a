"""The reference pages say what the code says, and the README's commands exist."""

from __future__ import annotations

import re
import subprocess

import pytest

from scripts import reference
from tests.conftest import ROOT
from tests.live_server import MERLIN


@pytest.mark.parametrize("name", ["errors.md", "configuration.md"])
def test_a_page_is_what_the_code_would_write(name: str) -> None:
    written = (reference.DOCS / name).read_text()
    assert written == reference.pages()[name], "run `python -m scripts.reference`"


def test_every_error_says_what_it_means_under_a_code_of_its_own() -> None:
    errors = list(reference._errors())
    codes = [error.code for error in errors]
    assert len(codes) == len(set(codes)), sorted(code for code in codes if codes.count(code) > 1)
    for error in errors:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code), error
        assert error.__doc__, error


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
