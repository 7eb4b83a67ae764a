"""An installation of Merlin keeps its configuration, and its images are built as it expects."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from merlin.artifacts.memory import MemoryStore
from merlin.progress import Silent
from merlin_images.builders.jobs.errors import BuildRefused
from merlin_images.builders.jobs.manifest import job_manifest
from merlin_images.registry.memory import MemoryRegistry
from merlin_images.registry.reference import parse_reference
from merlin_server.images.builders import job_options, open_builder
from merlin_server.images.metering import BuildMetrics
from merlin_server.merlin_names.table import KEYS, Unused
from merlin_server.settings import Settings
from merlin_server.settings_loading import SettingsInvalid, load_settings
from tests.fake_kubernetes import FakeCluster
from tests.fake_kubernetes.outcomes import Exits
from tests.image_jobs.images import asked, push
from tests.image_jobs.platforms import plan

DOCUMENT = Path(__file__).parents[4] / "docs" / "building-on-kubernetes.md"
FIXTURE = Path(__file__).parent / "merlin_installation"
AMAZON = {
    "AWS_ACCESS_KEY_ID": "canary-id",
    "AWS_SECRET_ACCESS_KEY": "canary-secret",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL": "https://s3.example.com",
}
MERLINS = {"server": "https://build.example.com:6443", "token": "canary-token"}


def load(
    folder: Path,
    *,
    kubernetes: Mapping[str, str] = MERLINS,
    builder: Mapping[str, Any] | None = None,
    ours: str = "",
    **environ: str,
) -> tuple[Settings, list[str]]:
    """Read the installation's files; ``builder`` are changes of ImageBuilderConfig, where ``None``
    takes a key out."""
    for file in FIXTURE.iterdir():
        text = file.read_text().replace("@FOLDER@", str(folder))
        for name, value in kubernetes.items():
            text = text.replace(f"@{name.upper()}@", value)
        (folder / file.name).write_text(text)
    merlin = yaml.safe_load((folder / "merlin.yaml").read_text())
    changed = {**merlin["ImageBuilderConfig"], **(builder or {})}
    merlin["ImageBuilderConfig"] = {k: v for k, v in changed.items() if v is not None}
    (folder / "merlin.yaml").write_text(yaml.safe_dump(merlin))
    (folder / "more.yaml").write_text(ours)
    told: list[str] = []
    files = [folder / name for name in ("merlin.yaml", "ours.yaml", "more.yaml")]
    options = {"data_dir": folder / "data"}
    variables = {**AMAZON, **environ}
    return load_settings(files, options, environ=variables, tell=told.append), told


def test_its_jobs_are_those_it_would_expect(tmp_path: Path) -> None:
    settings, told = load(tmp_path)
    images, jobs = settings.images, settings.images.jobs
    assert images.builder == "kaniko"
    assert (images.base, images.batch_base) == (
        "registry.example.com/merlin/pyfunc-base:3",
        "registry.example.com/merlin/batch-base:3",
    )
    assert jobs.environment == {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "https://s3.example.com",
    }
    job = job_manifest(plan(), job_options(settings, "kaniko"))
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    spec, template = job["spec"], job["spec"]["template"]
    assert job["metadata"]["namespace"] == "mlp-builds"
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (2, 1800)
    assert spec["ttlSecondsAfterFinished"] == 48 * 3600
    labels = template["metadata"]["labels"]
    assert labels["example.com/environment"] == "staging"
    assert labels["example.com/app"] == "fraud"
    pod = template["spec"]
    assert pod["serviceAccountName"] == "image-builder"
    assert pod["nodeSelector"] == {"node-pool": "builds"}
    assert pod["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "builds", "effect": "NoSchedule"},
        {"key": "slow", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
    ]
    build = next(step for step in pod["initContainers"] if step["name"] == "build")
    assert build["image"] == "registry.example.com/tools/kaniko:pinned"
    assert build["args"][-4:] == [
        "--cache=true",
        "--compressed-caching=false",
        "--snapshot-mode=redo",
        "--use-new-run",
    ]
    assert build["resources"] == {
        "requests": {"cpu": "1", "memory": "2Gi"},
        "limits": {"cpu": "2", "memory": "4Gi"},
    }
    [secret] = [v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v]
    assert secret == "registry-login"
    everything = f"{job}{told}{settings!r}"
    assert "canary" not in everything


def test_every_key_is_answered_with_its_better_form(tmp_path: Path) -> None:
    _, told = load(tmp_path)
    said = "\n".join(told)
    for words in (
        "KanikoImage asks for Kaniko, so images.builder is kaniko (native-job",
        "KanikoDockerCredentialSecretName is understood; here it is called images.jobs.registry_s",
        "K8sConfig is understood; here it is called images.jobs.cluster (a file is better",
        "KanikoAPIServerEnvVars names AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, which would stand",
        "BaseImage.BuildContextURI is not used: the build context is written from the model",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("builder", "ours", "registry_secret", "store_secret"),
    [
        ({"KanikoPushRegistryType": "gcr"}, "gs", "kaniko-secret", "kaniko-secret"),
        ({"KanikoPushRegistryType": "docker"}, "gs", "registry-login", "kaniko-secret"),
        ({"KanikoPushRegistryType": "gcr", "KanikoServiceAccount": "builder"}, "gs", "", ""),
        ({"KanikoPushRegistryType": "gcr", "KanikoServiceAccount": "builder"}, "s3", "", ""),
        ({"KanikoDockerCredentialSecretName": None}, "gs", "", "kaniko-secret"),
    ],
)
def test_secrets_follow_from_kinds_as_with_merlin(
    builder: dict[str, Any], ours: str, registry_secret: str, store_secret: str, tmp_path: Path
) -> None:
    google = builder.get("KanikoPushRegistryType") == "gcr"
    prefix = "europe-docker.pkg.dev/team/models" if google else "registry.example.com/models"
    changes = {
        "KanikoServiceAccount": None,
        "DockerRegistry": prefix,
        "KanikoAPIServerEnvVars": None,
        **builder,
    }
    kind = {"gs": "gcs", "s3": "s3"}[ours]
    settings, _ = load(
        tmp_path,
        builder=changes,
        ours=f"artifacts_url: {ours}://models/merlin",
        MLFLOWCONFIG_ARTIFACTSERVICETYPE=kind,
    )
    options = job_options(settings, "kaniko")
    secrets = (options.registry.secret, options.store.secret)
    assert [secret.name if secret else "" for secret in secrets] == [registry_secret, store_secret]
    assert (options.registry.type, options.store.type) == ("gcr" if google else "docker", kind)


def test_all_that_contradicts_itself_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(
            tmp_path,
            builder={
                "KanikoServiceAccount": None,
                "KanikoAdditionalArgs": ["--build-arg=AWS_SECRET_ACCESS_KEY=canary-argument"],
                "Tolerations": [{"Colour": "blue"}],
                "NodeSelectors": "builds",
            },
            ours="images: {jobs: {namespace: other, registry_secret: mine, kubeconfig: /nowhere,"
            " cluster: {cluster: {server: https://other}}}}",
        )
    for words in (
        "BuildNamespace says 'mlp-builds', and images.jobs.namespace says 'other'.",
        "says 'registry-login', and images.jobs.registry_secret says 'mine'.",
        "K8sConfig and images.jobs.cluster say different things.",
        "Tolerations: 'Colour' is no field of a toleration.",
        "NodeSelectors: it is not a section of keys and values; write it in a file.",
        "names AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, which would stand readable",
        "Kaniko's --build-arg AWS_SECRET_ACCESS_KEY would carry a secret",
        "images.jobs.cluster: it is given, and kubeconfig is given as well.",
        "images.jobs.kubeconfig: there is no /nowhere.",
    ):
        assert words in refused.value.message
    assert "canary" not in refused.value.message


def test_a_builder_that_is_chosen_stays(tmp_path: Path) -> None:
    settings, told = load(tmp_path, ours="images: {builder: native}")
    assert settings.images.builder == "native"
    assert any("images.builder says native" in message for message in told)
    settings, told = load(tmp_path, MERLIN_IMAGES__BUILDER="native-job")
    assert settings.images.builder == "native-job"
    assert not any("so images.builder is kaniko" in message for message in told)


@pytest.mark.parametrize(
    ("builder", "ours", "said"),
    [
        ({"KanikoImage": None}, "", "Builder kaniko needs an image"),
        ({}, "images: {jobs: {tools_image: ''}}", "tools_image names no image"),
        (
            {"DefaultResources": {"Requests": {"CPU": "3"}, "Limits": {"CPU": "2"}}},
            "",
            "requests 3 of cpu, which is more than its limit, 2",
        ),
        ({"DefaultResources": {"Requests": {"CPU": "lots"}}}, "", "'lots' is not an amount"),
        ({"K8sConfig": {"user": {"token": "canary"}}}, "", "no section cluster"),
    ],
)
def test_what_no_job_could_work_with_stops_the_start(
    builder: dict[str, Any], ours: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsInvalid, match=said) as refused:
        load(tmp_path, builder=builder, ours=ours)
    assert "canary" not in refused.value.message


def test_the_page_says_what_becomes_of_every_key() -> None:
    table = (
        DOCUMENT.read_text().partition("<!-- names -->")[2].partition("<!-- end of names -->")[0]
    )
    rows = [[cell.strip() for cell in row.split("|")[1:4]] for row in table.splitlines() if row]
    said = {names: setting.strip("`") for names, setting, _ in rows[2:]}
    expected = {}
    for name, known in KEYS.items():
        section, _, key = name.removesuffix(".*").partition(".")
        if section == "ImageBuilderConfig":
            expected[f"`{key}`"] = "none" if isinstance(known, Unused) else known.setting
    assert said == expected


def test_its_cluster_is_used(tmp_path: Path) -> None:
    """The cluster and user of K8sConfig, without a file of their own."""
    with FakeCluster(back_off_seconds=0) as fake, ExitStack() as closing, fake.acting():
        fake.create_namespace("mlp-builds")
        known = fake.kubeconfig()
        settings, _ = load(
            tmp_path,
            kubernetes={
                "server": known["clusters"][0]["cluster"]["server"],
                "token": known["users"][0]["user"]["token"],
            },
            builder={"MaximumRetry": 0, "KanikoDockerCredentialSecretName": None},
        )
        registry = MemoryRegistry()
        push(registry, parse_reference(settings.images.base), "base")
        fake.kubelet.play("fetch", Exits(65, log='{"error": "No model.", "code": "x"}\n'))
        builder = open_builder(
            settings,
            lambda _: registry,
            cache=tmp_path / "cache",
            locks=MemoryStore(),
            metrics=BuildMetrics(),
            closing=closing,
        )
        with pytest.raises(BuildRefused, match=r"The step fetch failed: No model\."):
            builder.build(asked(), Silent())
        assert fake.faults.seen.count(("create", "jobs")) == 1
