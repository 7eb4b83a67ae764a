"""The names of ``import merlin``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import merlin
import merlin.fluent

# What Merlin's own SDK has, without batch and local Docker.
FLUENT = """
set_url get_url list_project set_project active_project list_environment get_environment
get_default_environment set_model active_model new_model_version log_param log_metric set_tag
delete_tag get_param get_metric get_tag list_tag log_artifact download_artifact log_model
log_pyfunc_model log_pytorch_model log_custom_model build_image deploy undeploy serve_traffic
set_traffic stop_serving_traffic list_model_endpoints
"""


def test_every_public_name_resolves_and_is_listed() -> None:
    for name in merlin.__all__:
        assert getattr(merlin, name) is not None
    assert set(FLUENT.split()) <= set(merlin.__all__)
    assert set(merlin.__all__) <= set(dir(merlin))


def test_type_checkers_see_the_names_that_run() -> None:
    tree = ast.parse(Path(merlin.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(merlin.__all__)


def test_every_public_function_of_the_fluent_module_is_exported() -> None:
    own = {
        name
        for name, value in vars(merlin.fluent).items()
        if callable(value) and getattr(value, "__module__", "") == "merlin.fluent"
    }
    assert {name for name in own if name.islower() and name[0] != "_"} <= set(merlin.__all__)


def test_a_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'deplay'"):
        _ = merlin.deplay


def test_importing_merlin_loads_nothing_heavy() -> None:
    script = "import sys, merlin; print([m for m in ('pydantic', 'httpx2') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
