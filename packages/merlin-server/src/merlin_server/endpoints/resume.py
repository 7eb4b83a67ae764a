"""What a starting server does about what the last one left: bring models up again, stop strays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import structlog
from sqlalchemy import select, update

from merlin_server.database import Database, now
from merlin_server.deployers.port import Condition, Deployer
from merlin_server.endpoints.live import LiveEndpoint, live_endpoints
from merlin_server.endpoints.reconcile import EndpointReconciler
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.images.store import ImageRow
from merlin_server.operations.claims import unfinished
from merlin_server.operations.requests import adopt, request

log = structlog.get_logger(__name__)


def resume(
    database: Database,
    deployers: Mapping[str, Deployer],
    *,
    clock: Callable[[], datetime] = now,
) -> None:
    """Ask for every live revision that no longer runs, and stop revisions nobody wants.

    Call it once, before the engine and the gateway start. Revisions are not changed, and what a
    living deployer still runs (pods, containers) is not touched. A deployer that cannot be
    reached is logged and left alone.
    """
    if database.engine.dialect.name == "sqlite":
        _take_over(database, clock())
    existing = {name: _names(name, deployer) for name, deployer in deployers.items()}
    endpoints = live_endpoints(database)
    lost = [e for e in endpoints if e.deployer in deployers and not _runs(deployers[e.deployer], e)]
    _request_restart(database, lost, clock())
    for name, revisions in existing.items():
        _stop_strays(database, deployers[name], revisions)


def _take_over(database: Database, at: datetime) -> None:
    # Only this process uses an SQLite database, so nobody is at work on anything.
    with database.write() as session:
        adopt(session, at)
        session.execute(
            update(ImageRow)
            .where(ImageRow.state == "active")
            .values(state="failed", message="The server stopped during the build.", finished_at=at)
        )


def _runs(deployer: Deployer, endpoint: LiveEndpoint) -> bool:
    try:
        status = deployer.status(endpoint.revision_name)
    except Exception:
        log.exception("revision could not be looked at", revision=endpoint.revision_name)
        return True
    return status is not None and status.ready


def _request_restart(database: Database, lost: Iterable[LiveEndpoint], at: datetime) -> None:
    restarting = Condition(
        type="Ready", status=False, reason="Restarting", message="The server starts.", time=at
    )
    for endpoint in lost:
        with database.write() as session:
            row = session.get(VersionEndpointRow, endpoint.id, with_for_update=True)
            if row is None or row.live_revision != endpoint.live_revision:
                continue
            row.address = ""
            row.conditions = [restarting.to_dict()]
            session.flush()
            if not unfinished(session, EndpointReconciler.kind, [row.id]):
                request(session, EndpointReconciler.kind, row.id)


def _names(deployer_name: str, deployer: Deployer) -> list[str]:
    try:
        return deployer.names()
    except Exception:
        log.exception("deployer could not be asked", deployer=deployer_name)
        return []


def _stop_strays(database: Database, deployer: Deployer, names: list[str]) -> None:
    """Stop revisions that are neither live nor in the hands of an operation.

    ``names`` must have been read before the rows are: a revision younger than that is not judged.
    """
    owners = {name: name.rpartition(".r")[0] for name in names}
    with database.read() as session:
        kept = unfinished(session, EndpointReconciler.kind, list(owners.values()))
        live = {
            f"{row.id}.r{row.live_revision}"
            for row in session.scalars(
                select(VersionEndpointRow).where(VersionEndpointRow.id.in_(owners.values()))
            )
            if row.desired == "running"
        }
    for name, owner in owners.items():
        if name in live or owner in kept:
            continue
        log.info("stopping a stray revision", revision=name)
        try:
            deployer.stop(name, grace_seconds=0)
        except Exception:
            log.exception("stray revision could not be stopped", revision=name)
