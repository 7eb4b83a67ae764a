"""The settings tree: one typed place for everything that can be configured.

`merlin_server.settings_loading` reads it, `merlin_server.settings_checks` says what of it
contradicts itself. Every field has a description; the configuration reference is made from them
and held to them by a test. A secret is in a file of its own that a setting names; what may hold
one all the same is left out of the ``repr``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from merlin.artifacts import AzureOptions, GcsOptions, S3Options

BuilderName = Literal["native", "native-job", "kaniko", "buildkit"]


class Section(BaseModel):
    """A section: unknown keys are mistakes, not extras."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RegistrySettings(Section):
    """Where images are pushed to and looked up."""

    type: Literal["builtin", "docker", "gcr", "ecr", "layout"] = Field(
        "builtin",
        description="builtin: the registry inside this process; docker: any OCI registry; gcr: "
        "Google's Artifact or Container Registry; ecr: Amazon's; layout: a folder",
    )
    prefix: str = Field(
        "",
        description="Host and path before project/model, such as registry.example.com/ml; "
        "empty for builtin",
    )
    insecure: bool = Field(False, description="Speak plain HTTP to the registry")
    ca_file: Path | None = Field(None, description="PEM file of a private certificate authority")
    docker_config: Path | None = Field(
        None,
        description="config.json of docker login, or a folder with one, such as a mounted "
        "kubernetes.io/dockerconfigjson secret; empty: where docker login and podman login write",
    )
    username: str = Field("", description="User for password_file")
    password_file: Path | None = Field(
        None, description="File with the password, or with user:password if username is empty"
    )
    google_key_file: Path | None = Field(
        None,
        description="Service account key for type gcr; empty: Google's default credentials, "
        "workload identity among them",
    )
    aws_region: str = Field("", description="Region for type ecr, where the host does not tell it")


class S3Settings(Section):
    """Artifacts at ``s3://`` URLs; what is empty here is as AWS's own tools have it."""

    endpoint_url: str = Field(
        "", description="Address of another service than AWS, such as https://minio.example.com"
    )
    region: str = Field(
        "", description="Region; empty: the environment's, the profile's, us-east-1"
    )
    addressing_style: Literal["", "path", "virtual"] = Field(
        "", description="path, or virtual; empty: path with an endpoint_url, virtual without"
    )
    ca_file: Path | None = Field(None, description="PEM file of a private certificate authority")
    access_key_id_file: Path | None = Field(None, description="File with the access key's id")
    secret_access_key_file: Path | None = Field(None, description="File with the secret access key")
    credentials_file: Path | None = Field(
        None, description="Shared credentials file, as aws configure writes it"
    )
    profile: str = Field("", description="Profile of credentials_file, or of ~/.aws")

    def options(self) -> S3Options:
        return S3Options(**self.model_dump())


class GcsSettings(Section):
    """Artifacts at ``gs://`` URLs."""

    endpoint_url: str = Field(
        "", description="Another address of the service, such as a private one"
    )
    ca_file: Path | None = Field(None, description="PEM file of a private certificate authority")
    key_file: Path | None = Field(
        None,
        description="Service account key, or workload identity federation file; empty: Google's "
        "default credentials, workload identity among them",
    )

    def options(self) -> GcsOptions:
        return GcsOptions(**self.model_dump())


class AzureSettings(Section):
    """Artifacts at ``az://`` and ``abfss://`` URLs."""

    account: str = Field("", description="Storage account, where neither URL nor file names it")
    endpoint_url: str = Field("", description="Address of the blob service, if not the public one")
    ca_file: Path | None = Field(None, description="PEM file of a private certificate authority")
    connection_string_file: Path | None = Field(
        None, description="File with a connection string, as the portal shows it"
    )
    account_key_file: Path | None = Field(None, description="File with a key of the account")
    sas_token_file: Path | None = Field(
        None, description="File with a shared access signature of the container"
    )
    client_id: str = Field(
        "", description="Which managed identity, where the machine or pod has several"
    )

    def options(self) -> AzureOptions:
        return AzureOptions(**self.model_dump())


class ArtifactSettings(Section):
    """How the store that ``artifacts_url`` names is reached."""

    s3: S3Settings = Field(S3Settings(), description=S3Settings.__doc__)
    gcs: GcsSettings = Field(GcsSettings(), description=GcsSettings.__doc__)
    azure: AzureSettings = Field(AzureSettings(), description=AzureSettings.__doc__)

    def of(self, url: str) -> S3Options | GcsOptions | AzureOptions | None:
        """Return the options of a URL's store, or ``None`` where nothing is set for it."""
        scheme = url.partition(":")[0]
        sections = (self.s3, self.gcs, self.azure)
        return next(
            (
                section.options()
                for section in sections
                if section.model_fields_set and scheme in section.options().schemes
            ),
            None,
        )


