"""The whole API against requests made from its own document: right ones, and wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from merlin_server.auth.policy import Policy
from merlin_server.settings import Settings

EXAMPLES = 12
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_makes_the_server_fail(
    server: Any, made: Any, settings: Settings, mode: GenerationMode
) -> None:
    endpoint = made.deploy()
    server.observe(endpoint["id"], status="running", live_revision=1)
    rule = {"destinations": [{"version_endpoint_id": endpoint["id"], "weight": 100}]}
    client = made.client
    client.post(f"{made.model}/endpoints", json={"rule": rule})
    known = {
        "project_id": made.project_id,
        "model_id": made.model_id,
        "version_id": made.version_id,
        "endpoint_id": endpoint["id"],
        "model_endpoint_id": 1,
    }
    any_host = type(server)(server.database, settings, Policy((), None))
    schema = schemathesis.openapi.from_asgi("/openapi.json", any_host.app)
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not _takes_input(operation):
            continue
        _fuzz(operation, mode, known)
        count += 1
    assert count > 25


def _fuzz(operation: Any, mode: GenerationMode, known: dict[str, Any]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode), existing=st.booleans())
    @hypothesis_settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Any, existing: bool) -> None:
        if existing:
            case.path_parameters = {
                name: known.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        case.call_and_validate(checks=CHECKS)

    run()


def _takes_input(operation: Any) -> bool:
    return bool(operation.body or operation.query or operation.path_parameters)
