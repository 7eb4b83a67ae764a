"""Documents beside an image: attached once, found by type, signed and verified."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from merlin_images.attestations.attach import (
    BUNDLE,
    KINDS,
    SPDX,
    attach,
    attached,
    attachments,
    read_attachment,
)
from merlin_images.attestations.materials import Materials
from merlin_images.attestations.signing import (
    SignatureInvalid,
    Signer,
    SigningKeyInvalid,
    verified_statement,
)
from merlin_images.image.manifest import canonical_json
from merlin_images.registry.memory import MemoryRegistry


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def attach_all(
    registry: MemoryRegistry, materials: Materials, signer: Signer | None = None
) -> list[str]:
    image = materials.image
    return [
        attach(registry, image.reference, image.descriptor, each).digest
        for each in attachments(materials, KINDS, signer=signer)
    ]


def test_documents_are_attached_once(registry: MemoryRegistry, materials: Materials) -> None:
    first = attach_all(registry, materials)
    assert len(first) == 3, "there is no signature without a key"
    assert attach_all(registry, materials) == first
    reference = materials.image.reference
    found = attached(registry, reference)
    assert {each.digest for each in found} == set(first)
    assert registry.resolve(reference) is not None, "the image's digest is as it was"
    [spdx] = attached(registry, reference, artifact_type=SPDX)
    assert json.loads(read_attachment(registry, reference, spdx))["spdxVersion"] == "SPDX-2.3"


def test_signatures_are_attached_once_a_key(
    registry: MemoryRegistry, materials: Materials, key: ec.EllipticCurvePrivateKey
) -> None:
    first = attach_all(registry, materials, Signer(key))
    assert attach_all(registry, materials, Signer(key)) == first
    other = attach_all(registry, materials, Signer(ec.generate_private_key(ec.SECP256R1())))
    assert not set(other) & set(first)
    assert len(attached(registry, materials.image.reference, artifact_type=BUNDLE)) == 8


def test_openssl_verifies_what_we_sign(
    materials: Materials, key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    [bundle] = attachments(materials, ["signature"], signer=Signer(key))
    envelope = json.loads(bundle.body)["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    # The pre-authentication encoding as the DSSE protocol spells it.
    (tmp_path / "signed").write_bytes(
        b" ".join([b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(payload), payload])
    )
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "public.pem").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", "public.pem", "-signature", "sig", "signed"],
        cwd=tmp_path,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def test_only_what_this_key_signed_about_this_image_is_believed(
    materials: Materials, key: ec.EllipticCurvePrivateKey
) -> None:
    digest = materials.image.descriptor.digest
    [bundle] = attachments(materials, ["provenance"], signer=Signer(key))
    public = key.public_key()
    said = verified_statement(bundle.body, public, digest=digest)
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"

    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(SignatureInvalid, match="not signed with this key"):
        verified_statement(bundle.body, stranger, digest=digest)
    with pytest.raises(SignatureInvalid, match="about another image"):
        verified_statement(bundle.body, public, digest=f"sha256:{'0' * 64}")

    changed = json.loads(bundle.body)
    payload = base64.b64decode(changed["dsseEnvelope"]["payload"]).replace(b"fraud", b"other")
    changed["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(SignatureInvalid, match="not signed with this key"):
        verified_statement(canonical_json(changed), public, digest=digest)


@pytest.mark.parametrize("bundle", [b"{}", b'{"dsseEnvelope": 1}', b'{"dsseEnvelope": {}}'])
def test_what_is_no_bundle_proves_nothing(bundle: bytes, key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(SignatureInvalid, match="no signed statement"):
        verified_statement(bundle, key.public_key(), digest="sha256:0")


def test_keys_of_another_kind_are_refused_without_being_shown(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("-----BEGIN PRIVATE KEY-----\nCANARY\n")
    with pytest.raises(SigningKeyInvalid) as caught:
        Signer.from_file(file)
    assert "CANARY" not in str(caught.value)
    file.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(SigningKeyInvalid, match="another kind"):
        Signer.from_file(file)
