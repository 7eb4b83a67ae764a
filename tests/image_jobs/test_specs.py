"""What a Job says beside its credentials: names, labels, limits, arguments, patches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merlin_images.builders.jobs.errors import JobOptionsInvalid
from merlin_images.builders.jobs.kaniko import check_arguments
from merlin_images.builders.jobs.manifest import check_options, job_manifest, quantity
from merlin_images.builders.jobs.names import build_key, job_labels, job_name
from merlin_images.builders.jobs.options import (
    JobOptions,
    RegistryAccess,
    SecretFile,
    StoreAccess,
)
from merlin_images.builders.jobs.patches import apply_patch
from merlin_images.builders.port import RunOptions
from merlin_images.registry.reference import parse_reference
from tests.fake_kubernetes import rules
from tests.image_jobs.platforms import BUILDERS, TOOLS, Platform, plan, request

KANIKO = Platform("kaniko", "docker", "s3", identity=False)
NATIVE = Platform("native", "docker", "s3", identity=False)


def steps(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    spec = job["spec"]["template"]["spec"]
    return {each["name"]: each for each in [*spec["initContainers"], *spec["containers"]]}


@given(project=st.text(max_size=80), model=st.text(max_size=80), version=st.text(max_size=80))
def test_a_name_is_readable_and_never_refused(project: str, model: str, version: str) -> None:
    asked = request(model_name=model, version=version, run=RunOptions(project=project))
    name = job_name(asked, build_key(asked, "7-a"))
    assert rules.DNS_LABEL.fullmatch(name)
    assert len(name) <= 63


def test_a_name_says_what_is_built() -> None:
    assert job_name(request(), "0123456789abcdef").startswith("risk-fraud-7-0123456789ab")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b-c"), ("a-b", "c")),
        (("batch-x", "m"), ("batch", "x-m")),
        (("a", "M"), ("a", "m")),
        (("p" * 50, "m" * 40), ("p" * 50, "m" * 41)),
    ],
)
def test_different_models_never_share_a_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    """As Merlin's did (W19). What differs is the repository, whatever the readable part says."""
    names = set()
    for project, model in (one, other):
        target = parse_reference(f"registry.example.com/{project}/x{len(model)}{model.lower()}:7")
        if model == "M":
            target = replace(target, repository=f"{target.repository}-upper")
        asked = request(target=str(target)[:-2], model_name=model, run=RunOptions(project=project))
        names.add(job_name(asked, build_key(asked, "7-a")))
    assert len(names) == 2


def test_labels_are_merlins_and_users_never_change_them() -> None:
    users = {
        "orchestrator": "mine",
        "gojek.com/orchestrator": "mine",
        "bad key!": "x",
        "cost": "bad value!",
        "batch.kubernetes.io/job-name": "x",
        "controller-uid": "x",
        "team.example.com/cost-centre": "42",
    }
    run = RunOptions(project="risk", team="cards", stream="payments", labels=users)
    labels = job_labels(request(run=run), KANIKO.options())
    assert labels == {
        "orchestrator": "mine",
        "team.example.com/cost-centre": "42",
        "gojek.com/app": "fraud",
        "gojek.com/component": "image-builder",
        "gojek.com/environment": "dev",
        "gojek.com/orchestrator": "merlin",
        "gojek.com/stream": "payments",
        "gojek.com/team": "cards",
        "merlin.caraml.dev/managed-by": "merlin-image-builder",
    }


def test_a_job_is_bounded_and_placed_as_configured() -> None:
    toleration = {"key": "builds", "operator": "Exists", "effect": "NoSchedule"}
    options = KANIKO.options(
        deadline_seconds=1200,
        retries=2,
        kept_seconds=3600,
        tolerations=[toleration],
        node_selector={"pool": "builds"},
        namespace="builds",
        label_prefix="example.com/",
    )
    job = job_manifest(plan(), options)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert job["metadata"]["namespace"] == "builds"
    assert job["metadata"]["labels"]["example.com/orchestrator"] == "merlin"
    assert spec["template"]["metadata"]["labels"] == job["metadata"]["labels"]
    assert (spec["completions"], spec["backoffLimit"]) == (1, 2)
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (1200, 3600)
    assert pod["restartPolicy"] == "Never"
    assert (pod["tolerations"], pod["nodeSelector"]) == ([toleration], {"pool": "builds"})
    safe = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    assert spec["template"]["metadata"]["annotations"][safe] == "false"
    calm = job_manifest(plan(), replace(options, safe_to_evict=True))
    assert safe not in calm["metadata"]["annotations"]


