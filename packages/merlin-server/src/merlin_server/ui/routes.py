"""The overview page: plain HTML, no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from merlin_server.ui.overview import Overview
from merlin_server.ui.reference import read_reference

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_router(overview: Overview, openapi: Callable[[], dict[str, Any]]) -> APIRouter:
    """``openapi`` is asked when the first page is shown."""
    router = APIRouter(include_in_schema=False)
    templates = Environment(
        loader=PackageLoader("merlin_server.ui"), autoescape=True, undefined=StrictUndefined
    )
    style = files("merlin_server.ui").joinpath("static/style.css").read_bytes()

    @router.get("/")
    def show_overview() -> Response:
        page = templates.get_template("overview.html").render(
            snapshot=overview.read(),
            url=overview.addresses.public_url,
            reference=read_reference(openapi()),
        )
        return Response(page, media_type="text/html", headers=_HEADERS)

    @router.get("/static/style.css")
    def show_style() -> Response:
        return Response(style, media_type="text/css", headers={"X-Content-Type-Options": "nosniff"})

    return router
