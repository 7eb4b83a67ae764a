"""Signing statements with a key of one's own, as Sigstore bundles that cosign can verify.

A statement is put into a DSSE envelope (secure-systems-lab/dsse, v1), signed with ECDSA on P-256
over SHA-256, and the envelope into a bundle of version 0.3 with the key's hint instead of a
certificate. Signing without a key, by a certificate of an identity, needs services that this does
not talk to. Needs the extra ``signing``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from merlin.errors import Kind, MerlinError
from merlin_images.attestations.attach import BUNDLE, IN_TOTO
from merlin_images.image.manifest import canonical_json, parse_object

_PUBLIC_HINT = "Write it from the private key with: openssl ec -in key.pem -pubout"


class SigningKeyInvalid(MerlinError):
    """A key file holds no ECDSA P-256 key in PEM, or its password is another."""

    code = "signing_key_invalid"
    kind = Kind.INVALID
    hint = "Make one with: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"


class SignatureInvalid(MerlinError):
    """A bundle is not signed by this key, or is about something else."""

    code = "signature_invalid"
    kind = Kind.DENIED
    hint = "Do not use the image unless you know why."


class Signer:
    """Signs with one private key, which is never shown. ``hint`` names the public key."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.hint = _hint(key.public_key())

    @classmethod
    def from_file(cls, file: Path, *, password: bytes | None = None) -> Signer:
        """Read a PEM file. Raises `SigningKeyInvalid`."""
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), password)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            # Without the reason's own words, which may quote what they failed on.
            raise SigningKeyInvalid(f"{file} is no key that can be read.") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise SigningKeyInvalid(f"{file} holds a key of another kind than ECDSA P-256.")
        return cls(key)

    def sign(self, payload: bytes) -> bytes:
        """Return the bundle of a statement, as JSON. Signatures differ from call to call."""
        signature = self._key.sign(_authenticated(payload), ec.ECDSA(hashes.SHA256()))
        return canonical_json(
            {
                "mediaType": BUNDLE,
                # No entries of a log say so by an empty list: Sigstore's Python library wants one.
                "verificationMaterial": {"publicKey": {"hint": self.hint}, "tlogEntries": []},
                "dsseEnvelope": {
                    "payload": base64.b64encode(payload).decode(),
                    "payloadType": IN_TOTO,
                    "signatures": [{"sig": base64.b64encode(signature).decode()}],
                },
            }
        )


def read_public_key(file: Path) -> ec.EllipticCurvePublicKey:
    """Read a PEM file. Raises `SigningKeyInvalid`."""
    try:
        key = serialization.load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SigningKeyInvalid(
            f"{file} is no public key that can be read.", hint=_PUBLIC_HINT
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SigningKeyInvalid(
            f"{file} holds a key of another kind than ECDSA P-256.", hint=_PUBLIC_HINT
        )
    return key


def verified_statement(
    bundle: bytes, key: ec.EllipticCurvePublicKey, *, digest: str
) -> Mapping[str, Any]:
    """Return the statement of a bundle that this key signed about the image of this digest.

    Raises `SignatureInvalid`, and `InvalidImage` for what is no JSON at all.
    """
    envelope: Any = parse_object(bundle, "bundle").get("dsseEnvelope")
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [
            base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]
        ]
        statement = json.loads(payload)
        subjects = [f"sha256:{subject['digest']['sha256']}" for subject in statement["subject"]]
    except (KeyError, TypeError, ValueError) as error:
        raise SignatureInvalid("The bundle holds no signed statement about an image.") from error
    if not any(_is_signed(key, signature, payload) for signature in signatures):
        raise SignatureInvalid("The bundle is not signed with this key.")
    if digest not in subjects:
        raise SignatureInvalid(f"The bundle is about another image than {digest}.")
    return dict(statement)


def _is_signed(key: ec.EllipticCurvePublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, _authenticated(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _authenticated(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: type and payload with their lengths."""
    return b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(encoded).digest()).decode()
