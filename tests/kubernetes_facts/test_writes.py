"""Creating, changing and deleting."""

from __future__ import annotations

import httpx2
import pytest
from lightkube import ApiError, Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Pod, Secret
from lightkube.types import CascadeType, PatchType

from tests.kubernetes_facts.calls import (
    CONTAINER,
    Api,
    config_map,
    fields,
    job,
    refusal,
)


def test_a_job_may_be_tried_without_being_kept(api: Api) -> None:
    tried = api.call("POST", "jobs", job(), dryRun="All")
    assert tried.status_code == 201
    assert tried.json()["metadata"]["uid"]
    assert refusal(api.call("GET", "jobs/build")) == (404, "NotFound")
    assert refusal(api.call("POST", "jobs", job("A"), dryRun="All")) == (422, "Invalid")


def test_what_a_job_is_given(api: Api) -> None:
    made = api.call("POST", "jobs", job()).json()
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    spec, pod = made["spec"], made["spec"]["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 6)
    assert pod["containers"][0]["terminationMessagePolicy"] == "File"
    assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    labels = spec["template"]["metadata"]["labels"]
    assert labels["job-name"] == "build"
    assert labels["controller-uid"] == made["metadata"]["uid"]
    assert set(spec["selector"]["matchLabels"].values()) == {made["metadata"]["uid"]}


def test_a_name_is_taken_once(api: Api) -> None:
    assert api.call("POST", "configmaps", config_map()).status_code == 201
    again = api.call("POST", "configmaps", config_map())
    assert refusal(again) == (409, "AlreadyExists")
    assert again.json()["details"] == {"name": "settings", "kind": "configmaps"}


def test_names_are_generated(api: Api) -> None:
    body = {"metadata": {"generateName": "a-"}}
    names = {api.call("POST", "configmaps", body).json()["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("a-") and len(name) == 7 for name in names)
    assert refusal(api.call("POST", "configmaps", {"metadata": {}})) == (422, "Invalid")


def test_an_update_of_an_older_version_is_a_conflict(api: Api) -> None:
    first = api.call("POST", "configmaps", config_map()).json()
    second = api.call("PUT", "configmaps/settings", {**first, "data": {"a": "1"}})
    assert int(second.json()["metadata"]["resourceVersion"]) > int(
        first["metadata"]["resourceVersion"]
    )
    late = api.call("PUT", "configmaps/settings", {**first, "data": {"a": "2"}})
    assert refusal(late) == (409, "Conflict")
    unconditional = api.call("PUT", "configmaps/settings", config_map(data={"a": "3"}))
    assert unconditional.json()["data"] == {"a": "3"}
    assert unconditional.json()["metadata"]["uid"] == first["metadata"]["uid"]


def test_an_update_that_changes_nothing_writes_nothing(api: Api) -> None:
    first = api.call("POST", "configmaps", config_map(data={"a": "1"})).json()
    same = api.call("PUT", "configmaps/settings", first).json()
    assert same["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_the_status_has_a_way_of_its_own(api: Api) -> None:
    made = api.call("POST", "jobs", {**job(), "status": {"active": 7}}).json()
    assert "active" not in made["status"]
    made["status"] = {"active": 7}
    assert "active" not in api.call("PUT", "jobs/build", made).json()["status"]
    patch = {"status": {"active": 1}, "spec": {"backoffLimit": 1}}
    media = "application/merge-patch+json"
    changed = api.call("PATCH", "jobs/build/status", patch, content_type=media).json()
    assert changed["status"]["active"] == 1
    assert changed["spec"]["backoffLimit"] == 6


def test_merge_patches(api: Api) -> None:
    api.call("POST", "configmaps", config_map(data={"a": "1", "b": "2"}))
    media = "application/merge-patch+json"
    patch = {"data": {"a": None, "c": "3"}}
    patched = api.call("PATCH", "configmaps/settings", patch, content_type=media).json()
    assert patched["data"] == {"b": "2", "c": "3"}
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"d": "4"}}
    late = api.call("PATCH", "configmaps/settings", stale, content_type=media)
    assert refusal(late) == (409, "Conflict")


def test_strategic_patches_merge_lists_by_key(api: Api) -> None:
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [CONTAINER], "restartPolicy": "Never"}}
    api.call("POST", "pods", pod)
    patch = {"spec": {"containers": [{"name": "build", "image": "builder:2"}]}}
    media = "application/strategic-merge-patch+json"
    patched = api.call("PATCH", "pods/a", patch, content_type=media).json()
    assert [c["image"] for c in patched["spec"]["containers"]] == ["builder:2"]
    assert patched["spec"]["containers"][0]["terminationMessagePolicy"] == "File"


def test_json_patches(api: Api) -> None:
    api.call("POST", "configmaps", config_map(data={"a": "1"}))
    media = "application/json-patch+json"
    patch = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "remove", "path": "/data/a"}]
    done = api.call("PATCH", "configmaps/settings", patch, content_type=media)
    assert done.status_code == 200
    assert api.call("PATCH", "configmaps/settings", patch, content_type=media).status_code == 422