def test_a_request_may_ask_for_resources_and_retries() -> None:
    run = RunOptions(project="risk", cpu="3", retries=0)
    job = job_manifest(plan(run=run), KANIKO.options())
    for step in steps(job).values():
        assert step["resources"]["requests"] == {"cpu": "3", "memory": "1Gi"}
        assert step["resources"]["limits"] == {"cpu": "3", "memory": "4Gi"}
    assert job["spec"]["backoffLimit"] == 0


def test_a_request_may_not_ask_for_more_than_there_is() -> None:
    options = KANIKO.options(largest={"memory": "8Gi"})
    with pytest.raises(JobOptionsInvalid, match="8Gi of memory at most, not 9000Mi"):
        job_manifest(plan(run=RunOptions(memory="9000Mi")), options)
    assert job_manifest(plan(run=RunOptions(memory="8Gi")), options)


@pytest.mark.parametrize("text", ["", "x", "1Qi", "Gi", "1 Gi"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(JobOptionsInvalid, match="is not an amount"):
        quantity(text)


def test_a_failure_that_repeats_is_not_tried_again_and_a_lost_node_costs_nothing() -> None:
    policy = job_manifest(plan(), KANIKO.options())["spec"]["podFailurePolicy"]["rules"]
    assert policy[0]["action"] == "Ignore"
    assert policy[1]["onExitCodes"]["values"] == [137]
    assert {rule["onExitCodes"]["containerName"] for rule in policy[2:]} == {"fetch", "push"}


def test_the_content_tag_is_pushed_last() -> None:
    for platform in (KANIKO, NATIVE):
        job = job_manifest(plan(based=platform is KANIKO), platform.options())
        command = [*steps(job).values()][-1]["command"]
        pushed = [command[i + 1] for i, word in enumerate(command) if word == "--to"]
        assert [name.rpartition(":")[2] for name in pushed] == ["7", "7-0123456789ab"]
        assert command[command.index("--digest-file") + 1] == "/dev/termination-log"


def test_private_registries() -> None:
    access = RegistryAccess("docker", SecretFile("login"), insecure=True, ca_config_map="our-ca")
    found = steps(job_manifest(plan(), KANIKO.options(registry=access)))
    for name in ("fetch", "push"):
        command = found[name]["command"]
        assert "--insecure" in command
        assert command[command.index("--ca-file") + 1] == "/etc/merlin/registry-ca/ca.crt"
        assert "registry-ca" in {mount["name"] for mount in found[name]["volumeMounts"]}
    assert "registry-ca" not in {mount["name"] for mount in found["build"]["volumeMounts"]}


def test_a_docker_login_is_found_whatever_its_key_is() -> None:
    secret = SecretFile("pull", ".dockerconfigjson")
    job = job_manifest(plan(), KANIKO.options(registry=RegistryAccess("docker", secret)))
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    items = volumes["registry-credentials"]["secret"]["items"]
    assert items == [{"key": ".dockerconfigjson", "path": "config.json"}]


def test_a_package_index_and_its_credentials() -> None:
    """Where the model's code runs there is the address, and no credentials."""
    asked = {
        "index_url": "https://pypi.example.com/simple",
        "netrc": SecretFile("index-login"),
        "locks_url": "s3://models/merlin",
    }
    job = job_manifest(plan(based=False), NATIVE.options(**asked))
    build = steps(job)["build"]
    command = build["command"]
    assert command[command.index("--index-url") + 1] == "https://pypi.example.com/simple"
    assert command[command.index("--locks") + 1] == "s3://models/merlin"
    assert {"name": "NETRC", "value": "/etc/merlin/index-credentials/netrc"} in build["env"]
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["index-credentials"]["secret"]["secretName"] == "index-login"
    job = job_manifest(plan(), KANIKO.options(**asked))
    fetch = steps(job)["fetch"]["command"]
    assert fetch[fetch.index("--index-url") + 1] == "https://pypi.example.com/simple"
    assert "index-login" not in str(job)
    assert "--locks" not in str(job)


def test_a_token_is_projected_into_our_own_steps_only() -> None:
    platform = Platform("kaniko", "gcr", "gcs", identity=True)
    found = steps(job_manifest(plan(), platform.options(token_audience="//iam.example.com/pool")))
    for name in ("fetch", "push"):
        assert "identity" in {mount["name"] for mount in found[name]["volumeMounts"]}
    assert "identity" not in {mount["name"] for mount in found["build"]["volumeMounts"]}


def test_an_organisations_own_dockerfile() -> None:
    options = KANIKO.options(dockerfile_config_map="our-dockerfile", build_args={"TEAM": "cards"})
    found = steps(job_manifest(plan(), options))
    command = found["fetch"]["command"]
    assert command[command.index("--dockerfile") + 1] == "/etc/merlin/dockerfile/Dockerfile"
    assert command[command.index("--build-arg") + 1] == "TEAM=cards"
    assert "--build-arg=TEAM=cards" in found["build"]["args"]


def test_kaniko_is_given_what_merlin_gave_it_and_pushes_nothing() -> None:
    arguments = ["--snapshot-mode=redo", "--use-new-run", "--compressed-caching=false"]
    build = steps(job_manifest(plan(), KANIKO.options(kaniko_arguments=arguments)))["build"]
    base = f"registry.example.com/merlin/base@sha256:{'b' * 64}"
    assert f"--build-arg=BASE_IMAGE={base}" in build["args"]
    assert {"--no-push", "--no-push-cache", *arguments} <= set(build["args"])
    assert not any(argument.startswith("--destination") for argument in build["args"])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--cache-repo=registry.example.com/cache"], "--cache-repo"),
        (["--destination", "registry.example.com/x"], "--destination"),
        (["-d=registry.example.com/x"], "-d"),
        (["--build-arg=AWS_SECRET_ACCESS_KEY=canary"], "--build-arg AWS_SECRET_ACCESS_KEY"),
        (["--build-arg", "NPM_TOKEN=canary"], "--build-arg NPM_TOKEN"),
        (["--build-arg=INDEX=https://user:canary@index/simple"], "--build-arg INDEX"),
        (["--registry-client-cert=host=canary"], "--registry-client-cert"),
        (["--secret=id=canary"], "--secret"),
        (["--context=dir:///canary"], "--context"),
        (["--no-push=false"], "--no-push"),
    ],
)
def test_kaniko_arguments_that_push_or_carry_secrets_are_refused(
    arguments: list[str], named: str
) -> None:
    with pytest.raises(JobOptionsInvalid) as refused:
        check_options(KANIKO.options(kaniko_arguments=arguments))
    assert f"{named} " in str(refused.value)
    assert "canary" not in str(refused.value)


