"""Lists in pages, selectors and watches."""

from __future__ import annotations

import pytest

from tests.kubernetes_facts.calls import (
    Api,
    config_map,
)


def test_lists_come_in_pages_of_one_version(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.call("POST", "configmaps", config_map(name, labels={"ours": "yes"}))
    first = api.call("GET", "configmaps", limit=2, labelSelector="ours").json()
    assert [item["metadata"]["name"] for item in first["items"]] == ["a", "b"]
    api.call("POST", "configmaps", config_map("bb", labels={"ours": "yes"}))
    token = first["metadata"]["continue"]
    rest = api.call("GET", "configmaps", labelSelector="ours", **{"continue": token}).json()
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in rest["metadata"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=x", ["a"]),
        ("app!=x", ["b", "c"]),
        ("app in (x,y)", ["a", "b"]),
        ("app notin (x)", ["b", "c"]),
        ("app", ["a", "b"]),
        ("!app,ours", ["c"]),
        ("app=x,ours=no", []),
    ],
)
def test_label_selectors(api: Api, selector: str, names: list[str]) -> None:
    for name, labels in (("a", {"app": "x"}), ("b", {"app": "y"}), ("c", {})):
        api.call("POST", "secrets", {"metadata": {"name": name, "labels": {**labels, "ours": ""}}})
    query = {"labelSelector": selector, "fieldSelector": "type=Opaque"}
    listed = api.call("GET", "secrets", **query).json()
    assert [item["metadata"]["name"] for item in listed["items"]] == names


def test_field_selectors(api: Api) -> None:
    api.call("POST", "configmaps", config_map("a"))
    api.call("POST", "configmaps", config_map("b"))
    listed = api.call("GET", "configmaps", fieldSelector="metadata.name=b").json()
    assert [item["metadata"]["name"] for item in listed["items"]] == ["b"]
    assert api.call("GET", "configmaps", fieldSelector="data.a=b").status_code == 400
    assert api.call("GET", "configmaps", labelSelector="a b").status_code == 400


def test_a_watch_tells_what_happened_since_a_version(api: Api) -> None:
    labels = {"labels": {"ours": "yes"}}
    start = api.call("GET", "configmaps").json()["metadata"]["resourceVersion"]
    api.call("POST", "configmaps", config_map("a", **labels))
    api.call("POST", "configmaps", config_map("other"))
    api.call("PUT", "configmaps/a", config_map("a", {"x": "1"}, **labels))
    api.call("PUT", "configmaps/a", config_map("a", {"x": "2"}))
    api.call("PUT", "configmaps/a", config_map("a", {"x": "3"}, **labels))
    api.call("DELETE", "configmaps/a")
    events = api.watch("configmaps", resourceVersion=start, labelSelector="ours=yes")
    kinds = [event["type"] for event in events]
    # What no longer matches has gone, to a watch; what matches again is new.
    assert kinds == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


def test_a_watch_without_a_version_begins_with_what_is_there(api: Api) -> None:
    api.call("POST", "configmaps", config_map("a"))
    events = api.watch("configmaps", fieldSelector="metadata.name=a")
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [("ADDED", "a")]


def test_one_object_can_be_watched_for_its_end(api: Api) -> None:
    made = api.call("POST", "configmaps", config_map("a")).json()
    api.call("DELETE", "configmaps/a")
    version = made["metadata"]["resourceVersion"]
    events = api.watch("configmaps", fieldSelector="metadata.name=a", resourceVersion=version)
    assert [event["type"] for event in events] == ["DELETED"]
    assert int(events[0]["object"]["metadata"]["resourceVersion"]) > int(version)


def test_a_version_that_is_too_old_is_gone(api: Api) -> None:
    events = api.watch("configmaps", resourceVersion="1")
    if not events or events[0]["type"] != "ERROR":
        pytest.skip("this server's history still reaches back to its beginning")
    assert events[0]["object"]["code"] == 410
    assert events[0]["object"]["reason"] in ("Expired", "Gone")
