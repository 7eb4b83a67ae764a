"""Opens everything one server needs, and closes it in the order that loses nothing.

The database is migrated and what the last process left is taken up before the engine starts.
Closing: the engine lets go of its operations, then the models that end with the server are
drained, then connections close.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from merlin.artifacts import open_store
from merlin_images.registry.embedded.app import create_registry_app
from merlin_server.addresses import Addresses
from merlin_server.auth.policy import Policy
from merlin_server.data_folder import DataFolder
from merlin_server.database import Database, connection_faults_named
from merlin_server.database_address import database_address
from merlin_server.deployers import DeployerContext, open_deployer
from merlin_server.deployers.port import Closes, Deployer
from merlin_server.endpoints.reconcile import EndpointReconciler
from merlin_server.endpoints.resume import resume
from merlin_server.endpoints.watch import EndpointWatch
from merlin_server.environments.service import write_environments
from merlin_server.images.builders import open_builder
from merlin_server.images.existence import ExistenceCheck
from merlin_server.images.metering import BuildMetrics
from merlin_server.images.reconcile import ImageReconciler
from merlin_server.images.service import ImageService
from merlin_server.migrations.upgrade import upgrade
from merlin_server.operations.engine import Engine
from merlin_server.operations.reconciler import Reconciler
from merlin_server.registries import Registries
from merlin_server.services import Attached, Platform, Services, assemble
from merlin_server.settings import Settings
from merlin_server.tracking.artifact_location import ArtifactLocations
from merlin_server.tracking.mlflow_server import MlflowTracking
from merlin_server.tracking.reconcile import TrackingDeletions
from merlin_server.tracking.routes import create_router as tracking_router
from merlin_server.tracking.service import EmbeddedTracking, Tracking
from merlin_server.traffic.gateway import Gateway
from merlin_server.traffic.routing import RoutingTable

_ENGINE_STOP_SECONDS = 10


@contextmanager
def open_services(
    settings: Settings, folder: DataFolder, url: str, policy: Policy
) -> Iterator[Services]:
    """Yield the running server's services; ``url`` is where clients reach it."""
    with ExitStack() as closing:
        database = Database(database_address(settings) or folder.database_url)
        closing.callback(database.dispose)
        with connection_faults_named(database.engine.url):
            upgrade(database)
        write_environments(database, settings.environments)
        artifacts_url = settings.artifacts_url or folder.artifacts.as_uri()
        store = open_store(artifacts_url, settings.artifacts.of(artifacts_url))
        locations = ArtifactLocations(store, settings.tracking_url)
        embedded = EmbeddedTracking(database, store, url)
        tracking: Tracking = embedded
        tracking_url = url
        if settings.tracking_url:
            outside = MlflowTracking(settings.tracking_url, locations)
            tracking, tracking_url = outside, outside.url
        registries = Registries(settings.registry, url, folder.registry)
        build_metrics = BuildMetrics()
        builder = open_builder(
            settings,
            registries.open,
            cache=settings.images.cache_dir or folder.cache,
            locks=store,
            metrics=build_metrics,
            closing=closing,
        )
        images = ImageService(database, builder, locations, settings, registries.prefix)
        deployers = _open_deployers(settings, folder.path, closing)
        table = RoutingTable(database)
        gateway = Gateway(table, body_bytes=settings.limits.predict_bytes)
        reconcilers: list[Reconciler[Any, Any]] = [
            EndpointReconciler(images, deployers, locations, table, settings),
            ImageReconciler(images, settings),
            TrackingDeletions(tracking),
        ]
        engine = Engine(database, reconcilers, settings.operations, owner=_owner())
        resume(database, deployers)
        engine.start()
        closing.callback(engine.stop, _ENGINE_STOP_SECONDS)
        watch = EndpointWatch(database, deployers)
        watch.start()
        closing.callback(watch.stop)
        yield assemble(
            settings,
            Addresses(url, tracking_url),
            policy,
            Platform(
                database=database,
                tracking=tracking,
                deployers=deployers,
                registry_prefix=registries.prefix,
                existence=ExistenceCheck(registries.open_impatient),
                notify=engine.notify,
                invalidate=table.invalidate,
                collectors=(build_metrics,),
                build_log=images.log,
            ),
            Attached(
                tracking=None if settings.tracking_url else tracking_router(embedded),
                registry=create_registry_app(registries.builtin) if registries.builtin else None,
                gateway=gateway,
            ),
        )


def _open_deployers(settings: Settings, data_dir: Path, closing: ExitStack) -> dict[str, Deployer]:
    deployers: dict[str, Deployer] = {}
    images = settings.images
    context = DeployerContext(data_dir, images.index_url, images.netrc_file)
    for name in sorted({environment.deployer for environment in settings.environments}):
        deployers[name] = deployer = open_deployer(name, context)
        if isinstance(deployer, Closes):
            closing.callback(deployer.close)
    return deployers


def _owner() -> str:
    """Names this process to people who look at operations; leases rest on their tokens."""
    return f"{socket.gethostname()}:{os.getpid()}"[:80]
