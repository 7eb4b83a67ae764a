"""Real HTTP servers around a real database: targets that record, and the gateway in front."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from sqlalchemy import select, update

from merlin_server.database import Database, Row
from merlin_server.endpoints.store import VersionEndpointRow
from merlin_server.environments.store import EnvironmentRow
from merlin_server.models.store import ModelRow
from merlin_server.projects.store import ProjectRow
from merlin_server.traffic.gateway import Gateway
from merlin_server.traffic.routing import RoutingTable
from merlin_server.traffic.store import ModelEndpointRow
from merlin_server.versions.store import VersionRow


class Serving:
    """An ASGI application on a port of its own, in a thread of its own."""

    def __init__(self, app: Any, *, lifespan: Any = "off") -> None:
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            lifespan=lifespan,
            loop="asyncio",
            log_level="critical",
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


class Rows:
    """A project ``fraud`` with a model ``cards`` in two environments."""

    def __init__(self, database: Database) -> None:
        self.database = database
        Row.metadata.create_all(database.engine)
        with database.write() as session:
            project = ProjectRow(name="fraud")
            session.add_all([project, EnvironmentRow(name="local", is_default=True)])
            session.add(EnvironmentRow(name="staging"))
            session.flush()
            session.add(ModelRow(project_id=project.id, name="cards", type="sklearn"))

    def version(
        self, number: int, address: str, *, status: str = "running", environment: str = "local"
    ) -> str:
        endpoint_id = f"{environment}-{number}"
        with self.database.write() as session:
            model = session.scalars(select(ModelRow)).one()
            place = session.scalars(
                select(EnvironmentRow).where(EnvironmentRow.name == environment)
            ).one()
            if session.get(VersionRow, (model.id, number)) is None:
                session.add(VersionRow(model_id=model.id, id=number))
                session.flush()
            session.add(
                VersionEndpointRow(
                    id=endpoint_id,
                    model_id=model.id,
                    version_id=number,
                    environment_id=place.id,
                    status=status,
                    address=address,
                )
            )
        return endpoint_id

    def serve(self, **weights: int) -> None:
        with self.database.write() as session:
            model = session.scalars(select(ModelRow)).one()
            place = session.scalars(select(EnvironmentRow).where(EnvironmentRow.is_default)).one()
            session.add(
                ModelEndpointRow(
                    model_id=model.id,
                    environment_id=place.id,
                    destinations=[
                        {"version_endpoint_id": name.replace("_", "-"), "weight": weight}
                        for name, weight in weights.items()
                    ],
                )
            )

    def set(self, endpoint_id: str, **columns: Any) -> None:
        with self.database.write() as session:
            where = VersionEndpointRow.id == endpoint_id
            session.execute(update(VersionEndpointRow).where(where).values(**columns))


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    database = Database(f"sqlite:///{tmp_path}/merlin.db")
    yield Rows(database)
    database.dispose()


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    with contextlib.ExitStack() as stack:

        def start(app: Any, **options: Any) -> Serving:
            serving = Serving(app, **options)
            stack.callback(serving.stop)
            return serving

        yield start


@pytest.fixture
def table(rows: Rows) -> RoutingTable:
    return RoutingTable(rows.database)


def application(gateway: Gateway) -> Any:
    """The gateway with a life of its own, as the server's application gives it one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await gateway(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await gateway.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    return app


@pytest.fixture
def client(table: RoutingTable, serve: Callable[..., Serving]) -> Iterator[httpx2.Client]:
    gateway = Gateway(table, body_bytes=4 * 2**20, new_id=lambda: "made-id")
    serving = serve(application(gateway), lifespan="on")
    with httpx2.Client(base_url=f"{serving.url}/endpoints", timeout=20, trust_env=False) as client:
        yield client
