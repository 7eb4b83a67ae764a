"""Deploying, redeploying and undeploying versions: rows and the request for work, nothing slow.

Every change validates first, then writes the desired state, its history row and the operation
request in one transaction; the engine is told after the commit. Changes to one model's endpoints
queue on the model's row. What runs, and so the status, is the engine's to write: an undeploy waits
a while for it, because Merlin's clients take its answer to mean that nothing runs any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin_server.addresses import Addresses
from merlin_server.database import Database
from merlin_server.deployers.port import Deployer
from merlin_server.endpoints.deploy_rules import check_deploy, merge_spec
from merlin_server.endpoints.description import describe_deployment, describe_endpoint
from merlin_server.endpoints.errors import (
    AlreadyDeployed,
    DeployInvalid,
    EndpointBusy,
    EndpointNotFound,
    TooManyDeployed,
)
from merlin_server.endpoints.model import (
    ACTIVE,
    FAILED,
    PENDING,
    RUNNING,
    SERVING,
    TERMINATED,
    Container,
    Deployment,
    EndpointBody,
    VersionEndpoint,
)
from merlin_server.endpoints.store import DeploymentRow, VersionEndpointRow
from merlin_server.environments.service import find_environment
from merlin_server.environments.store import EnvironmentRow
from merlin_server.images.store import ImageRow
from merlin_server.models.service import load_model
from merlin_server.models.store import ModelRow
from merlin_server.operations.requests import request
from merlin_server.projects.store import ProjectRow
from merlin_server.versions.service import load_version
from merlin_server.versions.store import VersionRow

KIND = "version_endpoint"
MAX_DEPLOYED_VERSIONS = 2
_SETTLE_POLL_SECONDS = 0.05


class Endpoints:
    """``deployers`` are by backend name, ``notify`` wakes the engine, ``settle_seconds`` is how
    long an undeploy waits for it before it answers anyway."""

    def __init__(
        self,
        database: Database,
        addresses: Addresses,
        deployers: Mapping[str, Deployer],
        notify: Callable[[], None],
        *,
        settle_seconds: float,
    ) -> None:
        self._database = database
        self._addresses = addresses
        self._deployers = deployers
        self._notify = notify
        self._settle_seconds = settle_seconds

    def of_version(self, model_id: int, version_id: int) -> list[VersionEndpoint]:
        """Return the version's endpoints in all environments."""
        with self._database.read() as session:
            load_version(session, model_id, version_id)
            return [
                describe_endpoint(session, row, self._addresses)
                for row in _of_version(session, model_id, version_id)
            ]

    def get(self, model_id: int, version_id: int, endpoint_id: UUID) -> VersionEndpoint:
        with self._database.read() as session:
            row = load_endpoint(session, model_id, version_id, endpoint_id)
            return describe_endpoint(session, row, self._addresses)

    def deploy(self, model_id: int, version_id: int, body: EndpointBody) -> VersionEndpoint:
        """Deploy a version that is not deployed in the environment; an endpoint that was there
        and is terminated or failed is used again, with its address."""
        with self._database.write() as session:
            model = load_model(session, model_id, lock=True)
            version = load_version(session, model_id, version_id)
            environment = find_environment(session, body.environment_name)
            check_deploy(body, model, version)
            row = _in_environment(session, version, environment)
            if row is not None and row.status in ACTIVE:
                raise AlreadyDeployed(
                    f"Version {version_id} of {model.name} is {row.status} in"
                    f" {environment.name} already.",
                    endpoint_id=row.id,
                )
            _check_quota(session, model, environment)
            if row is None:
                row = VersionEndpointRow(
                    id=str(uuid4()),
                    model_id=model_id,
                    version_id=version_id,
                    environment_id=environment.id,
                    revision=0,
                    status="",
                    spec={},
                )
                session.add(row)
            answer = self._start(session, row, body, model, environment)
        self._notify()
        return answer

    def change(
        self, model_id: int, version_id: int, endpoint_id: UUID, body: EndpointBody
    ) -> VersionEndpoint:
        """Redeploy, revive or undeploy, by the status asked for."""
        with self._database.write() as session:
            model = load_model(session, model_id, lock=True)
            version = load_version(session, model_id, version_id)
            row = load_endpoint(session, model_id, version_id, endpoint_id, lock=True)
            environment = session.get_one(EnvironmentRow, row.environment_id)
            _check_change(row, environment, body)
            if body.status == TERMINATED:
                _request_stop(session, row)
                answer = None
            else:
                check_deploy(body, model, version)
                if row.status not in ACTIVE:
                    _check_quota(session, model, environment)
                answer = self._start(session, row, body, model, environment)
        self._notify()
        if answer is None:
            self._settle(str(endpoint_id))
        return answer or self.get(model_id, version_id, endpoint_id)

    def undeploy(self, model_id: int, version_id: int, endpoint_id: UUID) -> None:
        """Terminate; repeating it is no error."""
        with self._database.write() as session:
            load_model(session, model_id, lock=True)
            row = load_endpoint(session, model_id, version_id, endpoint_id, lock=True)
            _request_stop(session, row)
        self._notify()
        self._settle(row.id)

    def undeploy_default(self, model_id: int, version_id: int) -> None:
        """Terminate the endpoint of the default environment, if there is one."""
        with self._database.write() as session:
            load_model(session, model_id, lock=True)
            version = load_version(session, model_id, version_id)
            row = _in_environment(session, version, find_environment(session, None))
            if row is None:
                raise EndpointNotFound(
                    f"Version {version_id} is not deployed in the default environment."
                )
            _request_stop(session, row)
        self._notify()
        self._settle(row.id)

    def deployments(self, model_id: int, version_id: int, endpoint_id: UUID) -> list[Deployment]:
        """Return the history, newest first."""
        with self._database.read() as session:
            endpoint = load_endpoint(session, model_id, version_id, endpoint_id)
            rows = session.scalars(
                select(DeploymentRow)
                .where(DeploymentRow.version_endpoint_id == endpoint.id)
                .order_by(DeploymentRow.id.desc())
            )
            return [describe_deployment(row) for row in rows]

    def containers(self, model_id: int, version_id: int, endpoint_id: UUID) -> list[Container]:
        """Return what has logs: the image build first, then what the deployer runs."""
        with self._database.read() as session:
            row = load_endpoint(session, model_id, version_id, endpoint_id)
            environment = session.get_one(EnvironmentRow, row.environment_id)
            model = session.get_one(ModelRow, model_id)
            project = session.get_one(ProjectRow, model.project_id)
            built = session.get(ImageRow, (model_id, version_id)) is not None
        found = [("image-builder", f"{project.name}-{model.name}-{version_id}", "image_builder")]
        containers = found if built else []
        deployer = self._deployers.get(environment.deployer)
        for revision in sorted({row.live_revision, row.revision} - {0}):
            name = revision_name(row.id, revision)
            status = deployer.status(name) if deployer else None
            if status is not None:
                containers += [(container, name, "model") for container in status.containers]
        return [
            Container(
                name=name,
                pod_name=pod,
                component_type=component,
                namespace=project.name,
                cluster=environment.cluster,
                gcp_project=environment.config["gcp_project"],
                version_endpoint_id=row.id,
            )
            for name, pod, component in containers
        ]

    def _start(
        self,
        session: Session,
        row: VersionEndpointRow,
        body: EndpointBody,
        model: ModelRow,
        environment: EnvironmentRow,
    ) -> VersionEndpoint:
        row.spec = merge_spec(row.spec, body, environment)
        row.stable_status = row.status
        row.status = PENDING
        row.desired = RUNNING
        row.message = ""
        row.revision += 1
        session.flush()
        session.add(
            DeploymentRow(
                project_id=model.project_id,
                model_id=row.model_id,
                version_id=row.version_id,
                version_endpoint_id=row.id,
                revision=row.revision,
                status=PENDING,
            )
        )
        request(session, KIND, row.id)
        return describe_endpoint(session, row, self._addresses)

    def _settle(self, endpoint_id: str) -> None:
        give_up = time.monotonic() + self._settle_seconds
        while time.monotonic() < give_up:
            with self._database.read() as session:
                row = session.get(VersionEndpointRow, endpoint_id)
            if row is None or row.status in {TERMINATED, FAILED}:
                return
            time.sleep(_SETTLE_POLL_SECONDS)


