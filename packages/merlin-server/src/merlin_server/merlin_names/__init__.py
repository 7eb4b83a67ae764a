"""Merlin's own configuration names, accepted beside ours."""

from merlin_server.merlin_names.translation import Translation, translate

__all__ = ["Translation", "translate"]
