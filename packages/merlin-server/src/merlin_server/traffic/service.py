"""Moving traffic: which version endpoints a model's stable address leads to.

A change is one transaction over the model endpoint and the version endpoints it concerns; the
gateway's table is invalidated after the commit, so the next request goes the new way.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from merlin_server.addresses import Addresses
from merlin_server.database import Database
from merlin_server.endpoints.model import PENDING, RUNNING
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.service import find_environment
from merlin_server.environments.store import EnvironmentRow
from merlin_server.models.service import load_model
from merlin_server.models.store import ModelRow
from merlin_server.projects.service import load_project
from merlin_server.traffic.description import describe_model_endpoint, model_endpoints_of
from merlin_server.traffic.errors import ModelEndpointExists, ModelEndpointNotFound, RuleInvalid
from merlin_server.traffic.model import (
    SERVING,
    TERMINATED,
    ModelEndpoint,
    ModelEndpointBody,
    RuleBody,
)
from merlin_server.traffic.store import ModelEndpointRow


class Traffic:
    """``invalidate`` makes the gateway read its routes again."""

    def __init__(
        self, database: Database, addresses: Addresses, invalidate: Callable[[], None]
    ) -> None:
        self._database = database
        self._addresses = addresses
        self._invalidate = invalidate

    def list_in_project(self, project_id: int, region: str | None) -> list[ModelEndpoint]:
        """Return the project's model endpoints, in one region if given."""
        with self._database.read() as session:
            load_project(session, project_id)
            query = (
                select(ModelEndpointRow)
                .join(ModelRow, ModelRow.id == ModelEndpointRow.model_id)
                .where(ModelRow.project_id == project_id)
                .order_by(ModelEndpointRow.id)
            )
            described = [self._describe(session, row) for row in session.scalars(query)]
        return [
            endpoint
            for endpoint in described
            if region is None or endpoint.environment.region == region
        ]

    def list(self, model_id: int) -> list[ModelEndpoint]:
        """Return the model's endpoints, also terminated ones."""
        with self._database.read() as session:
            load_model(session, model_id)
            return model_endpoints_of(session, [model_id], self._addresses)[model_id]

    def get(self, model_id: int, endpoint_id: int) -> ModelEndpoint:
        with self._database.read() as session:
            return self._describe(session, _load(session, model_id, endpoint_id))

    def serve(self, model_id: int, body: ModelEndpointBody) -> ModelEndpoint:
        """Start serving; one that was terminated is used again."""
        with self._database.write() as session:
            model = load_model(session, model_id, lock=True)
            environment = find_environment(session, body.environment_name)
            row = session.scalars(
                select(ModelEndpointRow)
                .where(
                    ModelEndpointRow.model_id == model_id,
                    ModelEndpointRow.environment_id == environment.id,
                )
                .with_for_update()
            ).first()
            if row is not None and row.status == SERVING:
                raise ModelEndpointExists(
                    f"{model.name} serves in {environment.name} already.", model_endpoint_id=row.id
                )
            if row is None:
                row = ModelEndpointRow(
                    model_id=model_id, environment_id=environment.id, destinations=[]
                )
                session.add(row)
            answer = self._route(session, row, environment, body.rule)
        self._invalidate()
        return answer

    def change(self, model_id: int, endpoint_id: int, body: ModelEndpointBody) -> ModelEndpoint:
        """Route to other destinations or by other weights, live; serve again if terminated."""
        with self._database.write() as session:
            load_model(session, model_id, lock=True)
            row = _load(session, model_id, endpoint_id, lock=True)
            if body.id is not None and body.id != endpoint_id:
                raise RuleInvalid(
                    f"The body is of model endpoint {body.id}, the path of {endpoint_id}."
                )
            environment = session.get_one(EnvironmentRow, row.environment_id)
            if body.environment_name not in {None, "", environment.name}:
                raise RuleInvalid(
                    f"A model endpoint cannot move from {environment.name} to"
                    f" {body.environment_name}."
                )
            answer = self._route(session, row, environment, body.rule)
        self._invalidate()
        return answer

    def stop(self, model_id: int, endpoint_id: int) -> None:
        """Stop serving; the row is kept, and repeating it is no error."""
        with self._database.write() as session:
            load_model(session, model_id, lock=True)
            row = _load(session, model_id, endpoint_id, lock=True)
            if row.status == SERVING:
                for endpoint_id_ in _destinations(row):
                    _set_serving(session, endpoint_id_, serving=False)
                row.status = TERMINATED
        self._invalidate()

    def _route(
        self, session: Session, row: ModelEndpointRow, environment: EnvironmentRow, rule: RuleBody
    ) -> ModelEndpoint:
        before = _destinations(row) if row.status == SERVING else []
        row.protocol = _check_rule(session, row.model_id, environment, rule)
        after = [str(destination.version_endpoint_id) for destination in rule.destinations]
        for endpoint_id in sorted({*before, *after}):
            _set_serving(session, endpoint_id, serving=endpoint_id in after)
        row.status = SERVING
        row.destinations = [
            destination.model_dump(mode="json") for destination in rule.destinations
        ]
        session.flush()
        return self._describe(session, row)

    def _describe(self, session: Session, row: ModelEndpointRow) -> ModelEndpoint:
        return describe_model_endpoint(session, row, self._addresses)


