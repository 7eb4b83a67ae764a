"""Every combination of builder, registry, blob store and identity gives a Job that is accepted,
that can do its work, and that keeps credentials from the model's code.

``UPDATE_GOLDEN=1 pytest tests/image_jobs/test_matrix.py`` writes the golden files anew.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from merlin_images.builders.jobs.manifest import job_manifest
from tests.fake_kubernetes import FakeCluster
from tests.fake_kubernetes.api import Options
from tests.fake_kubernetes.resources import JOBS, Target
from tests.image_jobs.platforms import REGISTRIES, STORES, Platform, all_platforms, plan

Object = dict[str, Any]

GOLDEN = Path(__file__).parent / "golden"
PLATFORMS = list(all_platforms())
DOCUMENT = Path(__file__).parents[2] / "docs" / "building-on-kubernetes.md"
CREDENTIAL_VARIABLES = {
    "DOCKER_CONFIG",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AZURE_STORAGE_CONNECTION_STRING_FILE",
}

each_platform = pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: platform.name)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as running:
        running.create_namespace("mlp")
        yield running


def steps(job: Object) -> dict[str, Object]:
    spec = job["spec"]["template"]["spec"]
    return {each["name"]: each for each in [*spec["initContainers"], *spec["containers"]]}


def secrets_of(job: Object, step: Object) -> dict[str, str]:
    """The secrets a step can read, by the variable that leads to the file."""
    spec = job["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    found = {}
    for variable in step.get("env", ()):
        for mount in step["volumeMounts"]:
            source = volumes[mount["name"]].get("secret")
            inside = variable["value"].startswith(mount["mountPath"])
            if source and inside and variable["name"] in CREDENTIAL_VARIABLES:
                found[variable["name"]] = source["secretName"]
    return found


def without_credentials(job: Object) -> Object:
    """A Job as it is on every platform of one builder."""
    bare = copy.deepcopy(job)
    template = bare["spec"]["template"]
    spec = template["spec"]
    credentials = {v["name"] for v in spec["volumes"] if "secret" in v}
    spec["volumes"] = [v for v in spec["volumes"] if v["name"] not in credentials]
    spec.pop("serviceAccountName", None)
    template["metadata"]["labels"].pop("azure.workload.identity/use", None)
    for name in ("eks.amazonaws.com", "azure.workload.identity"):
        template["metadata"]["annotations"].pop(f"{name}/skip-containers", None)
    for step in steps(bare).values():
        step["volumeMounts"] = [m for m in step["volumeMounts"] if m["name"] not in credentials]
        kept = [e for e in step.pop("env", ()) if e["name"] not in CREDENTIAL_VARIABLES]
        if kept:
            step["env"] = kept
        for index, argument in enumerate(step.get("args") or step["command"]):
            if "MLFLOW_ARTIFACT_STORAGE_TYPE=" in argument:
                (step.get("args") or step["command"])[index] = argument.partition("TYPE=")[0]
    return bare


def golden(name: str, found: Any) -> Any:
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(yaml.safe_dump(found, sort_keys=True, width=100))
    return yaml.safe_load(path.read_text())


@each_platform
def test_the_job_is_valid_and_accepted(platform: Platform, cluster: FakeCluster) -> None:
    job = job_manifest(platform.plan(), platform.options())
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    made = cluster.api.create(
        Target(JOBS, "mlp"), json.dumps(job), Options("test", dry_run=True, strict=True)
    )
    assert made["metadata"]["name"] == job["metadata"]["name"]


@each_platform
def test_each_step_has_what_it_needs_and_no_more(platform: Platform) -> None:
    job = job_manifest(platform.plan(), platform.options())
    push, store = REGISTRIES[platform.registry][2], STORES[platform.store][2]
    found = {name: set(secrets_of(job, step).values()) for name, step in steps(job).items()}
    reads = {store.name} if store else set()
    if platform.identity:
        assert not any(found.values())
        assert job["spec"]["template"]["spec"]["serviceAccountName"] == "image-builder"
    elif platform.kind == "native":
        assert found == {"build": reads | {push.name}}
    else:
        # A base of another host is read with a Docker login, if that is what there is.
        base = {push.name} if push.name == "registry-login" else set()
        assert found == {"fetch": reads | base, "build": set(), "push": {push.name}}


@each_platform
def test_the_models_code_reaches_no_credentials(platform: Platform) -> None:
    job = job_manifest(
        platform.plan(),
        platform.options(token_audience="sts.example.com" if platform.identity else ""),
    )
    spec = job["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    if platform.kind == "native":
        return
    build = steps(job)["build"]
    assert [mount["name"] for mount in build["volumeMounts"]] == ["workspace"]
    assert {each["name"] for each in build.get("env", ())} <= {"BUILDKITD_FLAGS"}
    if platform.identity:
        annotations = job["spec"]["template"]["metadata"]["annotations"]
        assert annotations["eks.amazonaws.com/skip-containers"] == "build"
        assert annotations["azure.workload.identity/skip-containers"] == "build"


@pytest.mark.parametrize("kind", ["native", "kaniko", "buildkit"])
def test_jobs_of_one_builder_differ_in_credentials_only(kind: str) -> None:
    asked = plan(based=kind != "native")
    bare = [
        without_credentials(job_manifest(asked, platform.options()))
        for platform in PLATFORMS
        if platform.kind == kind
    ]
    expected = golden(kind, bare[0])
    for job in bare:
        assert job == expected


def test_the_credentials_of_all_steps() -> None:
    table = {}
    for platform in PLATFORMS:
        job = job_manifest(platform.plan(), platform.options())
        table[platform.name] = {name: secrets_of(job, step) for name, step in steps(job).items()}
    assert table == golden("credentials", table)


def test_volumes_have_names_of_their_own() -> None:
    """Merlin gave two volumes one name for docker, gcs and no service account (W16)."""
    platform = Platform("kaniko", "docker", "gcs", identity=False)
    spec = job_manifest(platform.plan(), platform.options())["spec"]["template"]["spec"]
    names = [volume["name"] for volume in spec["volumes"]]
    assert sorted(names) == ["registry-credentials", "store-credentials", "workspace"]


def matrix() -> str:
    """The table of the page for platform maintainers."""
    lines = [
        "| builder | registry | store | fetch | build | push |",
        "|---|---|---|---|---|---|",
    ]
    for platform in PLATFORMS:
        if platform.identity:
            continue
        job = job_manifest(platform.plan(), platform.options())
        found = {name: secrets_of(job, step) for name, step in steps(job).items()}
        cells = [_cell(found.get(name)) for name in ("fetch", "build", "push")]
        row = [platform.kind, platform.registry, platform.store, *cells]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _cell(secrets: dict[str, str] | None) -> str:
    if secrets is None:
        return "no such step"
    return ", ".join(f"`{variable}`" for variable in sorted(secrets)) or "nothing"


def test_the_page_for_maintainers_shows_the_matrix() -> None:
    before, begin, rest = DOCUMENT.read_text().partition("<!-- matrix -->\n")
    _, end, after = rest.partition("<!-- end of matrix -->")
    page = f"{before}{begin}\n{matrix()}\n\n{end}{after}"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        DOCUMENT.write_text(page)
    assert DOCUMENT.read_text() == page
