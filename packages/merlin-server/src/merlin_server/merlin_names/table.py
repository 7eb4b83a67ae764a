"""Every configuration key of Merlin, and what becomes of it here.

To map a key that is only explained so far, give it a ``setting`` instead of a ``reason``. A reason
continues "KEY is not used: ". A name that ends in ``.*`` stands for all keys below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from merlin_server.merlin_names import values


@dataclass(frozen=True)
class Mapped:
    """The key is the setting at a path, once its value is read. ``advice`` names a better form."""

    setting: str
    read: Callable[[Any], Any] = values.text
    advice: str = ""


@dataclass(frozen=True)
class Unused:
    """The key does nothing here."""

    reason: str


@dataclass(frozen=True)
class Part:
    """The key is one part of a setting, which `translation` puts together out of several."""

    setting: str


_ELSEWHERE = "it belongs to a service of Merlin's that is not needed here"
_POOL = "the pool of database connections looks after itself"
_DEPLOYER = "it belongs to a deployer for Kubernetes, which is told in its environment"
_SPARK = "it belongs to batch runs on Spark"
_DOCKERFILE = (
    "the build context is written from the model; a Dockerfile of your own goes to "
    "images.jobs.dockerfile_config_map (docs/dockerfiles.md)"
)
_PROGRAM = "an image for prediction jobs names no program; the job does"
_PAGES = "the pages come with the server"

KEYS: Mapping[str, Mapped | Unused | Part] = {
    "ImageBuilderConfig.DockerRegistry": Mapped("registry.prefix"),
    "ImageBuilderConfig.KanikoPushRegistryType": Mapped(
        "registry.type", values.registry_type, "ecr is a type of its own here"
    ),
    "ImageBuilderConfig.BuildTimeout": Mapped("images.build_timeout_seconds", values.seconds),
    "ImageBuilderConfig.SupportedPythonVersions": Mapped("images.python_versions", values.versions),
    "ImageBuilderConfig.KanikoDockerCredentialSecretName": Part("images.jobs.registry_secret"),
    "ImageBuilderConfig.KanikoServiceAccount": Mapped("images.jobs.service_account"),
    "ImageBuilderConfig.KanikoImage": Mapped(
        "images.jobs.builder_image",
        advice="it must know --oci-layout-path, --no-push-cache and caches of the form oci:FOLDER",
    ),
    "ImageBuilderConfig.KanikoAdditionalArgs": Mapped("images.jobs.kaniko_arguments", values.texts),
    "ImageBuilderConfig.KanikoAPIServerEnvVars": Part("images.jobs.environment"),
    "ImageBuilderConfig.ClusterName": Unused(
        "K8sConfig or images.jobs.kubeconfig says which cluster builds; its name is shown nowhere"
    ),
    "ImageBuilderConfig.GcpProject": Unused("an environment's gcp_project is what is shown"),
    "ImageBuilderConfig.BuildNamespace": Mapped("images.jobs.namespace"),
    "ImageBuilderConfig.BaseImage.ImageName": Mapped(
        "images.base", advice="images.jobs.base_images has one for each Python version"
    ),
    "ImageBuilderConfig.BaseImage.DockerfilePath": Unused(_DOCKERFILE),
    "ImageBuilderConfig.BaseImage.BuildContextURI": Unused(_DOCKERFILE),
    "ImageBuilderConfig.BaseImage.BuildContextSubPath": Unused(_DOCKERFILE),
    "ImageBuilderConfig.BaseImage.MainAppPath": Unused(_PROGRAM),
    "ImageBuilderConfig.PredictionJobBaseImage.ImageName": Mapped("images.batch_base"),
    "ImageBuilderConfig.PredictionJobBaseImage.DockerfilePath": Unused(_DOCKERFILE),
    "ImageBuilderConfig.PredictionJobBaseImage.BuildContextURI": Unused(_DOCKERFILE),
    "ImageBuilderConfig.PredictionJobBaseImage.BuildContextSubPath": Unused(_DOCKERFILE),
    "ImageBuilderConfig.PredictionJobBaseImage.MainAppPath": Unused(_PROGRAM),
    "ImageBuilderConfig.DefaultResources.Requests.CPU": Mapped("images.jobs.requests.cpu"),
    "ImageBuilderConfig.DefaultResources.Requests.Memory": Mapped("images.jobs.requests.memory"),
    "ImageBuilderConfig.DefaultResources.Limits.CPU": Mapped("images.jobs.limits.cpu"),
    "ImageBuilderConfig.DefaultResources.Limits.Memory": Mapped("images.jobs.limits.memory"),
    "ImageBuilderConfig.Retention": Mapped("images.jobs.retention_seconds", values.seconds),
    "ImageBuilderConfig.Tolerations": Mapped("images.jobs.tolerations", values.tolerations),
    "ImageBuilderConfig.NodeSelectors.*": Mapped("images.jobs.node_selector", values.labels),
    "ImageBuilderConfig.MaximumRetry": Mapped("images.jobs.retries", values.number),
    "ImageBuilderConfig.K8sConfig.*": Mapped(
        "images.jobs.cluster", values.section, "a file is better: images.jobs.kubeconfig"
    ),
    "ImageBuilderConfig.SafeToEvict": Mapped("images.jobs.safe_to_evict", values.switch),
    "MlflowConfig.TrackingURL": Mapped(
        "tracking_url", advice="leave it out for the built-in tracking"
    ),
    "MlflowConfig.ArtifactServiceType": Part("artifacts_url"),
    "DbConfig.Host": Part("database_url"),
    "DbConfig.Port": Part("database_url"),
    "DbConfig.User": Part("database_url"),
    "DbConfig.Password": Part("database_url"),
    "DbConfig.Database": Part("database_url"),
    "DbConfig.MigrationPath": Unused("migrations come with the server"),
    "DbConfig.ConnMaxIdleTime": Unused(_POOL),
    "DbConfig.ConnMaxLifetime": Unused(_POOL),
    "DbConfig.MaxIdleConns": Unused(_POOL),
    "DbConfig.MaxOpenConns": Unused(_POOL),
    "ClusterConfig.EnvironmentConfigPath": Part("environments"),
    "ClusterConfig.InClusterConfig": Unused(_DEPLOYER),
    "Port": Mapped("port", values.number),
    "NumOfQueueWorkers": Mapped("operations.workers", values.number),
    "AuthorizationConfig.AuthorizationEnabled": Mapped("auth.mode", values.auth_mode),
    "AuthorizationConfig.KetoRemoteRead": Unused("bearer tokens take the place of Keto"),
    "AuthorizationConfig.KetoRemoteWrite": Unused("bearer tokens take the place of Keto"),
    "AuthorizationConfig.Caching.*": Unused("bearer tokens take the place of Keto"),
    "Environment": Mapped("images.jobs.platform_environment"),
    "LoggerDestinationURL": Unused(_DEPLOYER),
    "MLObsLoggerDestinationURL": Unused(_DEPLOYER),
    "SwaggerPath": Unused("the API describes itself at /openapi.json"),
    "NamespaceLabelPrefix": Unused(_DEPLOYER),
    "DeploymentLabelPrefix": Mapped("images.jobs.label_prefix"),
    "PyfuncGRPCOptions.*": Unused("the model server speaks HTTP"),
    "FeatureToggleConfig.MonitoringConfig.*": Unused(
        "metrics are at /metrics; dashboards are yours"
    ),
    "FeatureToggleConfig.AlertConfig.*": Unused("alert rules belong to whoever scrapes /metrics"),
    "FeatureToggleConfig.ModelDeletionConfig.*": Unused("deleting models is always possible"),
    "MlpAPIConfig.*": Unused("projects and secrets are kept by the server itself"),
    "BatchConfig.*": Unused(_SPARK),
    "StandardTransformerConfig.*": Unused(_ELSEWHERE),
    "InferenceServiceDefaults.*": Unused(_DEPLOYER),
    "PyFuncPublisherConfig.*": Unused(_ELSEWHERE),
    "ObservabilityPublisher.*": Unused(_ELSEWHERE),
    "WebhooksConfig.*": Unused(_ELSEWHERE),
    "ReactAppConfig.*": Unused(_PAGES),
    "UI.*": Unused(_PAGES),
    "Sentry.*": Unused("errors are logged; nothing is sent anywhere"),
    "NewRelic.*": Unused("metrics are at /metrics; nothing is sent anywhere"),
}

# Too common as variables to be taken for Merlin's.
NOT_AS_VARIABLES = frozenset({"port", "environment"})

# The fields of an entry of Merlin's environments file.
ENVIRONMENT: Mapping[str, Mapped | Unused] = {
    "name": Mapped("name"),
    "cluster": Mapped("cluster"),
    "is_default": Mapped("is_default", values.switch),
    "region": Mapped("region"),
    "gcp_project": Mapped("gcp_project"),
    "deployment_timeout": Mapped("deployment_timeout_seconds", values.seconds),
    "max_cpu": Mapped("max_cpu"),
    "max_memory": Mapped("max_memory"),
    "max_allowed_replica": Mapped("max_allowed_replica", values.number),
    "default_deployment_config": Mapped("default_resource_request", dict),
    "is_prediction_job_enabled": Unused(_SPARK),
    "is_default_prediction_job": Unused(_SPARK),
    "default_prediction_job_config": Unused(_SPARK),
    "default_transformer_config": Unused(_ELSEWHERE),
    "namespace_timeout": Unused(_DEPLOYER),
    "gpus": Unused(_DEPLOYER),
    "topology_spread_constraints": Unused(_DEPLOYER),
    "pod_disruption_budget": Unused(_DEPLOYER),
    "queue_resource_percentage": Unused(_DEPLOYER),
    "k8s_config": Unused(_DEPLOYER),
}
