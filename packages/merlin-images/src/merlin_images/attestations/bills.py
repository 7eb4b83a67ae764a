"""Bills of materials in both common forms, from the same materials: SPDX 2.3 and CycloneDX 1.6.

Nothing in them depends on when or where they were written: times are the image's, and identifiers
are derived from its digest. So the same image always gets the same bytes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Literal
from urllib.parse import quote

from merlin_images.attestations.materials import Materials, SystemPackage
from merlin_images.environments.model import LockedWheel
from merlin_images.image import annotation_keys
from merlin_images.image.manifest import canonical_json

Form = Literal["spdx", "cyclonedx"]

_TOOL = "merlin-images"
_NAMESPACE = uuid.UUID("6d65726c-696e-4d00-8000-73657276696e")
_NOTHING_SAID = "NOASSERTION"


def bill_of_materials(materials: Materials, form: Form) -> bytes:
    """Return the bill as canonical JSON."""
    write = {"spdx": _spdx, "cyclonedx": _cyclonedx}[form]
    return canonical_json(write(materials))


def _spdx(materials: Materials) -> dict[str, Any]:
    """See spdx.github.io/spdx-spec/v2.3."""
    image = materials.image
    name = str(image.reference.at_digest(image.descriptor.digest))
    root = {
        "SPDXID": "SPDXRef-image",
        "name": _title(materials),
        "versionInfo": image.manifest.annotations.get(annotation_keys.VERSION, ""),
        "downloadLocation": _NOTHING_SAID,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [_spdx_sum(image.descriptor.digest.removeprefix("sha256:"))],
    }
    packages = [
        *(_spdx_wheel(wheel) for wheel in materials.wheels),
        *(_spdx_system(package) for package in materials.system),
    ]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:uuid:{_identifier(materials, 'spdx')}",
        "creationInfo": {
            "created": _created(materials),
            "creators": [f"Tool: {_TOOL}-{version(_TOOL)}"],
        },
        "packages": [root, *packages],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image"),
            *(_relation("SPDXRef-image", "CONTAINS", package["SPDXID"]) for package in packages),
        ],
    }


def _spdx_wheel(wheel: LockedWheel) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-pypi-{_spdx_word(wheel.name)}",
        "name": wheel.name,
        "versionInfo": wheel.version,
        "packageFileName": wheel.filename,
        "downloadLocation": wheel.url or _NOTHING_SAID,
        "filesAnalyzed": False,
        "checksums": [_spdx_sum(wheel.sha256)],
        "externalRefs": [_spdx_purl(_wheel_purl(wheel))],
    }


def _spdx_system(package: SystemPackage) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-deb-{_spdx_word(f'{package.name}-{package.architecture}')}",
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": _NOTHING_SAID,
        "filesAnalyzed": False,
        "externalRefs": [_spdx_purl(_system_purl(package))],
    }


def _spdx_sum(sha256: str) -> dict[str, str]:
    return {"algorithm": "SHA256", "checksumValue": sha256}


def _spdx_purl(purl: str) -> dict[str, str]:
    return {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": purl,
    }


def _spdx_word(text: str) -> str:
    """Identifiers are of letters, digits, dots and dashes (3.2)."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"-x{ord(match[0]):x}-", text)


def _relation(element: str, kind: str, related: str) -> dict[str, str]:
    return {
        "spdxElementId": element,
        "relationshipType": kind,
        "relatedSpdxElement": related,
    }


def _cyclonedx(materials: Materials) -> dict[str, Any]:
    """See cyclonedx.org/docs/1.6/json."""
    image = materials.image
    components = list(_components(materials))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{_identifier(materials, 'cyclonedx')}",
        "version": 1,
        "metadata": {
            "timestamp": _created(materials),
            "tools": {
                "components": [{"type": "application", "name": _TOOL, "version": version(_TOOL)}]
            },
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": _title(materials),
                "version": image.manifest.annotations.get(annotation_keys.VERSION, ""),
                "hashes": [_hash(image.descriptor.digest.removeprefix("sha256:"))],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": "image", "dependsOn": [component["bom-ref"] for component in components]}
        ],
    }


def _components(materials: Materials) -> Iterator[dict[str, Any]]:
    for wheel in materials.wheels:
        purl = _wheel_purl(wheel)
        component = {
            "type": "library",
            "bom-ref": purl,
            "name": wheel.name,
            "version": wheel.version,
            "purl": purl,
            "hashes": [_hash(wheel.sha256)],
        }
        if wheel.url:
            component["externalReferences"] = [{"type": "distribution", "url": wheel.url}]
        yield component
    for package in materials.system:
        purl = _system_purl(package)
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": package.name,
            "version": package.version,
            "purl": purl,
        }


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}


def _wheel_purl(wheel: LockedWheel) -> str:
    """See the package-url specification, type ``pypi``."""
    return f"pkg:pypi/{wheel.name}@{quote(wheel.version, safe='.-_~')}"


def _system_purl(package: SystemPackage) -> str:
    version_text = quote(package.version, safe=".-_~:")
    name = quote(package.name, safe=".-_~")
    distribution = package.distribution or "debian"
    return f"pkg:deb/{distribution}/{name}@{version_text}?arch={package.architecture}"


def _title(materials: Materials) -> str:
    named = materials.image.manifest.annotations.get(annotation_keys.MODEL_NAME, "")
    return named or materials.image.reference.repository


def _created(materials: Materials) -> str:
    stated = materials.image.manifest.annotations.get(annotation_keys.CREATED, "")
    return stated or str(materials.image.config.get("created", ""))


def _identifier(materials: Materials, form: Form) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, f"{form}/{materials.image.descriptor.digest}")