def _load(
    session: Session, model_id: int, endpoint_id: int, *, lock: bool = False
) -> ModelEndpointRow:
    load_model(session, model_id)
    row = session.get(ModelEndpointRow, endpoint_id, with_for_update=lock or None)
    if row is None or row.model_id != model_id:
        raise ModelEndpointNotFound(
            f"Model {model_id} has no model endpoint {endpoint_id}.",
            model_endpoint_id=endpoint_id,
        )
    return row


def _check_rule(
    session: Session, model_id: int, environment: EnvironmentRow, rule: RuleBody
) -> str:
    """Return the protocol all destinations share. Raises `RuleInvalid`."""
    if rule.mirror:
        raise RuleInvalid("Mirroring traffic is not possible.", hint="Leave 'mirror' out.")
    total = sum(destination.weight for destination in rule.destinations)
    if total != 100:
        raise RuleInvalid(f"The weights sum to {total}, not to 100.", weight=total)
    ids = [str(destination.version_endpoint_id) for destination in rule.destinations]
    if len(set(ids)) != len(ids):
        raise RuleInvalid("A version endpoint is listed twice.")
    protocols = set()
    for endpoint_id in ids:
        endpoint = session.get(VersionEndpointRow, endpoint_id)
        if endpoint is None or endpoint.model_id != model_id:
            raise RuleInvalid(
                f"The model has no version endpoint {endpoint_id}.",
                version_endpoint_id=endpoint_id,
            )
        if endpoint.environment_id != environment.id:
            raise RuleInvalid(
                f"Version endpoint {endpoint_id} is not in {environment.name}.",
                version_endpoint_id=endpoint_id,
            )
        if not _answers(endpoint):
            raise RuleInvalid(
                f"Version endpoint {endpoint_id} is {endpoint.status}, not running.",
                hint="Wait until it runs." if endpoint.status == PENDING else "Deploy it first.",
                version_endpoint_id=endpoint_id,
            )
        protocols.add(endpoint.spec["protocol"])
    if len(protocols) > 1:
        raise RuleInvalid("The destinations speak different protocols.")
    return str(protocols.pop())


def _answers(endpoint: VersionEndpointRow) -> bool:
    """While a redeploy is pending, the live revision goes on answering."""
    if endpoint.desired == TERMINATED:
        return False
    if endpoint.status == PENDING:
        return endpoint.live_revision > 0 and endpoint.stable_status in {RUNNING, SERVING}
    return endpoint.status in {RUNNING, SERVING}


def _set_serving(session: Session, endpoint_id: str, *, serving: bool) -> None:
    """Mark a version endpoint; one that is being redeployed is marked for when that has ended."""
    endpoint = session.get(VersionEndpointRow, endpoint_id, with_for_update=True)
    status = SERVING if serving else RUNNING
    if endpoint is None:
        return
    if endpoint.status in {RUNNING, SERVING}:
        endpoint.status = status
    if endpoint.stable_status in {RUNNING, SERVING}:
        endpoint.stable_status = status


def _destinations(row: ModelEndpointRow) -> list[str]:
    return [destination["version_endpoint_id"] for destination in row.destinations]
