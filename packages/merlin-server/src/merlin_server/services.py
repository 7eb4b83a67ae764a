"""The container of everything the app serves from, and how its parts hang together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from prometheus_client.registry import Collector
from starlette.types import ASGIApp

from merlin_server.addresses import Addresses
from merlin_server.auth.policy import Policy
from merlin_server.database import Database
from merlin_server.deletion import Deletion
from merlin_server.deployers.port import Deployer
from merlin_server.endpoints.service import Endpoints
from merlin_server.environments.service import Environments
from merlin_server.images.builds import Builds
from merlin_server.images.existence import ExistenceCheck
from merlin_server.logs.following import Followers
from merlin_server.logs.service import BuildLog, Logs
from merlin_server.metrics import Metrics
from merlin_server.models.service import Models
from merlin_server.projects.service import Projects
from merlin_server.settings import Settings
from merlin_server.tracking.service import Tracking
from merlin_server.traffic.service import Traffic
from merlin_server.ui.overview import Overview
from merlin_server.versions.service import Versions


@dataclass(frozen=True)
class Platform:
    """What the domains stand on. ``notify`` wakes the operations engine, ``invalidate`` makes the
    gateway read its routes again; ``deployers`` are by backend name; ``collectors`` are metrics of
    other parts, ``build_log`` reads what builds write."""

    database: Database
    tracking: Tracking
    deployers: Mapping[str, Deployer]
    registry_prefix: str
    existence: ExistenceCheck
    notify: Callable[[], None]
    invalidate: Callable[[], None]
    collectors: Sequence[Collector] = ()
    build_log: BuildLog | None = None


@dataclass(frozen=True)
class Attached:
    """Whole applications served beside the API; absent ones are not served. ``registry`` answers
    below ``/v2``, ``gateway`` below ``/endpoints``."""

    tracking: APIRouter | None = None
    registry: ASGIApp | None = None
    gateway: ASGIApp | None = None


@dataclass(frozen=True)
class Services:
    """One server's services; made by `assemble`, used by `merlin_server.app.create_app`."""

    settings: Settings
    policy: Policy
    database: Database
    projects: Projects
    environments: Environments
    models: Models
    versions: Versions
    deletion: Deletion
    builds: Builds
    endpoints: Endpoints
    traffic: Traffic
    logs: Logs
    followers: Followers
    metrics: Metrics
    overview: Overview
    attached: Attached


def assemble(
    settings: Settings,
    addresses: Addresses,
    policy: Policy,
    platform: Platform,
    attached: Attached,
    *,
    settle_seconds: float = 10,
) -> Services:
    """Wire the services; ``settle_seconds`` is how long an undeploy waits for the engine."""
    database, tracking = platform.database, platform.tracking
    return Services(
        settings=settings,
        policy=policy,
        database=database,
        projects=Projects(database, addresses),
        environments=Environments(database),
        models=Models(database, addresses, tracking),
        versions=Versions(database, addresses, tracking, settings.images.python_versions),
        deletion=Deletion(database, tracking),
        builds=Builds(
            database,
            platform.registry_prefix,
            platform.existence,
            platform.notify,
            settings.images.jobs.largest,
        ),
        endpoints=Endpoints(
            database,
            addresses,
            platform.deployers,
            platform.notify,
            settle_seconds=settle_seconds,
        ),
        traffic=Traffic(database, addresses, platform.invalidate),
        logs=Logs(database, platform.deployers, platform.build_log),
        followers=Followers(),
        metrics=Metrics(database, platform.collectors),
        overview=Overview(database, addresses),
        attached=attached,
    )
