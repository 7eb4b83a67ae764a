"""The kinds that are served, where they live, and what discovery says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class ResourceType:
    """A kind and its address. A ``custom`` one has no schema: its lists are atomic to apply."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = True
    custom: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The name in error messages: ``jobs.batch``, ``pods``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


@dataclass(frozen=True)
class Target:
    """What a path names. ``namespace`` is "" for all of them, and for what has none; ``part`` is
    the subresource.
    """

    resource: ResourceType
    namespace: str = ""
    name: str = ""
    part: str = ""

    @property
    def plural(self) -> str:
        """As rules of access name it: ``pods``, ``pods/log``."""
        return f"{self.resource.plural}/{self.part}" if self.part else self.resource.plural


NAMESPACES = ResourceType("", "v1", "namespaces", "Namespace", namespaced=False)
PODS = ResourceType("", "v1", "pods", "Pod")
SECRETS = ResourceType("", "v1", "secrets", "Secret", status=False)
CONFIG_MAPS = ResourceType("", "v1", "configmaps", "ConfigMap", status=False)
EVENTS = ResourceType("", "v1", "events", "Event", status=False)
JOBS = ResourceType("batch", "v1", "jobs", "Job")

BUILT_IN = [
    NAMESPACES,
    PODS,
    SECRETS,
    CONFIG_MAPS,
    EVENTS,
    ResourceType("", "v1", "serviceaccounts", "ServiceAccount", status=False),
    ResourceType("", "v1", "services", "Service"),
    JOBS,
    ResourceType("apps", "v1", "deployments", "Deployment"),
]
INFERENCE_SERVICES = ResourceType(
    "serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService", custom=True
)


def discovery(path: str, resources: list[ResourceType]) -> dict[str, Any] | None:
    """The document at a discovery path, or None where the path is no such thing."""
    if path == "/version":
        return {"major": "1", "minor": "37", "gitVersion": "v1.37.0", "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = sorted({(each.group, each.version) for each in resources if each.group})
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(*each) for each in groups],
        }
    served = [each for each in resources if each.root == path]
    if not served:
        return None
    listed = [entry for each in served for entry in _entries(each)]
    group_version = served[0].api_version
    return {"kind": "APIResourceList", "groupVersion": group_version, "resources": listed}


def _group(group: str, version: str) -> dict[str, Any]:
    version_entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [version_entry], "preferredVersion": version_entry}


def _entries(resource: ResourceType) -> list[dict[str, Any]]:
    base = {
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
    }
    entries = [{**base, "name": resource.plural, "verbs": VERBS}]
    if resource.status:
        status = {"name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"]}
        entries.append({**base, **status})
    if resource == PODS:
        entries.append({**base, "name": "pods/log", "verbs": ["get"]})
    return entries