def revision_name(endpoint_id: str, revision: int) -> str:
    """The name a deployer knows a revision by."""
    return f"{endpoint_id}.r{revision}"


def load_endpoint(
    session: Session, model_id: int, version_id: int, endpoint_id: UUID, *, lock: bool = False
) -> VersionEndpointRow:
    """Load through model and version. Raises `EndpointNotFound`, or the parent's error."""
    load_version(session, model_id, version_id)
    row = session.get(VersionEndpointRow, str(endpoint_id), with_for_update=lock or None)
    if row is None or (row.model_id, row.version_id) != (model_id, version_id):
        raise EndpointNotFound(
            f"Version {version_id} of model {model_id} has no endpoint {endpoint_id}.",
            endpoint_id=str(endpoint_id),
        )
    return row


def _request_stop(session: Session, row: VersionEndpointRow) -> None:
    if row.status in {SERVING, PENDING}:
        raise EndpointBusy(
            f"The endpoint is {row.status} and cannot be undeployed.",
            hint="Stop serving traffic from it first."
            if row.status == SERVING
            else "Wait until its deployment has ended.",
            status=row.status,
        )
    if row.status != TERMINATED:
        row.desired = TERMINATED
        session.flush()
        request(session, KIND, row.id)


def _of_version(session: Session, model_id: int, version_id: int) -> list[VersionEndpointRow]:
    query = select(VersionEndpointRow).where(
        VersionEndpointRow.model_id == model_id, VersionEndpointRow.version_id == version_id
    )
    return list(session.scalars(query.order_by(VersionEndpointRow.created_at)))


