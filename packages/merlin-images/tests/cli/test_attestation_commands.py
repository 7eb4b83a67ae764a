"""``merlin image sbom``, ``attest`` and ``verify`` as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from merlin.cli.main import run

Keys = tuple[Path, Path]


@pytest.fixture
def image(
    small_base: str,
    make_cache: Callable[[], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "conda.yaml").write_text("dependencies: [python=3.11, {pip: [cloudpickle==3.1.1]}]\n")
    (model / "python_model.pkl").write_bytes(b"pickle")
    where = f"layout:{tmp_path / 'images'}:1"
    cache = str(make_cache())
    assert (
        run(["image", "build", str(model), "--to", where, "--base", small_base, "--cache", cache])
        == 0
    )
    capsys.readouterr()
    return where


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def test_a_bill_is_printed(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["image", "sbom", image]) == 0
    spdx = json.loads(capsys.readouterr().out)
    assert run(["image", "sbom", image, "--form", "cyclonedx"]) == 0
    cyclonedx = json.loads(capsys.readouterr().out)
    assert (spdx["spdxVersion"], cyclonedx["specVersion"]) == ("SPDX-2.3", "1.6")


def test_what_is_signed_is_verified(
    image: str, keys: Keys, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = map(str, keys)
    assert run(["image", "verify", image, "--key", public]) == 77
    assert "is not signed" in capsys.readouterr().err
    assert run(["image", "attest", image, "--key", private]) != 0, "the key has a password"
    capsys.readouterr()

    monkeypatch.setenv("MERLIN_SIGNING_PASSWORD", "secret")
    assert run(["image", "attest", image, "--key", private]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("signature")
    assert run(["image", "verify", image, "--key", public, "--output", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {each["type"] for each in said["statements"]} == {
        "https://spdx.dev/Document",
        "https://slsa.dev/provenance/v1",
        "https://sigstore.dev/cosign/sign/v1",
    }
