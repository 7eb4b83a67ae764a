"""``merlin image``: build, test, compare, attest and keep images, with no server at all."""

from merlin_images.cli import attestations, build_steps, commands, lifecycle, smoke
from merlin_images.cli.common import app

__all__ = ["app", "attestations", "build_steps", "commands", "lifecycle", "smoke"]
