"""Bills of materials and provenance: complete, and the same whenever they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from merlin_images.attestations.bills import Form, bill_of_materials
from merlin_images.attestations.materials import Materials, read_materials
from merlin_images.attestations.provenance import provenance
from merlin_images.image.layer_contents import ContentsReader
from merlin_images.image.stored import StoredImage
from merlin_images.registry.memory import MemoryRegistry


def test_materials_are_what_is_installed(materials: Materials) -> None:
    assert "cloudpickle" in {wheel.name for wheel in materials.wheels}
    assert [package.name for package in materials.system] == ["libc6"], "what was removed is not"
    assert materials.release == "debian:12"


def test_spdx_describes_the_image_and_all_it_contains(materials: Materials) -> None:
    bill = json.loads(bill_of_materials(materials, "spdx"))
    packages = {package["name"]: package for package in bill["packages"]}
    [wheel] = [wheel for wheel in materials.wheels if wheel.name == "cloudpickle"]
    told = packages["cloudpickle"]
    assert told["checksums"] == [{"algorithm": "SHA256", "checksumValue": wheel.sha256}]
    assert told["externalRefs"][0]["referenceLocator"] == "pkg:pypi/cloudpickle@3.1.1"
    libc = packages["libc6"]["externalRefs"][0]["referenceLocator"]
    assert libc == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64"
    contained = {
        relation["relatedSpdxElement"]
        for relation in bill["relationships"]
        if relation["relationshipType"] == "CONTAINS"
    }
    identifiers = [package["SPDXID"] for package in bill["packages"]]
    assert len(set(identifiers)) == len(identifiers)
    assert contained == set(identifiers) - {"SPDXRef-image"}
    assert bill["creationInfo"]["created"] == "2026-01-01T00:00:00Z", "the image's own time"


def test_cyclonedx_lists_the_same(materials: Materials) -> None:
    bill = json.loads(bill_of_materials(materials, "cyclonedx"))
    spdx = json.loads(bill_of_materials(materials, "spdx"))
    listed = {(part["name"], part["version"]) for part in bill["components"]}
    assert listed == {(p["name"], p["versionInfo"]) for p in spdx["packages"][1:]}
    assert bill["dependencies"][0]["dependsOn"] == [part["bom-ref"] for part in bill["components"]]


def test_provenance_names_everything_the_image_came_from(materials: Materials) -> None:
    said = json.loads(provenance(materials, source="s3://models/7/model"))
    digest = materials.image.descriptor.digest.removeprefix("sha256:")
    assert said["subject"] == [{"name": "registry.test/team/fraud", "digest": {"sha256": digest}}]
    definition = said["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["model"] == {
        "name": "fraud",
        "type": "pyfunc",
        "version": "7",
        "source": "s3://models/7/model",
    }
    resolved = {each["name"]: each["digest"] for each in definition["resolvedDependencies"]}
    for wheel in materials.wheels:
        assert resolved[wheel.filename] == {"sha256": wheel.sha256}
    assert "base" in resolved


@pytest.mark.parametrize("form", ["spdx", "cyclonedx"])
def test_the_same_image_has_the_same_documents(
    registry: MemoryRegistry, image: StoredImage, tmp_path: Path, form: Form
) -> None:
    first, second = (
        read_materials(registry, image, ContentsReader(tmp_path / name)) for name in "ab"
    )
    assert bill_of_materials(first, form) == bill_of_materials(second, form)
    assert provenance(first) == provenance(second)
