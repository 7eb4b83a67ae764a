"""Where credentials of registries come from."""

from merlin_images.registry.credentials.choose import RegistryType, choose_credentials
from merlin_images.registry.credentials.docker_files import DockerCredentials, ask_helper_program
from merlin_images.registry.credentials.password_file import PasswordFile
from merlin_images.registry.credentials.port import (
    Anonymous,
    Credential,
    Credentials,
    FirstOf,
    StaticCredentials,
)

__all__ = [
    "Anonymous",
    "Credential",
    "Credentials",
    "DockerCredentials",
    "FirstOf",
    "PasswordFile",
    "RegistryType",
    "StaticCredentials",
    "ask_helper_program",
    "choose_credentials",
]