class BuildJobSettings(Section):
    """Building images as Kubernetes Jobs: where and how they run."""

    kubeconfig: Path | None = Field(
        None,
        description="kubeconfig of the build cluster; empty: the one this server's Pod runs in, or "
        "the one KUBECONFIG names",
    )
    cluster: dict[str, Any] = Field(
        {},
        repr=False,
        description="cluster and user, as a kubeconfig has them, instead of kubeconfig",
    )
    namespace: str = Field("mlp", description="Namespace of the Jobs and of the secrets below")
    tools_image: str = Field("", description="Image with the merlin command, for our own steps")
    builder_image: str = Field("", description="Pinned image of Kaniko or BuildKit")
    base_images: dict[str, str] = Field(
        {}, description="Base image by Python version, such as 3.11; others use images.base"
    )
    registry_type: Literal["", "docker", "gcr", "ecr"] = Field(
        "",
        description="What the registry's secret holds: a Docker login, a Google key, or "
        "AWS credentials; empty: what fits registry.type",
    )
    registry_secret: str = Field(
        "", description="Secret to push with; empty: the identity of the service account"
    )
    registry_secret_key: str = Field(
        "",
        description="Key in it; empty: config.json, kaniko-secret.json or credentials, by type",
    )
    registry_ca_config_map: str = Field(
        "", description="Config map whose ca.crt is the registry's private certificate authority"
    )
    store_type: Literal["", "s3", "gcs", "azure", "none"] = Field(
        "", description="What the blob store's secret holds; empty: what fits artifacts_url"
    )
    store_secret: str = Field(
        "", description="Secret to read models with; empty: the identity of the service account"
    )
    store_secret_key: str = Field(
        "",
        description="Key in it; empty: credentials, kaniko-secret.json or connection-string",
    )
    netrc_secret: str = Field(
        "",
        description="Secret whose key netrc has the credentials of package indexes, for builder "
        "native-job; the others run the model's code and get none",
    )
    share_locks: bool = Field(
        True,
        description="Keep dependency locks beside the artifacts, as the server does, for builder "
        "native-job; its account must be able to write there",
    )
    service_account: str = Field("", description="Service account of the Pods")
    token_audience: str = Field(
        "", description="Mount a token of the service account for this audience into our own steps"
    )
    environment: dict[str, str] = Field(
        {}, description="Variables of our own steps: regions, endpoints, role names; no secrets"
    )
    label_prefix: str = Field("gojek.com/", description="Prefix of the labels of Jobs")
    platform_environment: str = Field("dev", description="Value of the label environment")
    requests: dict[str, str] = Field(
        {"cpu": "500m", "memory": "1Gi"}, description="What a step requests"
    )
    limits: dict[str, str] = Field({"memory": "4Gi"}, description="What a step may use")
    largest: dict[str, str] = Field({}, description="Largest cpu and memory a build may ask for")
    tolerations: list[dict[str, Any]] = Field([], description="Tolerations of the Pods")
    node_selector: dict[str, str] = Field({}, description="Node selector of the Pods")
    retries: int = Field(3, ge=0, description="Tries of a Job after its first")
    retention_seconds: int = Field(
        172800, ge=0, description="How long Jobs that have ended are kept"
    )
    safe_to_evict: bool = Field(False, description="Let the autoscaler move running builds")
    kaniko_arguments: list[str] = Field(
        [], description="More arguments for Kaniko; none that push or carry secrets"
    )
    build_args: dict[str, str] = Field({}, description="More build arguments; no secrets")
    dockerfile_config_map: str = Field(
        "", description="Config map whose key Dockerfile is built instead of Merlin's"
    )
    buildkit_mode: Literal["rootless", "privileged"] = Field(
        "rootless", description="How BuildKit is run"
    )
    pod_template: dict[str, Any] = Field(
        {}, description="Strategic merge patch over the Pod template"
    )


