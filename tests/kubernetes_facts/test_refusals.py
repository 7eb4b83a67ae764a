"""What is refused, and how the refusal names the culprit."""

from __future__ import annotations

from typing import Any

import pytest
from lightkube import Client

from tests.kubernetes_facts.calls import (
    CONTAINER,
    Api,
    Object,
    config_map,
    fields,
    job,
    refusal,
)

REFUSED: list[tuple[str, Object, str]] = [
    ("a name with capitals", job("Build"), "metadata.name"),
    ("a name with an underscore", job("a_b"), "metadata.name"),
    ("no containers", job(containers=[]), "spec.template.spec.containers"),
    ("a restart policy", job(restartPolicy="Always"), "spec.template.spec.restartPolicy"),
    (
        "no image",
        job(containers=[{"name": "build"}]),
        "spec.template.spec.containers[0].image",
    ),
    (
        "two containers of one name",
        job(containers=[CONTAINER, CONTAINER]),
        "spec.template.spec.containers[1].name",
    ),
    (
        "two volumes of one name",
        job(volumes=[{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]),
        "spec.template.spec.volumes[1].name",
    ),
    (
        "a mount of no volume",
        job(containers=[{**CONTAINER, "volumeMounts": [{"name": "a", "mountPath": "/a"}]}]),
        "spec.template.spec.containers[0].volumeMounts[0].name",
    ),
    (
        "two mounts at one path",
        job(
            volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}],
            containers=[
                {
                    **CONTAINER,
                    "volumeMounts": [
                        {"name": "a", "mountPath": "/a"},
                        {"name": "b", "mountPath": "/a"},
                    ],
                }
            ],
        ),
        "spec.template.spec.containers[0].volumeMounts[1].mountPath",
    ),
    (
        "a volume of two kinds",
        job(volumes=[{"name": "a", "emptyDir": {}, "secret": {"secretName": "b"}}]),
        "spec.template.spec.volumes[0].secret",
    ),
    (
        "requests over limits",
        job(
            containers=[
                {**CONTAINER, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "500m"}}}
            ]
        ),
        "spec.template.spec.containers[0].resources.requests",
    ),
    (
        "an environment variable's name",
        job(containers=[{**CONTAINER, "env": [{"name": "A=B", "value": "1"}]}]),
        "spec.template.spec.containers[0].env[0].name",
    ),
    (
        "a pull policy",
        job(containers=[{**CONTAINER, "imagePullPolicy": "Sometimes"}]),
        "spec.template.spec.containers[0].imagePullPolicy",
    ),
    (
        "a policy of termination messages",
        job(containers=[{**CONTAINER, "terminationMessagePolicy": "Logs"}]),
        "spec.template.spec.containers[0].terminationMessagePolicy",
    ),
    (
        "a port",
        job(containers=[{**CONTAINER, "ports": [{"containerPort": 70000}]}]),
        "spec.template.spec.containers[0].ports[0].containerPort",
    ),
    (
        "a resource that no node has",
        job(containers=[{**CONTAINER, "resources": {"limits": {"ram": "1"}}}]),
        "spec.template.spec.containers[0].resources.limits[ram]",
    ),
    (
        "a toleration of all keys but not their values",
        job(tolerations=[{"operator": "Equal"}]),
        "spec.template.spec.tolerations[0].operator",
    ),
    (
        "the name of a service account",
        job(serviceAccountName="A_B"),
        "spec.template.spec.serviceAccountName",
    ),
    (
        "the mode of a secret's files",
        job(volumes=[{"name": "a", "secret": {"secretName": "b", "defaultMode": 4096}}]),
        "spec.template.spec.volumes[0].secret.defaultMode",
    ),
    (
        "a selector of one's own",
        {**job(), "spec": {**job()["spec"], "selector": {"matchLabels": {"a": "b"}}}},
        "spec.selector",
    ),
    (
        "a finalizer without a domain",
        {**job(), "metadata": {"name": "build", "finalizers": ["hold"]}},
        "metadata.finalizers[0]",
    ),
    (
        "a label's value",
        {**job(), "metadata": {"name": "build", "labels": {"a": "x" * 64}}},
        "metadata.labels",
    ),
    (
        "a label's key",
        {**job(), "metadata": {"name": "build", "labels": {"a b": "x"}}},
        "metadata.labels",
    ),
    (
        "an annotation's key",
        {**job(), "metadata": {"name": "build", "annotations": {"a b": "x"}}},
        "metadata.annotations",
    ),
    (
        "a negative deadline",
        {**job(), "spec": {**job()["spec"], "activeDeadlineSeconds": -1}},
        "spec.activeDeadlineSeconds",
    ),
    (
        "a negative back-off limit",
        {**job(), "spec": {**job()["spec"], "backoffLimit": -1}},
        "spec.backoffLimit",
    ),
]