def test_deleting_answers_and_respects_preconditions(api: Api) -> None:
    made = api.call("POST", "configmaps", config_map()).json()
    wrong = {"preconditions": {"uid": "another"}}
    assert refusal(api.call("DELETE", "configmaps/settings", wrong)) == (409, "Conflict")
    assert api.call("DELETE", "configmaps/settings", dryRun="All").status_code == 200
    right = {"preconditions": {"uid": made["metadata"]["uid"]}}
    gone = api.call("DELETE", "configmaps/settings", right)
    assert gone.json()["status"] == "Success"
    assert gone.json()["details"]["uid"] == made["metadata"]["uid"]
    assert api.call("GET", "configmaps/settings").status_code == 404


def test_a_finalizer_holds_what_is_deleted(api: Api) -> None:
    api.call("POST", "configmaps", config_map(finalizers=["example.com/hold"]))
    held = api.call("DELETE", "configmaps/settings").json()
    assert held["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    media = "application/merge-patch+json"
    assert refusal(api.call("PATCH", "configmaps/settings", more, content_type=media)) == (
        422,
        "Invalid",
    )
    none = {"metadata": {"finalizers": None}}
    assert api.call("PATCH", "configmaps/settings", none, content_type=media).status_code == 200
    assert api.call("GET", "configmaps/settings").status_code == 404


@pytest.mark.parametrize(
    ("cascade", "finalizers"),
    [(None, ["orphan"]), (CascadeType.FOREGROUND, ["foregroundDeletion"])],
)
def test_how_a_job_is_deleted_is_kept_for_the_collector(
    api: Api, client: Client, namespace: str, cascade: CascadeType | None, finalizers: list[str]
) -> None:
    """Without a word, batch/v1 leaves the Pods of a Job behind."""
    # A finalizer of our own holds the Job, so that a collector at work cannot hide the fact.
    body = {**job(), "metadata": {"name": "build", "finalizers": ["example.com/hold"]}}
    api.call("POST", "jobs", body)
    client.delete(Job, "build", namespace=namespace, cascade=cascade)
    held = api.call("GET", "jobs/build").json()["metadata"]
    assert held["deletionTimestamp"]
    assert set(held["finalizers"]) >= {"example.com/hold"}
    assert set(held["finalizers"]) - {"example.com/hold"} <= set(finalizers)
    media = "application/merge-patch+json"
    api.call("PATCH", "jobs/build", {"metadata": {"finalizers": None}}, content_type=media)


def test_a_job_deleted_in_the_background_is_gone_at_once(
    api: Api, client: Client, namespace: str
) -> None:
    api.call("POST", "jobs", job())
    client.delete(Job, "build", namespace=namespace, cascade=CascadeType.BACKGROUND)
    assert api.call("GET", "jobs/build").status_code == 404


def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    for name in ("a", "b"):
        api.call("POST", "configmaps", config_map(name, labels={"app": name}))
    api.call("DELETE", "configmaps", labelSelector="app=a")
    assert api.call("GET", "configmaps/a").status_code == 404
    assert api.call("GET", "configmaps/b").status_code == 200


def test_secrets_are_encoded_and_can_be_made_immutable(
    api: Api, client: Client, namespace: str
) -> None:
    body = {"metadata": {"name": "a"}, "stringData": {"key": "value"}, "immutable": True}
    made = api.call("POST", "secrets", body).json()
    assert made["data"] == {"key": "dmFsdWU="}
    assert (made["type"], "stringData" in made) == ("Opaque", False)
    assert fields(api.call("PUT", "secrets/a", {**made, "data": {}})) == ["data"]
    assert client.get(Secret, "a", namespace=namespace).data == {"key": "dmFsdWU="}


def test_discovery(api: Api, client: Client, namespace: str) -> None:
    http: httpx2.Client = api._http
    assert http.get("/version").json()["major"] == "1"
    assert http.get("/api").json()["versions"] == ["v1"]
    groups = {group["name"] for group in http.get("/apis").json()["groups"]}
    assert {"batch", "apps"} <= groups
    kinds = {each["name"] for each in http.get("/apis/batch/v1").json()["resources"]}
    assert {"jobs", "jobs/status"} <= kinds
    assert http.get("/apis/no.such.group/v1/things").status_code == 404


def test_the_typed_client_understands(client: Client, namespace: str) -> None:
    made = client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace=namespace)))
    made.data = {"a": "1"}
    stale = made.metadata.resourceVersion if made.metadata else None
    client.replace(made)
    with pytest.raises(ApiError) as refused:
        client.replace(made)
    assert (refused.value.status.code, refused.value.status.reason) == (409, "Conflict")
    patch = {"data": {"b": "2"}}
    both = client.patch(ConfigMap, "a", patch, namespace=namespace, patch_type=PatchType.MERGE)
    assert both.data == {"a": "1", "b": "2"}
    watched = client.watch(ConfigMap, namespace=namespace, resource_version=stale)
    assert [next(iter(watched))[0] for _ in range(2)] == ["MODIFIED", "MODIFIED"]
    with pytest.raises(ApiError) as refused:
        client.get(Pod, "a", namespace=namespace)
    assert refused.value.status.code == 404
