"""What one reconcile step of a version endpoint works from: a snapshot of all rows it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from merlin.artifacts.store import ArtifactStore
from merlin_images.builders.port import BuiltImage
from merlin_server.deployers.port import RevisionSpec
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow
from merlin_server.models.store import ModelRow
from merlin_server.projects.store import ProjectRow
from merlin_server.versions.store import VersionRow

IMAGE = "built_image"
"""Key of ``live_spec`` under which the image of the live revision stands. With it a revision is
brought up again exactly as it was, without builder or registry."""


@dataclass(frozen=True)
class EndpointWork:
    """The rows of one endpoint, as `load_work` read them. ``timeout`` bounds a start."""

    endpoint_id: str
    project_id: int
    project: str
    model_id: int
    model: str
    model_type: str
    version_id: int
    artifact_uri: str
    model_schema: Mapping[str, Any] | None
    environment: str
    deployer: str
    timeout: timedelta
    desired: str
    status: str
    revision: int
    spec: Mapping[str, Any]
    live_revision: int
    live_spec: Mapping[str, Any]
    address: str

    @property
    def full_name(self) -> str:
        return f"{self.model}-{self.version_id}"

    @property
    def wanted(self) -> bool:
        """Whether anything of it should run."""
        return self.desired == "running"

    @property
    def pending(self) -> bool:
        """Whether a deploy is asked for and neither done nor failed yet."""
        return self.wanted and self.status == "pending"

    @property
    def lost(self) -> bool:
        """Whether the live revision has to be brought up again: `resume` found it gone."""
        return self.wanted and self.live_revision > 0 and not self.address

    def name(self, revision: int) -> str:
        """The name of a revision for the deployer."""
        return f"{self.endpoint_id}.r{revision}"

    def owns(self, name: str) -> bool:
        """Whether the deployer's name is one of this endpoint's revisions."""
        return name.startswith(f"{self.endpoint_id}.r")


def load_work(session: Session, endpoint_id: str) -> EndpointWork | None:
    """Read the snapshot; ``None`` if there is no such endpoint."""
    row = session.get(VersionEndpointRow, endpoint_id)
    if row is None:
        return None
    version = session.get_one(VersionRow, (row.model_id, row.version_id))
    model = session.get_one(ModelRow, row.model_id)
    project = session.get_one(ProjectRow, model.project_id)
    environment = session.get_one(EnvironmentRow, row.environment_id)
    seconds = float(environment.config.get("deployment_timeout_seconds", 300))
    return EndpointWork(
        endpoint_id=row.id,
        project_id=project.id,
        project=project.name,
        model_id=model.id,
        model=model.name,
        model_type=model.type,
        version_id=version.id,
        artifact_uri=version.artifact_uri,
        model_schema=version.model_schema,
        environment=environment.name,
        deployer=environment.deployer,
        timeout=timedelta(seconds=seconds),
        desired=row.desired,
        status=row.status,
        revision=row.revision,
        spec=row.spec,
        live_revision=row.live_revision,
        live_spec=row.live_spec,
        address=row.address,
    )


def with_image(spec: Mapping[str, Any], built: BuiltImage) -> dict[str, Any]:
    """Return a deploy request together with the image it became."""
    image = {
        "reference": str(built.reference),
        "python": built.python,
        "lock_key": built.lock_key,
        "lock_text": built.lock_text,
    }
    return {**spec, IMAGE: image}


def revision_spec(
    work: EndpointWork,
    revision: int,
    spec: Mapping[str, Any],
    location: tuple[ArtifactStore, str],
) -> RevisionSpec:
    """Return what the deployer needs for a revision; ``spec`` comes from `with_image`."""
    image = spec[IMAGE]
    store, folder = location
    env = {item["name"]: item.get("value") or "" for item in spec.get("env_vars") or ()}
    if work.model_schema:
        env["CARAML_MODEL_SCHEMA"] = json.dumps(work.model_schema, separators=(",", ":"))
    return RevisionSpec(
        name=work.name(revision),
        project=work.project,
        model=work.model,
        version=str(work.version_id),
        full_name=work.full_name,
        model_type=work.model_type,
        image=image["reference"],
        python=image["python"],
        lock_key=image["lock_key"],
        lock_text=image["lock_text"],
        store=store,
        folder=f"{folder}/model",
        env=env,
        resources=spec.get("resource_request") or {},
    )
