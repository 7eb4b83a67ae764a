"""HTTP routes of projects (merlin.md 2.2, routes 2 and 3, and the two its clients always had)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from merlin_server.projects.model import Project, ProjectBody
from merlin_server.projects.service import Projects
from merlin_server.wire_types import ApiRoute, PathId, error_answers


def create_router(projects: Projects) -> APIRouter:
    router = APIRouter(tags=["projects"], route_class=ApiRoute)

    @router.get("/projects", summary="List projects")
    def list_projects(
        name: Annotated[str | None, Query(description="Exact name")] = None,
    ) -> list[Project]:
        return projects.list(name)

    @router.post(
        "/projects", status_code=201, summary="Create a project", responses=error_answers(400)
    )
    def create_project(body: ProjectBody) -> Project:
        return projects.create(body)

    @router.get("/projects/{project_id}", summary="Get a project", responses=error_answers(404))
    def get_project(project_id: PathId) -> Project:
        return projects.get(project_id)

    @router.put(
        "/projects/{project_id}", summary="Change a project", responses=error_answers(400, 404)
    )
    def update_project(project_id: PathId, body: ProjectBody) -> Project:
        return projects.update(project_id, body)

    return router
