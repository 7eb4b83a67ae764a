"""The schema that all rows together ask for: a test holds the migrations to it."""

from __future__ import annotations

from importlib import import_module

from merlin_server.database import Row

_STORES = (
    "endpoints",
    "environments",
    "images",
    "models",
    "operations",
    "projects",
    "tracking",
    "traffic",
    "versions",
)
for _domain in _STORES:
    import_module(f"merlin_server.{_domain}.store")

METADATA = Row.metadata
