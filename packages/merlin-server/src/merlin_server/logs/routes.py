"""HTTP route of logs (merlin.md 4.9): plain lines, oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from merlin_server.deployers.port import LogLine
from merlin_server.logs.following import Followers
from merlin_server.logs.service import LogQuery, Logs
from merlin_server.wire_types import MAX_ID, ApiRoute, error_answers

_Id = Annotated[int, Field(ge=0, le=MAX_ID)]
_YEAR = 366 * 24 * 3600


class LogsQuery(BaseModel):
    """Query of ``/logs``. Model and version choose what is read; cluster and namespace must
    agree with them."""

    cluster: str
    namespace: Annotated[str, Field(description="The project's name")]
    component_type: Annotated[str, Field(description="model or image_builder")]
    project_name: str = ""
    model_id: _Id | None = None
    model_name: str = ""
    version_id: _Id | None = None
    revision_id: _Id = 0
    prediction_job_id: str = ""
    container_name: str = ""
    prefix: Literal["", "pod", "container", "pod_and_container"] = ""
    follow: bool = False
    previous: bool = False
    since_seconds: Annotated[int, Field(ge=0, le=_YEAR)] | None = None
    since_time: datetime | None = None
    timestamps: bool = False
    tail_lines: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    limit_bytes: Annotated[int, Field(ge=1, le=2**40)] | None = None


def create_router(logs: Logs, followers: Followers) -> APIRouter:
    router = APIRouter(tags=["logs"], route_class=ApiRoute)

    @router.get(
        "/logs",
        summary="Read or follow logs",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **error_answers(400, 404, 503),
        },
    )
    def read_logs(query: Annotated[LogsQuery, Query()]) -> StreamingResponse:
        """One line of text a log line, with prefix and time in front if asked for."""
        lines = logs.read(_wanted(query))
        return StreamingResponse(
            followers.stream(_encode(lines, query), limit_bytes=query.limit_bytes),
            media_type="text/plain; charset=utf-8",
            headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
        )

    return router


def _wanted(query: LogsQuery) -> LogQuery:
    since = query.since_time
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    if query.since_seconds is not None:
        since = datetime.now(UTC) - timedelta(seconds=query.since_seconds)
    return LogQuery(
        cluster=query.cluster,
        namespace=query.namespace,
        component=query.component_type,
        project=query.project_name,
        model_id=query.model_id,
        model=query.model_name,
        version_id=query.version_id,
        revision=query.revision_id,
        container=query.container_name,
        since=since,
        tail=query.tail_lines,
        follow=query.follow,
    )


def _encode(lines: Iterator[LogLine], query: LogsQuery) -> Iterator[bytes]:
    for line in lines:
        prefix = f"[{line.container}] " if query.prefix else ""
        time = f"{line.time.isoformat()} " if query.timestamps else ""
        yield f"{prefix}{time}{line.text}\n".encode("utf-8", "replace")
