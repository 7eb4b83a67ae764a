"""HTTP routes of environments (merlin.md 2.2, route 1)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from merlin_server.environments.model import Environment
from merlin_server.environments.service import Environments
from merlin_server.wire_types import ApiRoute


def create_router(environments: Environments) -> APIRouter:
    router = APIRouter(tags=["environments"], route_class=ApiRoute)

    @router.get("/environments", summary="List environments")
    def list_environments(
        name: Annotated[str | None, Query(description="Beginning of the name")] = None,
    ) -> list[Environment]:
        return environments.list(name)

    return router
