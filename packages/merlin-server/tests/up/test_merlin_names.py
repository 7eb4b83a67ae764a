"""Configuration written for Merlin is understood, and what contradicts itself is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_origin

import pytest
import yaml

from merlin_server.merlin_names.table import ENVIRONMENT, KEYS, Mapped, Part, Unused
from merlin_server.settings import EnvironmentSettings, Settings
from merlin_server.settings_loading import SettingsInvalid, load_settings


def load(tmp_path: Path, text: str, **environ: str) -> tuple[Settings, list[str]]:
    file = tmp_path / "merlin.yaml"
    file.write_text(text)
    told: list[str] = []
    options = {"data_dir": tmp_path / "data"}
    return load_settings([file], options, environ=environ, tell=told.append), told


def test_merlins_names_become_ours(tmp_path: Path) -> None:
    settings, told = load(
        tmp_path,
        "ImageBuilderConfig:\n"
        "  DockerRegistry: europe-docker.pkg.dev/demo/models\n"
        "  KanikoPushRegistryType: gcr\n"
        "  KanikoDockerCredentialSecretName: docker-secret\n"
        "  BuildTimeout: 1h30m\n"
        "  SupportedPythonVersions: [3.10.*, 3.11.*]\n"
        "  SafeToEvict: false\n"
        "  BaseImage: {ImageName: registry.example.com/base:1, DockerfilePath: ./Dockerfile}\n"
        "  KanikoColour: blue\n"
        "mlflowconfig: {trackingurl: 'http://mlflow:5000', ArtifactServiceType: s3}\n"
        "AuthorizationConfig: {AuthorizationEnabled: true, Caching: {Enabled: true}}\n"
        "NumOfQueueWorkers: 7\n"
        "SwaggerPath: ./swagger.yaml\n"
        "artifacts_url: s3://models/platform\n",
    )
    assert settings.registry.type == "gcr"
    assert settings.registry.prefix == "europe-docker.pkg.dev/demo/models"
    assert settings.images.build_timeout_seconds == 5400
    assert settings.images.python_versions == ["3.10", "3.11"]
    assert settings.tracking_url == "http://mlflow:5000"
    assert (settings.auth.mode, settings.operations.workers) == ("token", 7)
    by_name = {message.partition(" is ")[0]: message for message in told}
    assert "called registry.prefix." in by_name["ImageBuilderConfig.DockerRegistry"]
    assert settings.images.builder == "native", "nothing asks for Kaniko"
    assert "a Google key" in by_name["ImageBuilderConfig.KanikoDockerCredentialSecretName"]
    assert "images.jobs.safe_to_evict" in by_name["ImageBuilderConfig.SafeToEvict"]
    assert "images.base" in by_name["ImageBuilderConfig.BaseImage.ImageName"]
    assert "config_map" in by_name["ImageBuilderConfig.BaseImage.DockerfilePath"]
    assert by_name["ImageBuilderConfig.KanikoColour"].endswith("that is known here.")
    assert "Keto" in by_name["AuthorizationConfig.Caching"]
    assert "/openapi.json" in by_name["SwaggerPath"]
    assert "artifacts_url tells it" in by_name["MlflowConfig.ArtifactServiceType"]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_every_key_of_merlins_is_understood_or_explained(name: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {}
    path = name.removesuffix(".*").split(".")
    place = given
    for section in path[:-1]:
        place = place.setdefault(section, {})
    together = name.endswith(".*") and not isinstance(KEYS[name], Mapped)
    place[path[-1]] = {"Key": 1} if together else "-"
    _, told = load(tmp_path, yaml.safe_dump(given))
    if not together:
        assert told == [], "a value of - is none"
        return
    assert len(told) == 1
    assert told[0].startswith(f"{name.removesuffix('.*')} is not used: ")


def test_every_mapping_leads_to_a_setting() -> None:
    for known in KEYS.values():
        if not isinstance(known, Mapped | Part):
            continue
        model: Any = Settings
        for part in known.setting.split("."):
            # What stands below a mapping is for the maintainer to name.
            if get_origin(model) is not dict:
                model = model.model_fields[part].annotation
    for field in ENVIRONMENT.values():
        assert isinstance(field, Unused) or field.setting in EnvironmentSettings.model_fields


def test_the_address_of_the_database_is_put_together(tmp_path: Path) -> None:
    settings, told = load(
        tmp_path,
        "DbConfig: {Host: db.example.com, User: merlin, Password: 'p@ss/word', MaxOpenConns: 5}",
        DBCONFIG_DATABASE="models",
    )
    assert settings.database_url == "postgresql://merlin:p%40ss%2Fword@db.example.com:5432/models"
    assert any("database_password_file" in message for message in told)
    with pytest.raises(SettingsInvalid, match=r"DbConfig\.Host is missing"):
        load(tmp_path, "DbConfig: {User: merlin}")


def test_the_file_of_environments_is_read(tmp_path: Path) -> None:
    (tmp_path / "environments.yaml").write_text(
        "- name: staging\n  cluster: gke-staging\n  is_default: true\n  deployment_timeout: 10m\n"
        "  max_cpu: 4\n  gpus: []\n"
        "  default_deployment_config: {min_replica: 1, max_replica: 2, cpu_request: 500m, "
        "memory_request: 1Gi}\n"
    )
    settings, told = load(
        tmp_path, f"ClusterConfig: {{EnvironmentConfigPath: {tmp_path}/environments.yaml}}"
    )
    [environment] = settings.environments
    assert (environment.name, environment.cluster, environment.max_cpu) == (
        "staging",
        "gke-staging",
        "4",
    )
    assert environment.deployment_timeout_seconds == 600
    assert environment.default_resource_request["max_replica"] == 2
    assert any("The field gpus" in message for message in told)
    with pytest.raises(SettingsInvalid, match="nowhere cannot be read"):
        load(tmp_path, "ClusterConfig: {EnvironmentConfigPath: /nowhere}")


def test_variables_are_merlins_only_where_they_can_be_nobody_elses(tmp_path: Path) -> None:
    settings, told = load(
        tmp_path,
        "",
        IMAGEBUILDERCONFIG_BUILDTIMEOUT="2m",
        FEATURETOGGLECONFIG_MONITORINGCONFIG_MONITORINGENABLED="true",
        IMAGEBUILDERCONFIG_KANIKOIMAGE="-",
        IMAGEBUILDERCONFIG_DEFAULTRESOURCES_REQUESTS_CPU="250m",
        PORT="99",
        ENVIRONMENT="staging",
        UI_COLOUR="blue",
    )
    assert settings.images.build_timeout_seconds == 120
    assert settings.port == 8080
    assert settings.images.jobs.requests["cpu"] == "250m"
    assert len(told) == 3


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings, _ = load(
        tmp_path,
        "ImageBuilderConfig: {DockerRegistry: from-file.example.com/a}\n",
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
