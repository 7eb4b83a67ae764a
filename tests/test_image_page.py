"""docs/how-images-are-built.md names every `merlin image` command, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from merlin_images.cli import app

PAGE = Path(__file__).resolve().parents[1] / "docs/how-images-are-built.md"


def test_every_command_is_told_and_exists() -> None:
    told = re.findall(r"^\| `merlin image (\S+)` \|", PAGE.read_text(), re.MULTILINE)
    known = [name for name in app if not name.startswith("-")]
    assert sorted(told) == sorted(known)


def test_what_the_page_shows_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text()):
        assert (PAGE.parent / target).is_file(), target


def test_limits_are_those_of_the_code() -> None:
    from merlin_images.image import base, decompression, foreign_tar
    from merlin_images.layers import model, wheel, zip_archive

    text = PAGE.read_text()
    assert f"{wheel.HEAVY >> 20} MiB" in text
    assert (
        f"{model._WEIGHT >> 20} MiB on apart, grouped up to {model._LARGEST_LAYER >> 30} GiB"
        in (text.replace("files from ", ""))
    )
    assert f"more than {zip_archive._MEMBERS:,} files, {zip_archive._TOTAL >> 30} GiB" in text
    assert f"beyond {zip_archive._RATIO_FROM >> 20} MiB, {zip_archive._RATIO} times" in text
    assert f"more than {model._MOST_FILES:,} files" in text
    assert f"beyond {decompression._RATIO_FROM >> 30} GiB more than {decompression._RATIO} " in text
    assert foreign_tar._MEMBERS == 1_000_000
    assert f"more than {base.MOST_LAYERS} layers" in text
