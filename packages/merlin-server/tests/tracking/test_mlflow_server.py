"""An MLflow server that is away, refuses or is none: clear errors, and no secret in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from merlin.artifacts.memory import MemoryStore
from merlin.errors import MerlinError
from merlin_server.tracking.artifact_location import ArtifactLocations
from merlin_server.tracking.errors import (
    InvalidTrackingRequest,
    TrackingConflict,
    TrackingNotFound,
    TrackingServerDenied,
    TrackingServerFailed,
    TrackingServerUnavailable,
)
from merlin_server.tracking.mlflow_server import MlflowTracking

URL = "http://user:secret@mlflow.test/prefix/"


def answering(status: int, body: Any) -> MlflowTracking:
    content = body if isinstance(body, str) else json.dumps(body)
    return asking(lambda _: httpx2.Response(status, text=content))


def asking(answer: Callable[[httpx2.Request], httpx2.Response]) -> MlflowTracking:
    locations = ArtifactLocations(MemoryStore())
    return MlflowTracking(URL, locations, transport=httpx2.MockTransport(answer))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "taken"}, TrackingConflict),
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}, TrackingNotFound),
        (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}, InvalidTrackingRequest),
        (403, {"error_code": "PERMISSION_DENIED", "message": "no"}, TrackingServerDenied),
        (401, "You are not authenticated", TrackingServerDenied),
        (503, "<html>", TrackingServerUnavailable),
        (500, {"error_code": "INTERNAL_ERROR", "message": "bug"}, TrackingServerFailed),
        (200, "<html>hello", TrackingServerFailed),
        (200, [], TrackingServerFailed),
        (200, {"experiment_id": 7}, TrackingServerFailed),
        (302, "", TrackingServerFailed),
        (404, {"error_code": ["odd"]}, TrackingServerFailed),
    ],
)
def test_an_answer_becomes_an_error(status: int, body: Any, error: type[MerlinError]) -> None:
    with pytest.raises(error) as raised:
        answering(status, body).create_experiment("churn")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "answer", [{}, {"run": None}, {"run": {"info": []}}, {"run": {"info": {}}}]
)
def test_a_run_without_its_fields_is_not_mlflow(answer: Any) -> None:
    with pytest.raises(TrackingServerFailed):
        answering(200, answer).create_run("1")


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    tracking = MlflowTracking("http://user:secret@127.0.0.1:1", ArtifactLocations(MemoryStore()))
    with pytest.raises(TrackingServerUnavailable, match=r"127\.0\.0\.1:1") as raised:
        tracking.create_run("1")
    assert "secret" not in str(raised.value)
    tracking.close()


def test_a_silent_server_is_not_waited_for_for_ever() -> None:
    def silent(request: httpx2.Request) -> httpx2.Response:
        assert request.extensions["timeout"]["read"] <= 60
        raise httpx2.ReadTimeout("", request=request)

    with pytest.raises(TrackingServerUnavailable, match="ReadTimeout"):
        asking(silent).create_experiment("churn")


def test_requests_carry_the_password_and_the_prefix() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"experiment_id": "5"})

    assert asking(answer).create_experiment("churn") == "5"
    assert str(seen[0].url) == "http://mlflow.test/prefix/api/2.0/mlflow/experiments/create"
    assert seen[0].headers["authorization"].startswith("Basic ")


def test_files_that_are_not_behind_the_proxy_are_left_alone() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path.rpartition("/prefix")[2])
        run = {"info": {"run_id": "r", "artifact_uri": "s3://bucket/1/r/artifacts"}}
        return httpx2.Response(200, json={"run": run})

    asking(answer).delete_run("r")
    assert asked == ["/api/2.0/mlflow/runs/get", "/api/2.0/mlflow/runs/delete"]
