"""What registries call the rights that Merlin needs, so that a refusal can name the missing one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Action = Literal["pull", "push", "delete"]


@dataclass(frozen=True)
class Product:
    """A kind of registry. It is told by its ``hosts``, or else by the ``services`` that it names
    when it asks to sign in. ``rights`` name what each action needs there."""

    name: str
    rights: Mapping[Action, str]
    hosts: re.Pattern[str] = re.compile(r"(?!)")
    services: re.Pattern[str] = re.compile(r"(?!)")


_PLAIN = Product(
    "registry",
    {
        "pull": "the right to pull",
        "push": "the right to push",
        "delete": "the right to delete, and deleting switched on",
    },
)
_PRODUCTS = (
    Product(
        "Amazon ECR",
        {
            "pull": "ecr:BatchGetImage and ecr:GetDownloadUrlForLayer",
            "push": "ecr:BatchCheckLayerAvailability, ecr:InitiateLayerUpload, "
            "ecr:UploadLayerPart, ecr:CompleteLayerUpload and ecr:PutImage",
            "delete": "ecr:BatchDeleteImage",
        },
        hosts=re.compile(r".*\.dkr[.-]ecr\b.*"),
    ),
    Product(
        "Artifact Registry",
        {
            "pull": "artifactregistry.repositories.downloadArtifacts "
            "(role roles/artifactregistry.reader)",
            "push": "artifactregistry.repositories.uploadArtifacts "
            "(role roles/artifactregistry.writer)",
            "delete": "artifactregistry.versions.delete and artifactregistry.tags.delete "
            "(role roles/artifactregistry.repoAdmin)",
        },
        hosts=re.compile(r".*\.pkg\.dev|(.*\.)?gcr\.io"),
    ),
    Product(
        "Azure Container Registry",
        {"pull": "the role AcrPull", "push": "the role AcrPush", "delete": "the role AcrDelete"},
        hosts=re.compile(r".*\.azurecr\.(io|cn|us)"),
    ),
    Product(
        "GitHub's registry",
        {
            "pull": "the scope read:packages",
            "push": "the scope write:packages",
            "delete": "the scope delete:packages",
        },
        hosts=re.compile(r"ghcr\.io"),
    ),
    Product(
        "Docker Hub",
        {
            "pull": "an access token with Read",
            "push": "an access token with Read & Write, of a user who may write to the repository",
            "delete": "an access token with Read, Write & Delete",
        },
        hosts=re.compile(r"docker\.io"),
        services=re.compile(r"registry\.docker\.io"),
    ),
    Product(
        "Quay",
        {
            "pull": "a robot account with Read",
            "push": "a robot account with Write (and Creator in its team for new repositories)",
            "delete": "a robot account with Admin",
        },
        hosts=re.compile(r"quay\.io"),
    ),
    Product(
        "Harbor",
        {
            "pull": "a robot account with Pull Repository",
            "push": "a robot account with Push Repository",
            "delete": "a robot account with Delete Artifact and Delete Tag",
        },
        services=re.compile(r"harbor-registry"),
    ),
    Product(
        "GitLab",
        {
            "pull": "a deploy token with read_registry",
            "push": "a deploy token with write_registry",
            "delete": "a token of a Maintainer with api",
        },
        hosts=re.compile(r"registry\.gitlab\.com"),
        services=re.compile(r"container_registry"),
    ),
)


def product_of(host: str, service: str = "") -> Product:
    """Return what a registry is, as far as its host or its sign-in tell."""
    for product in _PRODUCTS:
        if product.hosts.fullmatch(host):
            return product
    return next((each for each in _PRODUCTS if each.services.fullmatch(service)), _PLAIN)


def action_of(scopes: Iterable[str]) -> Action:
    """Return the farthest action among token scopes such as ``repository:a/b:pull,push``."""
    actions = {action for scope in scopes for action in scope.rpartition(":")[2].split(",")}
    return "delete" if "delete" in actions else "push" if "push" in actions else "pull"
