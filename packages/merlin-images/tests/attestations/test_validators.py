"""What we attach, read by the libraries that others read it with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from merlin_images.attestations.attach import attachments
from merlin_images.attestations.bills import Form, bill_of_materials
from merlin_images.attestations.materials import Materials
from merlin_images.attestations.provenance import provenance
from merlin_images.attestations.signing import Signer
from tests.peers import environment_with

VALIDATORS = [
    *("spdx-tools==0.8.5", "cyclonedx-python-lib[json-validation]==11.12.0"),
    *("sigstore==4.5.1", "in-toto-attestation==0.9.3"),
]

_PROGRAM = """
import json, sys
from pathlib import Path

def spdx(path):
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
    return [each.validation_message for each in validate_full_spdx_document(parse_file(path))]

def cyclonedx(path):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(path).read_text())
    return [str(found)] if found else []

def bundle(path):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from sigstore.dsse import Envelope, _verify
    from sigstore_models.bundle.v1 import Bundle
    body = Path(path).read_text()
    Bundle.from_json(body)
    key = load_pem_public_key(Path(path).with_name("public.pem").read_bytes())
    _verify(key, Envelope._from_json(json.dumps(json.loads(body)["dsseEnvelope"])))
    return []

def statement(path):
    from google.protobuf.json_format import Parse
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    text = Path(path).read_text()
    Statement.copy_from_pb(Parse(text, Message())).validate()
    Parse(json.dumps(json.loads(text)["predicate"]), Provenance())
    return []

print(json.dumps({"spdx": spdx, "cyclonedx": cyclonedx, "bundle": bundle, "statement": statement}
    [sys.argv[1]](sys.argv[2])))
"""


def complaints(what: str, document: bytes, folder: Path) -> list[str]:
    file = folder / f"{what}.json"
    if what == "spdx":
        file = folder / "bill.spdx.json"
    file.write_bytes(document)
    done = subprocess.run(
        [environment_with(VALIDATORS), "-c", _PROGRAM, what, str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("form", ["spdx", "cyclonedx"])
def test_bills_are_valid(materials: Materials, tmp_path: Path, form: Form) -> None:
    bill = bill_of_materials(materials, form)
    assert complaints(form, bill, tmp_path) == []
    broken = json.loads(bill)
    broken["packages" if form == "spdx" else "components"][0].pop("name")
    with pytest.raises(AssertionError):
        assert complaints(form, json.dumps(broken).encode(), tmp_path) == []


def test_provenance_is_a_statement_of_in_toto(materials: Materials, tmp_path: Path) -> None:
    assert complaints("statement", provenance(materials), tmp_path) == []


def test_signed_documents_are_bundles_of_sigstore(materials: Materials, tmp_path: Path) -> None:
    """Its library reads them, and verifies their envelopes with the public key."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    [signed] = attachments(materials, ["provenance"], signer=Signer(key))
    write_public(key, tmp_path)
    assert complaints("bundle", signed.body, tmp_path) == []
    write_public(other, tmp_path)
    with pytest.raises(AssertionError, match="invalid signature"):
        complaints("bundle", signed.body, tmp_path)


def write_public(key: ec.EllipticCurvePrivateKey, folder: Path) -> None:
    (folder / "public.pem").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
