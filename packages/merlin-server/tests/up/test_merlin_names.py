"""Configuration written for Merlin is understood, and what contradicts itself is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from merlin_server.settings import Settings
from merlin_server.settings_loading import SettingsInvalid, load_settings


def load(tmp_path: Path, text: str, **environ: str) -> tuple[Settings, list[str]]:
    file = tmp_path / "merlin.yaml"
    file.write_text(text)
    told: list[str] = []
    return load_settings([file], {}, environ=environ, tell=told.append), told


def test_merlins_names_become_ours(tmp_path: Path) -> None:
    settings, told = load(
        tmp_path,
        "ImageBuilderConfig:\n"
        "  DockerRegistry: registry.example.com/ml\n"
        "  KanikoPushRegistryType: gcr\n"
        "  BuildTimeout: 1h30m\n"
        "  SupportedPythonVersions: [3.10.*, 3.11.*]\n"
        "  SafeToEvict: false\n"
        "mlflowconfig: {trackingurl: 'http://mlflow:5000', ArtifactServiceType: s3}\n"
        "artifacts_url: s3://models/platform\n",
    )
    assert (settings.registry.type, settings.registry.prefix) == (
        "docker",
        "registry.example.com/ml",
    )
    assert settings.images.build_timeout_seconds == 5400
    assert settings.images.python_versions == ["3.10", "3.11"]
    assert settings.tracking_url == "http://mlflow:5000"
    assert (
        "ImageBuilderConfig.DockerRegistry is understood; here it is called registry.prefix."
        in (told)
    )
    assert "ImageBuilderConfig.SafeToEvict has no counterpart here and is left out." in told


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings, _ = load(
        tmp_path,
        "ImageBuilderConfig: {DockerRegistry: from-file.example.com}\n",
        IMAGEBUILDERCONFIG_DOCKERREGISTRY="from-environment.example.com",
    )
    assert settings.registry.prefix == "from-environment.example.com"


def test_all_contradictions_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as raised:
        load(
            tmp_path,
            "ImageBuilderConfig: {DockerRegistry: one.example.com, BuildTimeout: soon}\n"
            "MlflowConfig: {ArtifactServiceType: gcs}\n"
            "registry: {prefix: two.example.com}\n"
            "artifacts_url: s3://models\n"
            "port: 70000\n"
            "no_such_key: 1\n",
        )
    for said in ("two.example.com", "'soon'", "ArtifactServiceType is gcs", "port:", "no_such_key"):
        assert said in raised.value.message
