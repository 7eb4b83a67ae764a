"""Merlin: log a model, deploy it, call it.

    import merlin

    merlin.set_url("http://127.0.0.1:8080")
    merlin.create_project("demo")
    merlin.set_model("cancer", merlin.ModelType.SKLEARN)
    with merlin.new_model_version() as version:
        merlin.log_metric("accuracy", 0.97)
        merlin.log_model(classifier)
    endpoint = merlin.deploy(version)
    print(merlin.serve_traffic({endpoint: 100}).url)

Names are found on first use, so that ``import merlin.model`` inside an image needs nothing but the
standard library of Python 3.9; everything else needs Python 3.11.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merlin.autoscaling import AutoscalingPolicy, MetricsType
    from merlin.client import MerlinClient
    from merlin.client.errors import ModelEndpointDeploymentError
    from merlin.deployment_mode import DeploymentMode
    from merlin.errors import MerlinError
    from merlin.fluent import (
        active_model,
        active_project,
        build_image,
        create_project,
        delete_tag,
        deploy,
        download_artifact,
        get_default_environment,
        get_environment,
        get_metric,
        get_param,
        get_tag,
        get_url,
        list_environment,
        list_model_endpoints,
        list_project,
        list_tag,
        log_artifact,
        log_artifacts,
        log_custom_model,
        log_metric,
        log_metrics,
        log_model,
        log_param,
        log_params,
        log_pyfunc_model,
        log_pytorch_model,
        new_model_version,
        serve_traffic,
        set_model,
        set_project,
        set_tag,
        set_traffic,
        set_url,
        stop_serving_traffic,
        undeploy,
    )
    from merlin.logger import Logger, LoggerConfig, LoggerMode
    from merlin.model import ModelType
    from merlin.mounted_mlp_secret import MountedMLPSecret
    from merlin.protocol import Protocol
    from merlin.pyfunc import PyFuncModel, PyFuncV2Model, PyFuncV3Model
    from merlin.resource_request import ResourceRequest
    from merlin.transformer import StandardTransformer, Transformer
    from merlin.version_image import VersionImage

__all__ = [
    "AutoscalingPolicy",
    "DeploymentMode",
    "Logger",
    "LoggerConfig",
    "LoggerMode",
    "MerlinClient",
    "MerlinError",
    "MetricsType",
    "ModelEndpointDeploymentError",
    "ModelType",
    "MountedMLPSecret",
    "Protocol",
    "PyFuncModel",
    "PyFuncV2Model",
    "PyFuncV3Model",
    "ResourceRequest",
    "StandardTransformer",
    "Transformer",
    "VersionImage",
    "active_model",
    "active_project",
    "build_image",
    "create_project",
    "delete_tag",
    "deploy",
    "download_artifact",
    "get_default_environment",
    "get_environment",
    "get_metric",
    "get_param",
    "get_tag",
    "get_url",
    "list_environment",
    "list_model_endpoints",
    "list_project",
    "list_tag",
    "log_artifact",
    "log_artifacts",
    "log_custom_model",
    "log_metric",
    "log_metrics",
    "log_model",
    "log_param",
    "log_params",
    "log_pyfunc_model",
    "log_pytorch_model",
    "new_model_version",
    "serve_traffic",
    "set_model",
    "set_project",
    "set_tag",
    "set_traffic",
    "set_url",
    "stop_serving_traffic",
    "undeploy",
]

_HOMES = {
    "merlin.autoscaling": ("AutoscalingPolicy", "MetricsType"),
    "merlin.client": ("MerlinClient",),
    "merlin.client.errors": ("ModelEndpointDeploymentError",),
    "merlin.deployment_mode": ("DeploymentMode",),
    "merlin.errors": ("MerlinError",),
    "merlin.logger": ("Logger", "LoggerConfig", "LoggerMode"),
    "merlin.model": ("ModelType",),
    "merlin.mounted_mlp_secret": ("MountedMLPSecret",),
    "merlin.protocol": ("Protocol",),
    "merlin.pyfunc": ("PyFuncModel", "PyFuncV2Model", "PyFuncV3Model"),
    "merlin.resource_request": ("ResourceRequest",),
    "merlin.transformer": ("StandardTransformer", "Transformer"),
    "merlin.version_image": ("VersionImage",),
}
_CLASSES = {name: module for module, names in _HOMES.items() for name in names}
_STDLIB_ONLY = ("merlin.model", "merlin.pyfunc", "merlin.protocol", "merlin.errors")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _CLASSES.get(name, "merlin.fluent")
    if sys.version_info < (3, 11) and home not in _STDLIB_ONLY:
        running = ".".join(map(str, sys.version_info[:2]))
        raise ImportError(
            f"merlin.{name} needs Python 3.11 or later; this is {running}, where only merlin.model "
            "and merlin.pyfunc work."
        )
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
