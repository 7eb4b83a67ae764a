"""``merlin image``: build, inspect, validate and attest images, with no server at all."""

from merlin_images.cli import attestations, commands
from merlin_images.cli.common import app

__all__ = ["app", "attestations", "commands"]
