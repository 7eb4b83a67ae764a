from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import yaml
from fastapi.testclient import TestClient


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _overview(client: TestClient) -> _Page:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    return _Page(answer.text)


def test_an_empty_server_shows_how_to_begin(client: TestClient) -> None:
    page = _overview(client)
    assert 'merlin.set_url("http://127.0.0.1:8080")' in page.text
    assert "Nothing was built or deployed yet." in page.text


def test_everything_there_is_is_shown_with_its_command(
    client: TestClient, server: Any, made: Any
) -> None:
    endpoint = made.deploy()
    server.observe(
        endpoint["id"],
        status="running",
        live_revision=1,
        message="<script>alert(1)</script>",
    )
    rule = {"destinations": [{"version_endpoint_id": endpoint["id"], "weight": 100}]}
    client.post(f"{made.model}/endpoints", json={"rule": rule})
    page = _overview(client)
    for text in (
        "fruit",
        "iris",
        "1 version",
        "http://127.0.0.1:8080/endpoints/fruit/iris/v1/predict",
        "http://127.0.0.1:8080/endpoints/fruit/iris/versions/1/v1/models/iris-1:predict",
        "merlin status iris --project fruit",
        "merlin predict iris:1 --project fruit",
        "version endpoint",
        "iris-1",
    ):
        assert text in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = _overview(client)
    loaded = [
        attributes.get("src") or attributes.get("href") or ""
        for tag, attributes in page.tags
        if tag in {"link", "img", "script"}
    ]
    assert loaded == ["data:,", "/static/style.css"]
    assert client.get("/static/style.css").headers["content-type"].startswith("text/css")
    assert all("style" not in attributes for _, attributes in page.tags)


def test_the_reference_lists_every_route_of_the_document(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    page = _overview(client)
    for path, operations in document["paths"].items():
        assert path in page.text
        for operation in operations.values():
            assert operation["summary"] in page.text
            assert "422" not in operation["responses"]
            assert operation["tags"]


def test_swagger_is_the_same_document(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert yaml.safe_load(client.get("/swagger.yaml").text) == document
