"""Manifests and configs: read with suspicion, written the same every time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merlin_images.environments.libc import Libc
from merlin_images.image.config import AddedLayer, Run, base_config, extend_config, parse_config
from merlin_images.image.errors import InvalidImage
from merlin_images.image.manifest import Manifest, choose_platform, parse_manifest
from merlin_images.image.platform import Platform, parse_platform
from merlin_images.registry.port import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    Descriptor,
)

DIGEST = "sha256:" + "ab" * 32
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def descriptor(media_type: str = OCI_CONFIG, **changes: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 3, **changes}


def test_a_docker_manifest_is_read_in_terms_of_oci() -> None:
    body = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(DOCKER_CONFIG),
        "layers": [descriptor(DOCKER_LAYER_GZIP)],
    }
    manifest = parse_manifest(json.dumps(body).encode())
    assert manifest.config.media_type == OCI_CONFIG
    assert manifest.layers[0].media_type == OCI_LAYER_GZIP
    assert parse_manifest(manifest.to_bytes()) == manifest


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b"[" * 100_000,
        b'{"schemaVersion": 1}',
        json.dumps({"schemaVersion": 2, "config": descriptor(), "layers": {}}).encode(),
        json.dumps({"schemaVersion": 2, "config": None, "layers": []}).encode(),
        json.dumps(
            {"schemaVersion": 2, "config": descriptor(digest="sha256:x"), "layers": []}
        ).encode(),
        json.dumps({"schemaVersion": 2, "config": descriptor(size=-1), "layers": []}).encode(),
        json.dumps({"schemaVersion": 2, "config": descriptor(size=True), "layers": []}).encode(),
    ],
)
def test_what_is_no_manifest_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidImage):
        parse_manifest(body)


# A busy machine is slow at drawing, and that is no failure.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["schemaVersion", "config", "layers", "digest", "size", "rootfs"])
                | st.text(),
                inner,
            )
        ),
    )
)
def test_no_json_breaks_the_readers(document: object) -> None:
    body = json.dumps(document).encode()
    for read in (parse_manifest, parse_config, lambda data: choose_platform(data, "amd64")):
        try:
            read(body)
        except InvalidImage:
            continue


def test_the_platform_is_chosen_by_system_and_machine() -> None:
    def index(*platforms: dict[str, str] | None) -> bytes:
        entries = [
            descriptor(size=number, **({"platform": platform} if platform else {}))
            for number, platform in enumerate(platforms)
        ]
        return json.dumps({"manifests": entries}).encode()

    windows = {"os": "windows", "architecture": "amd64"}
    arm, intel = ({"os": "linux", "architecture": name} for name in ("arm64", "amd64"))
    chosen = choose_platform(index(windows, arm, intel), "amd64")
    assert chosen is not None
    assert chosen.size == 2
    assert choose_platform(index(windows, arm), "amd64") is None
    assert choose_platform(index(None), "amd64") is not None
    assert choose_platform(index(None, None), "amd64") is None


def test_a_config_is_extended() -> None:
    base = json.loads(
        base_config(
            architecture="amd64",
            layers=[AddedLayer("sha256:base", "base")],
            environment={"PATH": "/bin", "PYTHONPATH": "/elsewhere", "KEPT": "a=b"},
            labels={"from": "base"},
            created=MOMENT,
        )
    )
    base["config"]["Cmd"] = ["sh"]
    base["history"].insert(0, {"empty_layer": True, "created_by": "ENV"})
    run = Run(["python"], {"PATH": "/opt:/bin"}, "65532:65532", "/opt/model", 8080, {"our": "own"})
    body = extend_config(base, [AddedLayer("sha256:model", "model")], run, created=MOMENT)
    config = json.loads(body)
    assert config["rootfs"]["diff_ids"] == ["sha256:base", "sha256:model"]
    assert config["config"]["Env"] == ["PATH=/opt:/bin", "KEPT=a=b"]
    assert config["config"]["Labels"] == {"from": "base", "our": "own"}
    assert "Cmd" not in config["config"]
    assert [bool(entry.get("empty_layer")) for entry in config["history"]] == [True, False, False]
    again = extend_config(
        base,
        [AddedLayer("sha256:model", "model")],
        run,
        created=MOMENT.astimezone(timezone(timedelta(hours=5))),
    )
    assert again == body, "the same moment has one spelling"


def test_a_base_whose_history_forgot_a_layer_gets_a_new_one() -> None:
    base = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"diff_ids": ["sha256:1", "sha256:2"]},
        "history": [{"created_by": "one"}],
    }
    run = Run(["x"], {}, "1", "/", 80)
    config = json.loads(extend_config(base, [AddedLayer("sha256:3", "m")], run, created=MOMENT))
    assert len(config["history"]) == 3


def test_the_manifest_is_the_same_bytes_whatever_the_order() -> None:
    config = Descriptor(OCI_CONFIG, DIGEST, 3)
    one = Manifest(config, (), {"a": "1", "b": "2"})
    two = Manifest(config, (), {"b": "2", "a": "1"})
    assert one.to_bytes() == two.to_bytes()


@pytest.mark.parametrize(
    ("triple", "expected"),
    [
        ("x86_64-manylinux_2_28", Platform("amd64", Libc("glibc", (2, 28)))),
        ("aarch64-manylinux_2_17", Platform("arm64", Libc("glibc", (2, 17)))),
        ("x86_64-manylinux2014", Platform("amd64", Libc("glibc", (2, 17)))),
        ("x86_64-unknown-linux-musl", Platform("amd64", Libc("musl", (1, 2)))),
        ("linux/amd64", Platform("amd64")),
        ("linux/arm64/v8", Platform("arm64")),
    ],
)
def test_platforms_are_read(triple: str, expected: Platform) -> None:
    assert parse_platform(triple) == expected