class ImageSettings(Section):
    """How images are built."""

    builder: BuilderName = Field(
        "native",
        description="native: in this process; native-job, kaniko, buildkit: as a Kubernetes Job",
    )
    model_builders: dict[str, BuilderName] = Field(
        {}, description="Builder of single models, by project/model"
    )
    jobs: BuildJobSettings = Field(BuildJobSettings(), description=BuildJobSettings.__doc__)
    base: str = Field(
        "auto",
        description="Base image: a reference ({python} is replaced), layout:DIR, debian: (made "
        "from Debian packages of this machine's sources), or auto (debian: where apt is, else "
        "Docker Hub's python slim)",
    )
    batch_base: str = Field(
        "", description="Base image of pyfunc_v2 models, for prediction jobs; empty: base"
    )
    platform: str = Field(
        "linux/amd64",
        description="What images are for: linux/amd64, linux/arm64, or both with a comma between "
        "them. A uv target triple such as x86_64-manylinux_2_28 fixes the C library that "
        "dependencies may need, which is otherwise read from the base image",
    )
    python_versions: list[str] = Field(
        ["3.9", "3.10", "3.11", "3.12", "3.13"], description="Python versions models may ask for"
    )
    index_url: str = Field(
        "", description="Package index instead of the default; no credentials in it"
    )
    netrc_file: Path | None = Field(
        None,
        description="netrc file with the credentials for package indexes, by host; "
        "empty: ~/.netrc of the server",
    )
    codec: Literal["zstd", "gzip"] = Field(
        "zstd", description="How layers are compressed; gzip where registry or nodes know no zstd"
    )
    byte_compile: bool = Field(
        True,
        description="Put byte code beside Python modules, where the base's Python can run here",
    )
    lease_seconds: float = Field(
        5,
        ge=0,
        description="How long an image that was seen in the registry is not asked for again; 0 "
        "asks at every deploy",
    )
    cache_dir: Path | None = Field(
        None, description="Folder of wheels, layers and locks; empty: cache in the data folder"
    )
    build_timeout_seconds: float = Field(600, description="Deadline of one build")


class EnvironmentSettings(Section):
    """One place models are deployed to."""

    name: str = Field(description="Name shown to users")
    cluster: str = Field("local", description="Name of the cluster, shown in containers and logs")
    deployer: str = Field("process", description="Deployer backend: process, or an installed one")
    is_default: bool = Field(False, description="Used when a request names none")
    image_builder: Literal["", BuilderName] = Field(
        "", description="Builder of what is deployed here; empty: images.builder"
    )
    region: str = Field("", description="Shown to users")
    gcp_project: str = Field("", description="Shown to users")
    max_cpu: str = Field("8", description="Largest CPU request")
    max_memory: str = Field("8Gi", description="Largest memory request")
    max_allowed_replica: int = Field(0, description="Largest max_replica; 0 means no limit")
    deployment_timeout_seconds: float = Field(
        300, description="Deadline of one deploy without its build"
    )
    default_resource_request: dict[str, str | int] = Field(
        {"min_replica": 1, "max_replica": 1, "cpu_request": "500m", "memory_request": "512Mi"},
        description="Used when a deploy asks for none",
    )


class OperationsSettings(Section):
    """The operations engine."""

    workers: int = Field(4, ge=1, description="Operations worked on at once by this process")
    lease_seconds: float = Field(15, gt=0, description="How long a dead worker holds its operation")
    poll_seconds: float = Field(
        1, gt=0, description="How often other replicas' requests are looked for"
    )


class LimitSettings(Section):
    """Bounds on what clients send."""

    request_bytes: int = Field(16 * 2**20, description="Largest JSON body of the API")
    predict_bytes: int = Field(
        128 * 2**20, description="Largest prediction body the gateway forwards"
    )


class AuthSettings(Section):
    """Who may call the API."""

    mode: Literal["auto", "open", "token"] = Field(
        "auto",
        description="auto: open on a loopback address, token elsewhere; open: no identity "
        "asked; token: bearer tokens",
    )
    open_predictions: bool = Field(
        False, description="In token mode, answer predictions at /endpoints without a token"
    )


class Settings(Section):
    """Everything. Instances are immutable, and read nothing by themselves."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    public_url: str = Field("", description="Address clients use, if not http://host:port")
    data_dir: Path = Field(Path(".merlin"), description="Folder for everything kept locally")
    database_url: str = Field(
        "", description="postgresql://... ; empty: SQLite in the data folder", repr=False
    )
    database_password_file: Path | None = Field(
        None, description="File with the password of database_url, which then has none"
    )
    artifacts_url: str = Field("", description="Blob store URL; empty: a folder in the data folder")
    artifacts: ArtifactSettings = Field(ArtifactSettings(), description=ArtifactSettings.__doc__)
    tracking_url: str = Field(
        "", description="An MLflow server to use instead of the built-in tracking", repr=False
    )
    environments: list[EnvironmentSettings] = Field(
        [EnvironmentSettings(name="local", is_default=True)], description="Deployment targets"
    )
    registry: RegistrySettings = Field(RegistrySettings(), description=RegistrySettings.__doc__)
    images: ImageSettings = Field(ImageSettings(), description=ImageSettings.__doc__)
    operations: OperationsSettings = Field(
        OperationsSettings(), description=OperationsSettings.__doc__
    )
    limits: LimitSettings = Field(LimitSettings(), description=LimitSettings.__doc__)
    auth: AuthSettings = Field(AuthSettings(), description=AuthSettings.__doc__)
