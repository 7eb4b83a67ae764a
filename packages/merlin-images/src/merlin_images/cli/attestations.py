"""``merlin image sbom``, ``attest`` and ``verify``: what is said about an image, and by whom."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

from merlin.errors import Kind, MerlinError
from merlin.output.human import table
from merlin.progress import step
from merlin_images.attestations.attach import (
    BUNDLE,
    Signs,
    attach,
    attached,
    attachments,
    read_attachment,
)
from merlin_images.attestations.attach import Kind as Document
from merlin_images.attestations.bills import bill_of_materials
from merlin_images.attestations.materials import Materials, read_materials
from merlin_images.cli.common import DEFAULTS, Common, app, default_cache, naming, shown
from merlin_images.image.layer_contents import ContentsReader
from merlin_images.image.locations import locate
from merlin_images.image.stored import read_image
from merlin_images.registry.port import ImageRegistry

_PASSWORD = "MERLIN_SIGNING_PASSWORD"  # noqa: S105 -- the variable's name


class SigningNotInstalled(MerlinError):
    """The library that signs and verifies is an extra."""

    code = "signing_not_installed"
    kind = Kind.USAGE
    hint = "Run: pip install 'merlin-images[signing]'."


class NotSigned(MerlinError):
    """Nobody signed the image, or nobody with this key."""

    code = "image_not_signed"
    kind = Kind.DENIED
    hint = "Sign it with: merlin image attest IMAGE --key KEY.pem"


@app.command
def sbom(
    image: str, /, *, form: Literal["spdx", "cyclonedx"] = "spdx", common: Common = DEFAULTS
) -> None:
    """Print an image's bill of materials, as JSON: its wheels and its Debian packages.

    Examples:

      merlin image sbom localhost:5000/demo/cancer:1
      merlin image sbom layout:./images:1 --form cyclonedx > bom.json

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    form
        SPDX 2.3 or CycloneDX 1.6.
    """
    _, materials = _materials(image, common)
    sys.stdout.write(f"{bill_of_materials(materials, form).decode()}\n")


@app.command
def attest(
    image: str,
    /,
    *,
    documents: list[Document] | None = None,
    key: Path | None = None,
    source: str = "",
    common: Common = DEFAULTS,
) -> None:
    """Attach documents to an image: bills of materials, provenance, signatures.

    They are put beside the image as its referrers; its digest stays. What is attached already is
    left as it is.

    Examples:

      merlin image attest registry.example.com/ml/fraud:7
      merlin image attest registry.example.com/ml/fraud:7 --key key.pem
      merlin image attest localhost:5000/demo/cancer:1 --documents cyclonedx

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    documents
        Which: spdx, cyclonedx, provenance, signature; by default spdx and provenance, and with a
        key signature too.
    key
        PEM file of an ECDSA P-256 key to sign with; its password, if it has one, is read from
        MERLIN_SIGNING_PASSWORD.
    source
        Where the model was read from, for the provenance.
    """
    signer = _signer(key) if key else None
    wanted: list[Document] = documents or ["spdx", "provenance"]
    if signer and not documents:
        wanted.append("signature")
    registry, materials = _materials(image, common)
    rows, document = [], []
    with common.progress() as progress:
        for each in attachments(materials, wanted, signer=signer, source=source):
            with step(progress, f"Attach {each.kind}"):
                found = attach(
                    registry, materials.image.reference, materials.image.descriptor, each
                )
            rows.append((each.kind, each.artifact_type, found.digest))
            document.append({"kind": each.kind, **found.to_dict()})
    common.tell(
        table(("DOCUMENT", "TYPE", "DIGEST"), rows),
        {"image": shown(image, materials.image.reference), "attached": document},
    )


@app.command
def verify(image: str, /, *, key: Path, common: Common = DEFAULTS) -> None:
    """Check that an image was signed with a key, and show what was signed about it.

    Examples:

      merlin image verify registry.example.com/ml/fraud:7 --key public.pem

    Parameters
    ----------
    image
        HOST/NAME[:TAG][@DIGEST], or layout:DIR[:TAG].
    key
        PEM file of the public key.
    """
    signing = _signing()
    public = signing.read_public_key(key)
    registry, reference = locate(image, common.open)
    with naming(image):
        stored = read_image(registry, reference)
    digest = stored.descriptor.digest
    found = []
    for descriptor in attached(registry, reference.at_digest(digest), artifact_type=BUNDLE):
        bundle = read_attachment(registry, reference, descriptor)
        try:
            said = signing.verified_statement(bundle, public, digest=digest)
        except signing.SignatureInvalid:
            continue
        found.append((str(said["predicateType"]), descriptor.digest))
    if not found:
        raise NotSigned(f"{image} is not signed with the key in {key}.")
    common.tell(
        f"Signed: {digest}\n{table(('STATEMENT', 'BUNDLE'), found)}",
        {
            "image": shown(image, reference),
            "digest": digest,
            "statements": [{"type": kind, "bundle": bundle} for kind, bundle in found],
        },
    )


def _materials(image: str, common: Common) -> tuple[ImageRegistry, Materials]:
    registry, reference = locate(image, common.open)
    with naming(image):
        stored = read_image(registry, reference)
    return registry, read_materials(registry, stored, ContentsReader(default_cache() / "contents"))


def _signer(key: Path) -> Signs:
    password = os.environ.get(_PASSWORD)
    signer: Signs = _signing().Signer.from_file(
        key, password=password.encode() if password else None
    )
    return signer


def _signing() -> ModuleType:
    try:
        return importlib.import_module("merlin_images.attestations.signing")
    except ImportError as error:
        raise SigningNotInstalled("Signatures need the cryptography library.") from error
