"""A refusal names the missing right as its registry does."""

from __future__ import annotations

import json

import httpx2
import pytest

from merlin_images.registry.auth import delete_scope, pull_scope, push_scope
from merlin_images.registry.distribution import DistributionRegistry
from merlin_images.registry.errors import RegistryDenied
from merlin_images.registry.permissions import action_of, product_of
from merlin_images.registry.port import Descriptor
from merlin_images.registry.reference import parse_reference


@pytest.mark.parametrize(
    ("host", "service", "name", "push"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "", "Amazon ECR", "ecr:PutImage"),
        (
            "europe-docker.pkg.dev",
            "",
            "Artifact Registry",
            "artifactregistry.repositories.uploadArtifacts",
        ),
        ("eu.gcr.io", "", "Artifact Registry", "roles/artifactregistry.writer"),
        ("ours.azurecr.io", "ours.azurecr.io", "Azure Container Registry", "AcrPush"),
        ("ghcr.io", "ghcr.io", "GitHub's registry", "write:packages"),
        ("docker.io", "registry.docker.io", "Docker Hub", "Read & Write"),
        ("quay.io", "quay.io", "Quay", "Write"),
        ("harbor.example.com", "harbor-registry", "Harbor", "Push Repository"),
        ("gitlab.example.com:5050", "container_registry", "GitLab", "write_registry"),
        ("registry.example.com", "", "registry", "the right to push"),
        ("notazurecr.io", "", "registry", "the right to push"),
    ],
)
def test_products_are_told_by_host_or_by_how_they_ask(
    host: str, service: str, name: str, push: str
) -> None:
    product = product_of(host, service)
    assert product.name == name
    assert push in product.rights["push"]
    assert set(product.rights) == {"pull", "push", "delete"}


def test_the_farthest_action_counts() -> None:
    assert action_of([pull_scope("a/b"), push_scope("a/c")]) == "push"
    assert action_of([delete_scope("a:5/b")]) == "delete"
    assert action_of([]) == "pull"


def test_a_harbor_that_grants_no_push_names_the_robots_permission() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/service/token":
            return httpx2.Response(200, stream=httpx2.ByteStream(b'{"token": "t"}'))
        challenge = (
            'Bearer realm="https://harbor.example.com/service/token",service="harbor-registry"'
        )
        if "Authorization" not in request.headers:
            nothing = httpx2.ByteStream(b"")
            return httpx2.Response(401, headers={"WWW-Authenticate": challenge}, stream=nothing)
        denied = {"errors": [{"code": "DENIED", "message": "no push"}]}
        headers = {"WWW-Authenticate": f'{challenge},error="insufficient_scope"'}
        body = httpx2.ByteStream(json.dumps(denied).encode())
        return httpx2.Response(401, headers=headers, stream=body)

    registry = DistributionRegistry("harbor.example.com", transport=httpx2.MockTransport(answer))
    blob = Descriptor("a/b", "sha256:" + "0" * 64, 1)
    said = "refused to let us push: a POST in ml/x was answered 401: DENIED no push"
    with pytest.raises(RegistryDenied, match=said) as caught:
        registry.write_blob(parse_reference("harbor.example.com/ml/x"), blob, lambda: [b"x"])
    assert caught.value.data["permission"] == "a robot account with Push Repository"
    assert "To push there, Harbor wants a robot account with Push Repository." in str(caught.value)
