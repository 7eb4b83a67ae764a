"""The built-in registry as an ASGI application: OCI distribution-spec v1.1 at ``/v2``."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from merlin_images.registry.embedded.answers import refuse
from merlin_images.registry.embedded.blob_routes import BlobRoutes
from merlin_images.registry.embedded.manifest_routes import ManifestRoutes
from merlin_images.registry.embedded.storage import RegistryStorage


def create_registry_app(storage: RegistryStorage) -> Starlette:
    """Return an application that serves a storage; it does not ask who calls."""
    return Starlette(
        routes=registry_routes(storage), exception_handlers={HTTPException: _refuse_unknown}
    )


def registry_routes(storage: RegistryStorage) -> list[Route]:
    """Return the routes alone, for an application that has others; they start with ``/v2``."""
    return [*ManifestRoutes(storage).routes(), *BlobRoutes(storage).routes()]


async def _refuse_unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return refuse(405, "UNSUPPORTED", f"{request.method} is not supported here.")
    return refuse(status, "NAME_UNKNOWN", "There is nothing at this address.")
