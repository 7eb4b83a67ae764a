"""The client of a Merlin server: objects that ask it, one request a method."""

from merlin.client.merlin_client import MerlinClient

__all__ = ["MerlinClient"]
