"""Server-side apply: who owns what."""

from __future__ import annotations

from tests.kubernetes_facts.calls import (
    CONTAINER,
    Api,
    apply,
    config_map,
    fields,
    job,
    refusal,
)


def test_apply_creates_then_changes_then_writes_nothing(api: Api) -> None:
    made = apply(api, "one", config_map(data={"a": "1"}))
    assert made.status_code == 201
    same = apply(api, "one", config_map(data={"a": "1"}))
    assert same.status_code == 200
    version = made.json()["metadata"]["resourceVersion"]
    assert same.json()["metadata"]["resourceVersion"] == version
    changed = apply(api, "one", config_map(data={"b": "2"})).json()
    assert changed["data"] == {"b": "2"}


def test_apply_keeps_to_its_own_fields(api: Api) -> None:
    apply(api, "one", config_map(data={"a": "1"}))
    both = apply(api, "two", config_map(data={"b": "2"})).json()
    assert both["data"] == {"a": "1", "b": "2"}
    managers = {e["manager"]: e["fieldsV1"] for e in both["metadata"]["managedFields"]}
    assert managers == {"one": {"f:data": {"f:a": {}}}, "two": {"f:data": {"f:b": {}}}} or (
        managers["one"]["f:data"].keys() - {"."} == {"f:a"}
    )
    taken = apply(api, "two", config_map(data={"a": "3", "b": "2"}))
    assert refusal(taken) == (409, "Conflict")
    cause = taken.json()["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.a")
    assert 'conflict with "one"' in cause["message"]
    forced = apply(api, "two", config_map(data={"a": "3", "b": "2"}), force="true").json()
    assert forced["data"] == {"a": "3", "b": "2"}
    # The first manager lost the field, so that its giving it up changes nothing.
    assert apply(api, "one", config_map()).json()["data"] == {"a": "3", "b": "2"}


def test_two_may_apply_the_same_value(api: Api) -> None:
    apply(api, "one", config_map(data={"a": "1"}))
    assert apply(api, "two", config_map(data={"a": "1"})).status_code == 200
    assert apply(api, "one", config_map()).json()["data"] == {"a": "1"}
    assert "a" not in apply(api, "two", config_map()).json().get("data", {})


def test_other_writes_take_fields(api: Api) -> None:
    apply(api, "one", config_map(data={"a": "1"}))
    media = "application/merge-patch+json"
    patch = {"data": {"a": "2"}}
    api.call("PATCH", "configmaps/settings", patch, content_type=media, fieldManager="hand")
    taken = apply(api, "one", config_map(data={"a": "1"}))
    assert refusal(taken) == (409, "Conflict")
    assert "hand" in taken.json()["message"]


def test_apply_of_a_job_again_writes_nothing(api: Api) -> None:
    body = job(
        volumes=[{"name": "a", "emptyDir": {}}],
        containers=[
            {
                **CONTAINER,
                "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 80}],
                "volumeMounts": [{"name": "a", "mountPath": "/a"}],
            }
        ],
    )
    made = apply(api, "one", body, "build").json()
    same = apply(api, "one", body, "build").json()
    if api.version() > 20:
        # 1.20 writes a Job that is applied again, though nothing in it changes.
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert same["spec"] == made["spec"]
    other = job(containers=[{**CONTAINER, "image": "builder:2"}])
    assert fields(apply(api, "one", other, "build")) == ["spec.template"]


def test_apply_needs_a_manager_and_known_fields(api: Api) -> None:
    media = "application/apply-patch+yaml"
    whole = {"apiVersion": "v1", "kind": "ConfigMap", **config_map()}
    nobody = api.call("PATCH", "configmaps/settings", whole, content_type=media)
    assert fields(nobody) == ["fieldManager"]
    unknown = apply(api, "one", {**config_map(), "dat": {}})
    assert unknown.status_code in (400, 500)
    assert ".dat: field not declared in schema" in unknown.json()["message"]


def test_a_part_of_a_job_can_be_applied(api: Api) -> None:
    api.call("POST", "jobs", job(), fieldManager="hand")
    part = {"metadata": {"name": "build"}, "spec": {"backoffLimit": 3}}
    assert refusal(apply(api, "one", part, "build")) == (409, "Conflict")
    forced = apply(api, "one", part, "build", force="true").json()
    assert forced["spec"]["backoffLimit"] == 3
    assert forced["spec"]["template"]["spec"]["containers"][0]["image"] == "builder:1"
    missing = {"metadata": {"name": "other"}, "spec": {"backoffLimit": 3}}
    assert "spec.template.spec.containers" in fields(apply(api, "one", missing, "other"))