def test_other_kaniko_arguments_are_taken() -> None:
    check_arguments(["--cache=true", "--snapshot-mode=redo", "--build-arg=TEAM=cards", "-v=debug"])


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "canary"}, True),
        ({"AZURE_STORAGE_CONNECTION_STRING": "canary"}, True),
        ({"HTTPS_PROXY": "http://user:canary@proxy:3128"}, True),
        ({"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "https://s3.example.com"}, False),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/etc/merlin/identity/token"}, False),
        ({"HTTPS_PROXY": "http://proxy:3128"}, False),
    ],
)
def test_the_environment_carries_no_secrets(environment: dict[str, str], refused: bool) -> None:
    options = KANIKO.options(environment=environment)
    if not refused:
        check_options(options)
        return
    with pytest.raises(JobOptionsInvalid) as error:
        check_options(options)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (JobOptions(tools_image="", kind="native"), "tools_image"),
        (JobOptions(tools_image=TOOLS, kind="kaniko"), "Builder kaniko needs an image"),
        (JobOptions(tools_image=TOOLS, kind="buildkit"), "Builder buildkit needs an image"),
        (JobOptions(tools_image=TOOLS, token_audience="x"), "service_account"),
        (JobOptions(tools_image=TOOLS, build_args={"API_TOKEN": "canary"}), "API_TOKEN"),
        (
            JobOptions(
                tools_image=TOOLS,
                registry=RegistryAccess("gcr", SecretFile("one")),
                store=StoreAccess("gcs", SecretFile("other")),
            ),
            "other and one are two secrets of one kind",
        ),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(options: JobOptions, said: str) -> None:
    with pytest.raises(JobOptionsInvalid, match=said) as refused:
        check_options(options)
    assert refused.value.hint
    assert "canary" not in str(refused.value)


