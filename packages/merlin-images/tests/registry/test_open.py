"""The right client for what a setting says."""

from __future__ import annotations

from pathlib import Path

import pytest

from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import InvalidReference
from merlin_images.registry.layout import LayoutRegistry
from merlin_images.registry.open import open_registry
from merlin_images.registry.reference import parse_reference


@pytest.mark.parametrize(
    ("where", "base"),
    [
        ("registry.example.com", "https://registry.example.com/"),
        ("registry.example.com:5000", "https://registry.example.com:5000/"),
        ("registry.example.com/ml/model:1", "https://registry.example.com/"),
        ("localhost:5000", "http://localhost:5000/"),
        ("127.0.0.1:5000/x", "http://127.0.0.1:5000/"),
        ("localhost", "http://localhost/"),
        ("python:3.11", "https://registry-1.docker.io/"),
        ("python", "https://registry-1.docker.io/"),
        ("team/image", "https://registry-1.docker.io/"),
    ],
)
def test_hosts_and_references(where: str, base: str) -> None:
    for given in (where, parse_reference(where)) if "/" in where else (where,):
        registry = open_registry(given)
        assert isinstance(registry, DistributionRegistry)
        assert str(registry._http.base_url) == base
        registry.close()


def test_insecure_is_plain_http() -> None:
    registry = open_registry("registry.example.com", insecure=True)
    assert isinstance(registry, DistributionRegistry)
    assert registry._http.base_url.scheme == "http"
    registry.close()


def test_layouts(tmp_path: Path) -> None:
    assert isinstance(open_registry(f"layout:{tmp_path}"), LayoutRegistry)
    assert isinstance(open_registry(str(tmp_path), type="layout"), LayoutRegistry)
    with pytest.raises(InvalidReference):
        open_registry("layout:")


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no-such-file"):
        open_registry("registry.example.com", ca_file=tmp_path / "no-such-file")
