"""Which deploys are possible, and what a request makes of what is stored (merlin.md 2.4).

Everything here is decided from the request and the rows alone, before anything is written.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from merlin_server.endpoints.errors import DeployInvalid
from merlin_server.endpoints.model import AutoscalingPolicy, EndpointBody, TransformerBody
from merlin_server.endpoints.quantities import parse_quantity
from merlin_server.environments.store import EnvironmentRow
from merlin_server.images.options import BuildOptions
from merlin_server.models.store import ModelRow
from merlin_server.versions.store import VersionRow

SERVERLESS, RAW = "serverless", "raw_deployment"
HTTP, UPI = "HTTP_JSON", "UPI_V1"

_DEFAULT_POLICIES = {
    SERVERLESS: {"metrics_type": "concurrency", "target_value": 1.0},
    RAW: {"metrics_type": "cpu_utilization", "target_value": 50.0},
}
_METRICS = {
    SERVERLESS: ("cpu_utilization", "memory_utilization", "concurrency", "rps"),
    RAW: ("cpu_utilization",),
}
_REPLACED = {
    "image_builder_resource_request",
    "env_vars",
    "secrets",
    "transformer",
    "logger",
    "model_observability",
}
_LOGGER_MODES = ("all", "request", "response")


def check_deploy(body: EndpointBody, model: ModelRow, version: VersionRow) -> None:
    """Raise `DeployInvalid` for the first thing that can never work."""
    resources = body.resource_request
    if resources is not None:
        low, high = resources.min_replica, resources.max_replica
        if low is not None and high is not None and low > high:
            raise DeployInvalid("min_replica must not be greater than max_replica")
        if high is not None and high < 1:
            raise DeployInvalid("max_replica must be at least 1")
    if model.type == "custom" and not (version.custom_predictor or {}).get("image"):
        raise DeployInvalid(
            "a model of type custom needs custom_predictor.image",
            hint="Set it with PATCH on the version.",
        )
    if model.type == "pyfunc_v2":
        raise DeployInvalid("a model of type pyfunc_v2 runs as batch job only")
    _check_protocol(body, model)
    _check_transformer(body.transformer)
    if body.secrets:
        raise DeployInvalid(
            f"secret {body.secrets[0].mlp_secret_name!r} does not exist", field="secrets"
        )
    wants_observability = body.enable_model_observability or bool(
        (body.model_observability or {}).get("enabled")
    )
    if wants_observability and model.type not in {"pyfunc", "xgboost"}:
        raise DeployInvalid(f"model observability is not possible for type {model.type}")


def merge_spec(
    stored: dict[str, Any], body: EndpointBody, environment: EnvironmentRow
) -> dict[str, Any]:
    """Return the spec that ``body`` makes of ``stored`` (empty for a new endpoint).

    Raises `DeployInvalid` where the outcome breaks a rule of the mode or a limit of the
    environment.
    """
    mode = body.deployment_mode or stored.get("deployment_mode") or SERVERLESS
    if mode not in _DEFAULT_POLICIES:
        raise DeployInvalid(f"deployment mode {mode!r} is not serverless or raw_deployment")
    present = body.model_dump(mode="json", exclude_none=True)
    spec = {
        "resource_request": _resources(stored, present, environment),
        "image_builder_resource_request": None,
        "env_vars": [],
        "secrets": [],
        "transformer": None,
        "logger": None,
        "model_observability": None,
        **{key: stored[key] for key in stored if key in _REPLACED},
        **{key: present[key] for key in present if key in _REPLACED},
        "deployment_mode": mode,
        "autoscaling_policy": _policy(stored, body.autoscaling_policy, mode),
        "protocol": body.protocol or stored.get("protocol") or HTTP,
        "enable_model_observability": body.enable_model_observability,
    }
    BuildOptions.asked(spec["image_builder_resource_request"])
    spec["env_vars"] = [{"value": "", **variable} for variable in spec["env_vars"]]
    if spec["logger"] is not None:
        spec["logger"] = _logger(spec["logger"])
    return spec


def _check_protocol(body: EndpointBody, model: ModelRow) -> None:
    if body.protocol not in {None, "", HTTP, UPI}:
        raise DeployInvalid(f"protocol {body.protocol!r} is not {HTTP} or {UPI}")
    if body.protocol == UPI:
        possible = model.type in {"pyfunc", "custom"}
        reason = "is not served by this Merlin yet" if possible else "is for pyfunc and custom only"
        raise DeployInvalid(f"protocol {UPI} {reason}", hint=f"Use {HTTP}.")


def _check_transformer(transformer: TransformerBody | None) -> None:
    if transformer is None or not transformer.enabled:
        return
    kind = transformer.transformer_type or "custom"
    if kind not in {"custom", "standard"}:
        raise DeployInvalid(f"transformer type {kind!r} is not custom or standard")
    if kind == "custom" and not transformer.image:
        raise DeployInvalid("a custom transformer needs an image")
    raise DeployInvalid(
        f"a {kind} transformer cannot be run by this Merlin yet",
        hint="Deploy without it; a pyfunc model can do the same in its own code.",
    )


def _resources(
    stored: dict[str, Any], present: dict[str, Any], environment: EnvironmentRow
) -> dict[str, Any]:
    default: dict[str, Any] = environment.config["default_resource_request"]
    if "resource_request" in present:
        resources = {**default, **present["resource_request"]}
    else:
        resources = stored.get("resource_request") or dict(default)
    if int(resources["min_replica"]) > int(resources["max_replica"]):
        raise DeployInvalid("min_replica must not be greater than max_replica")
    limit = int(environment.config["max_allowed_replica"])
    if limit and int(resources["max_replica"]) > limit:
        raise DeployInvalid(f"max_replica is more than {environment.name} allows ({limit})")
    for field, maximum in (
        ("cpu_request", "max_cpu"),
        ("cpu_limit", "max_cpu"),
        ("memory_request", "max_memory"),
        ("gpu_request", ""),
    ):
        if resources.get(field):
            allowed = environment.config[maximum] if maximum else ""
            _check_quantity(field, str(resources[field]), allowed, environment.name)
    return resources


def _check_quantity(field: str, text: str, allowed: str, environment: str) -> None:
    try:
        amount = parse_quantity(text)
    except ValueError as error:
        raise DeployInvalid(f"{field}: {error}", field=field) from None
    if amount < 0:
        raise DeployInvalid(f"{field} must not be negative", field=field)
    if allowed and amount > (parse_quantity(allowed) or Decimal("Infinity")):
        raise DeployInvalid(
            f"{field} {text} is more than {environment} allows ({allowed})", field=field
        )


def _policy(stored: dict[str, Any], wanted: AutoscalingPolicy | None, mode: str) -> dict[str, Any]:
    if wanted is None:
        same_mode = stored.get("deployment_mode") == mode
        kept: dict[str, Any] | None = stored.get("autoscaling_policy") if same_mode else None
        return kept or dict(_DEFAULT_POLICIES[mode])
    metric, target = wanted.metrics_type, wanted.target_value
    if metric not in _METRICS[SERVERLESS]:
        raise DeployInvalid(f"autoscaling metric {metric!r} is not known", field="metrics_type")
    if metric not in _METRICS[mode]:
        raise DeployInvalid(f"autoscaling in mode {mode} is by cpu_utilization only")
    if metric.endswith("_utilization") and target > 100:
        raise DeployInvalid(f"the target of {metric} is a percentage of at most 100")
    return wanted.model_dump(mode="json")


def _logger(logger: dict[str, Any]) -> dict[str, Any]:
    """An unknown mode becomes ``all``."""
    cleaned = dict(logger)
    for part in ("model", "transformer"):
        config = cleaned.get(part)
        if isinstance(config, dict) and config.get("mode") not in _LOGGER_MODES:
            cleaned[part] = {**config, "mode": "all"}
    return cleaned