def test_two_secrets_of_one_kind_are_kept_apart_where_two_steps_use_them() -> None:
    options = JobOptions(
        tools_image=TOOLS,
        kind="kaniko",
        builder_image=BUILDERS["kaniko"],
        registry=RegistryAccess("gcr", SecretFile("writer")),
        store=StoreAccess("gcs", SecretFile("reader")),
    )
    check_options(options)
    spec = job_manifest(plan("europe-docker.pkg.dev/team/ml/x"), options)["spec"]["template"]
    named = {v["name"]: v["secret"]["secretName"] for v in spec["spec"]["volumes"] if "secret" in v}
    assert named == {"store-credentials": "reader", "registry-credentials": "writer"}


def test_buildkit_runs_rootless_or_privileged() -> None:
    platform = Platform("buildkit", "docker", "s3", identity=False)
    rootless = steps(job_manifest(plan(), platform.options()))["build"]
    assert rootless["securityContext"]["runAsUser"] == 1000
    privileged = steps(job_manifest(plan(), platform.options(buildkit_mode="privileged")))["build"]
    assert privileged["securityContext"] == {"privileged": True}
    assert f"--opt=context:base=oci-layout://base@sha256:{'b' * 64}" in rootless["command"]
    assert "--opt=build-arg:BASE_IMAGE=base" in rootless["command"]


def test_a_maintainer_patches_the_pod_template() -> None:
    patch = {
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "priorityClassName": "builds",
            "automountServiceAccountToken": None,
            "initContainers": [{"name": "build", "env": [{"name": "HTTPS_PROXY", "value": "p"}]}],
            "volumes": [{"name": "workspace", "emptyDir": {"sizeLimit": "20Gi"}}],
        },
    }
    template = job_manifest(plan(), KANIKO.options(pod_template=patch))["spec"]["template"]
    assert template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert template["metadata"]["labels"]["gojek.com/app"] == "fraud"
    spec = template["spec"]
    assert spec["priorityClassName"] == "builds"
    assert "automountServiceAccountToken" not in spec
    build = next(c for c in spec["initContainers"] if c["name"] == "build")
    assert build["env"] == [{"name": "HTTPS_PROXY", "value": "p"}]
    assert build["image"] == BUILDERS["kaniko"]
    assert next(v for v in spec["volumes"] if v["name"] == "workspace") == {
        "name": "workspace",
        "emptyDir": {"sizeLimit": "20Gi"},
    }


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}, {"a": {"c": 2}}),
        ({"args": ["x", "y"]}, {"args": ["z"]}, {"args": ["z"]}),
        (
            {"volumes": [{"name": "a"}, {"name": "b"}]},
            {"volumes": [{"name": "a", "$patch": "delete"}, {"name": "c"}]},
            {"volumes": [{"name": "b"}, {"name": "c"}]},
        ),
        (
            {"volumeMounts": [{"mountPath": "/a", "name": "x"}]},
            {"volumeMounts": [{"mountPath": "/a", "readOnly": True}]},
            {"volumeMounts": [{"mountPath": "/a", "name": "x", "readOnly": True}]},
        ),
        ({}, {"new": {"deep": {"er": 1}}}, {"new": {"deep": {"er": 1}}}),
    ],
)
def test_strategic_merge(
    target: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = repr(target)
    assert apply_patch(target, patch) == expected
    assert repr(target) == before


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"volumes": [{"emptyDir": {}}]}, "pod_template.volumes has no name"),
        ({"volumes": {"name": "a"}}, "pod_template.volumes is not a map"),
        ({"volumes": ["a"]}, "pod_template.volumes has no name"),
    ],
)
def test_patches_that_make_no_sense(patch: dict[str, Any], said: str) -> None:
    with pytest.raises(JobOptionsInvalid, match=said):
        apply_patch({"volumes": [{"name": "a"}]}, patch)
