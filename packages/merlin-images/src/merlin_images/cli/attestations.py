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
from merlin_images.attestations.materials import read_materials
from merlin_images.cli.common import DEFAULTS, Common, app, default_cache, naming, read_one, shown
from merlin_images.image.index import read_images
from merlin_images.image.layer_contents import ContentsReader
from merlin_images.image.locations import locate

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
    image: str,
    /,
    *,
    form: Literal["spdx", "cyclonedx"] = "spdx",
    platform: str = "",
    common: Common = DEFAULTS,
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
    platform
        Which image of an index; by default linux/amd64, or else its first.
    """
    registry, stored = read_one(image, common, platform=platform)
    materials = read_materials(registry, stored, _contents())
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
    left as it is. Of an index every image gets its own.

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
    registry, reference = locate(image, common.open)
    with naming(image):
        images = read_images(registry, reference).images
    rows, document = [], []
    with common.progress() as progress:
        for platform, stored in images.items():
            materials = read_materials(registry, stored, _contents())
            for each in attachments(materials, wanted, signer=signer, source=source):
                with step(progress, f"Attach {each.kind} for {platform}"):
                    found = attach(registry, stored.reference, stored.descriptor, each)
                rows.append((each.kind, platform, each.artifact_type, found.digest))
                document.append({"platform": platform, "kind": each.kind, **found.to_dict()})
    common.tell(
        table(("DOCUMENT", "PLATFORM", "TYPE", "DIGEST"), rows),
        {"image": shown(image, reference), "attached": document},
    )


@app.command
def verify(image: str, /, *, key: Path, common: Common = DEFAULTS) -> None:
    """Check that an image was signed with a key, and show what was signed about it.

    Of an index every image must be.

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
        named = read_images(registry, reference)
    found = []
    for platform, stored in named.images.items():
        digest = stored.descriptor.digest
        signed = []
        for descriptor in attached(registry, reference.at_digest(digest), artifact_type=BUNDLE):
            bundle = read_attachment(registry, reference, descriptor)
            try:
                said = signing.verified_statement(bundle, public, digest=digest)
            except signing.SignatureInvalid:
                continue
            signed.append((platform, str(said["predicateType"]), descriptor.digest))
        if not signed:
            which = image if named.index is None else f"{image} for {platform}"
            raise NotSigned(f"{which} is not signed with the key in {key}.")
        found += signed
    digest = named.descriptor.digest
    common.tell(
        f"Signed: {digest}\n{table(('PLATFORM', 'STATEMENT', 'BUNDLE'), found)}",
        {
            "image": shown(image, reference),
            "digest": digest,
            "statements": [
                {"platform": platform, "type": kind, "bundle": bundle}
                for platform, kind, bundle in found
            ],
        },
    )


def _contents() -> ContentsReader:
    return ContentsReader(default_cache() / "contents")


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
