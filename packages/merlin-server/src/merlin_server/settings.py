"""The settings tree: one typed place for everything that can be configured.

Read from ``--config`` YAML files (later ones win), then from environment variables
``MERLIN_<SECTION>__<KEY>``. Every field has a description; the configuration reference is made
from them and held to them by a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Section(BaseModel):
    """A section: unknown keys are mistakes, not extras."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    @model_validator(mode="after")
    def _one_place_of_credentials(self) -> RegistrySettings:
        given = [
            name
            for name in ("docker_config", "password_file", "google_key_file")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            msg = f"{' and '.join(given)} are given, and only one of them can count"
            raise ValueError(msg)
        if given and self.type in {"builtin", "layout"}:
            msg = f"{given[0]} is given, and type {self.type} asks for no credentials"
            raise ValueError(msg)
        if self.google_key_file is not None and self.type != "gcr":
            msg = f"google_key_file is given, and type is {self.type}, not gcr"
            raise ValueError(msg)
        if self.username and self.password_file is None:
            msg = "username is given without password_file"
            raise ValueError(msg)
        return self


class ImageSettings(Section):
    """How images are built."""

    base: str = Field(
        "auto",
        description="Base image: a reference ({python} is replaced), layout:DIR, debian: (made "
        "from Debian packages of this machine's sources), or auto (debian: where apt is, else "
        "Docker Hub's python slim)",
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


class Settings(BaseSettings):
    """Everything. Instances are immutable."""

    model_config = SettingsConfigDict(
        env_prefix="MERLIN_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    public_url: str = Field("", description="Address clients use, if not http://host:port")
    data_dir: Path = Field(Path(".merlin"), description="Folder for everything kept locally")
    database_url: str = Field("", description="postgresql://... ; empty: SQLite in the data folder")
    artifacts_url: str = Field("", description="Blob store URL; empty: a folder in the data folder")
    tracking_url: str = Field(
        "", description="An MLflow server to use instead of the built-in tracking"
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

    @model_validator(mode="after")
    def _one_default_environment(self) -> Settings:
        names = [environment.name for environment in self.environments]
        if len(set(names)) != len(names):
            msg = "two environments have the same name"
            raise ValueError(msg)
        if sum(environment.is_default for environment in self.environments) != 1:
            msg = "exactly one environment must have is_default: true"
            raise ValueError(msg)
        return self