def _in_environment(
    session: Session, version: VersionRow, environment: EnvironmentRow
) -> VersionEndpointRow | None:
    """The newest endpoint of a version in an environment, locked."""
    query = (
        select(VersionEndpointRow)
        .where(
            VersionEndpointRow.model_id == version.model_id,
            VersionEndpointRow.version_id == version.id,
            VersionEndpointRow.environment_id == environment.id,
        )
        .order_by(VersionEndpointRow.created_at.desc())
        .limit(1)
    )
    return session.scalars(query.with_for_update()).first()


def _check_quota(session: Session, model: ModelRow, environment: EnvironmentRow) -> None:
    versions = session.scalars(
        select(VersionEndpointRow.version_id).where(
            VersionEndpointRow.model_id == model.id,
            VersionEndpointRow.environment_id == environment.id,
            VersionEndpointRow.status.in_(ACTIVE),
        )
    ).all()
    if len(versions) >= MAX_DEPLOYED_VERSIONS:
        raise TooManyDeployed(
            f"{model.name} has {len(versions)} versions deployed in {environment.name};"
            f" at most {MAX_DEPLOYED_VERSIONS} are possible.",
            versions=sorted(versions),
        )


def _check_change(row: VersionEndpointRow, environment: EnvironmentRow, body: EndpointBody) -> None:
    if body.environment_name not in {None, "", environment.name}:
        raise DeployInvalid(
            f"the environment cannot be changed from {environment.name} to {body.environment_name}"
        )
    if row.status == PENDING:
        raise EndpointBusy(
            "The endpoint is being deployed.", hint="Wait until that has ended.", status=PENDING
        )
    if body.status not in {RUNNING, SERVING, TERMINATED}:
        raise DeployInvalid(
            f"the status asked for is {body.status!r}, not running, serving or terminated",
            field="status",
        )
    if row.status == SERVING and body.status != SERVING:
        raise DeployInvalid(
            "the endpoint is serving and cannot change its status",
            hint="Stop serving traffic from it first, or redeploy it with status serving.",
        )
    mode = body.deployment_mode
    if row.status in ACTIVE and mode and mode != row.spec["deployment_mode"]:
        raise DeployInvalid(
            "the deployment mode of a running endpoint cannot be changed",
            hint="Undeploy it first.",
        )