@pytest.mark.parametrize(
    ("body", "field"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED]
)
def test_a_job_that_cannot_work_is_refused_with_the_field(
    api: Api, body: Object, field: str
) -> None:
    assert field in fields(api.call("POST", "jobs", body))


def test_a_negative_time_to_live_is_refused(api: Api) -> None:
    if api.version() < 21:
        pytest.skip("Jobs have a time to live since Kubernetes 1.21")
    body = {**job(), "spec": {**job()["spec"], "ttlSecondsAfterFinished": -1}}
    assert fields(api.call("POST", "jobs", body)) == ["spec.ttlSecondsAfterFinished"]


def test_what_cannot_be_decoded_is_a_bad_request(api: Api) -> None:
    wrong: list[Any] = [
        "{",
        {**job(), "kind": "Secret", "apiVersion": "v1"},
        {**job(), "spec": {**job()["spec"], "backoffLimit": "three"}},
        {**job(), "metadata": {"name": "build", "labels": {"a": 1}}},
    ]
    for body in wrong:
        assert refusal(api.call("POST", "jobs", body)) == (400, "BadRequest")


def test_unknown_fields_are_dropped_unless_asked_about(api: Api) -> None:
    body = config_map()
    body["dat"] = {}
    assert "dat" not in api.call("POST", "configmaps", body).json()
    if api.version() < 25:
        pytest.skip("strict validation of fields needs Kubernetes 1.25")
    strict = api.call("POST", "configmaps", body, fieldValidation="Strict")
    assert refusal(strict) == (400, "BadRequest")
    assert 'unknown field "dat"' in strict.json()["message"]
    twice = '{"metadata": {"name": "a"}, "data": {"a": "1", "a": "2"}}'
    double = api.call("POST", "configmaps", twice, fieldValidation="Strict")
    assert refusal(double) == (400, "BadRequest")
    assert "duplicate field" in double.json()["message"]


def test_the_name_in_the_path_counts(api: Api) -> None:
    api.call("POST", "configmaps", config_map())
    assert refusal(api.call("PUT", "configmaps/settings", config_map("other"))) == (
        400,
        "BadRequest",
    )


def test_what_is_absent_is_not_found(api: Api, client: Client) -> None:
    absent = api.call("GET", "jobs/build")
    assert refusal(absent) == (404, "NotFound")
    assert absent.json()["details"] == {"name": "build", "group": "batch", "kind": "jobs"}
    assert absent.json()["message"] == 'jobs.batch "build" not found'
    assert api.call("DELETE", "jobs/build").status_code == 404
    elsewhere = Api(client, "no-such-namespace")
    assert refusal(elsewhere.call("POST", "jobs", job())) == (404, "NotFound")
    assert elsewhere.call("GET", "jobs").json()["items"] == []


def test_secrets_that_cannot_be_used_are_refused(api: Api) -> None:
    body = {"metadata": {"name": "a"}, "data": {"key": "not base64"}}
    assert refusal(api.call("POST", "secrets", body)) == (400, "BadRequest")
    kind = {"metadata": {"name": "a"}, "type": "kubernetes.io/dockerconfigjson"}
    assert fields(api.call("POST", "secrets", kind)) == ["data[.dockerconfigjson]"]


def test_unreadable_quantities_policies_and_patches(api: Api) -> None:
    resources = {"limits": {"cpu": "many"}}
    body = job(containers=[{**CONTAINER, "resources": resources}])
    assert refusal(api.call("POST", "jobs", body)) == (400, "BadRequest")
    api.call("POST", "jobs", job())
    policy = api.call("DELETE", "jobs/build", propagationPolicy="Never")
    assert fields(policy) == ["propagationPolicy"]
    media = "application/merge-patch+json"
    patch = {"spec": {"backoffLimit": "three"}}
    assert fields(api.call("PATCH", "jobs/build", patch, content_type=media)) == ["patch"]


def test_the_template_of_a_job_is_fixed(api: Api) -> None:
    made = api.call("POST", "jobs", job()).json()
    made["spec"]["template"]["spec"]["containers"][0]["image"] = "builder:2"
    assert fields(api.call("PUT", "jobs/build", made)) == ["spec.template"]
    patch = {"spec": {"backoffLimit": 1}}
    media = "application/merge-patch+json"
    changed = api.call("PATCH", "jobs/build", patch, content_type=media).json()
    assert changed["spec"]["backoffLimit"] == 1
    if api.version() >= 24:
        assert (made["metadata"]["generation"], changed["metadata"]["generation"]) == (1, 2)
