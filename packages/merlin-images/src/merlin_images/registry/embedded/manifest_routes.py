"""Manifests, tags and referrers over HTTP: end-1, end-3, end-7 to end-9, end-12."""

from __future__ import annotations

from urllib.parse import urlencode

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from merlin_images.registry.embedded.answers import answering_errors, refuse
from merlin_images.registry.embedded.storage import RegistryStorage
from merlin_images.registry.errors import ImageNotFound
from merlin_images.registry.manifests import MAX_MANIFEST_BYTES, read_links, referrers_index
from merlin_images.registry.port import OCI_INDEX
from merlin_images.registry.reference import Reference, check_repository, reference_within

_MAX_TAGS = 10_000


class ManifestRoutes:
    def __init__(self, storage: RegistryStorage) -> None:
        self._storage = storage

    def routes(self) -> list[Route]:
        return [
            Route("/v2/", answering_errors(self.ping), methods=["GET"]),
            Route("/v2", answering_errors(self.ping), methods=["GET"]),
            Route(
                "/v2/{name:path}/manifests/{reference}",
                answering_errors(self.manifest),
                methods=["GET", "HEAD", "PUT", "DELETE"],
            ),
            Route("/v2/{name:path}/tags/list", answering_errors(self.tags), methods=["GET"]),
            Route(
                "/v2/{name:path}/referrers/{digest}",
                answering_errors(self.referrers),
                methods=["GET"],
            ),
        ]

    async def ping(self, _: Request) -> Response:
        return JSONResponse({})

    async def manifest(self, request: Request) -> Response:
        reference = reference_within(request.path_params["name"], request.path_params["reference"])
        match request.method:
            case "PUT":
                return await self._put(request, reference)
            case "DELETE":
                if await run_sync(self._storage.resolve, reference) is None:
                    raise ImageNotFound(f"There is no manifest {reference.identifier}.")
                await run_sync(self._storage.delete_manifest, reference)
                return Response(status_code=202)
            case _:
                descriptor, body = await run_sync(self._storage.read_manifest, reference)
        headers = {"Docker-Content-Digest": descriptor.digest, "ETag": f'"{descriptor.digest}"'}
        return Response(body, media_type=descriptor.media_type, headers=headers)

    async def _put(self, request: Request, reference: Reference) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_MANIFEST_BYTES:
                return refuse(413, "SIZE_INVALID", "A manifest has at most 4 MiB.")
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip()
        content = bytes(body)
        write = self._storage.write_manifest
        descriptor = await run_sync(write, reference, media_type, content)
        root = request.scope.get("root_path", "")
        headers = {
            "Location": f"{root}/v2/{reference.repository}/manifests/{descriptor.digest}",
            "Docker-Content-Digest": descriptor.digest,
        }
        subject = read_links(media_type, content).subject
        if subject is not None:
            headers["OCI-Subject"] = subject.digest
        return Response(status_code=201, headers=headers)

    async def tags(self, request: Request) -> Response:
        name = check_repository(request.path_params["name"])
        tags = await run_sync(lambda: list(self._storage.tags(Reference("", name))))
        if not tags and not await run_sync(self._storage.has_repository, name):
            return refuse(404, "NAME_UNKNOWN", f"There is no repository {name}.")
        last = request.query_params.get("last", "")
        remaining = [tag for tag in tags if tag > last]
        asked = request.query_params.get("n", "")
        if asked and not (asked.isascii() and asked.isdigit()):
            return refuse(400, "PAGINATION_NUMBER_INVALID", "n is not a number.")
        count = min(int(asked or _MAX_TAGS), _MAX_TAGS)
        page = remaining[:count]
        headers = {}
        if page and len(remaining) > count:
            query = urlencode({"n": count, "last": page[-1]})
            root = request.scope.get("root_path", "")
            headers["Link"] = f'<{root}/v2/{name}/tags/list?{query}>; rel="next"'
        return JSONResponse({"name": name, "tags": page}, headers=headers)

    async def referrers(self, request: Request) -> Response:
        reference = Reference("", check_repository(request.path_params["name"])).at_digest(
            request.path_params["digest"]
        )
        wanted = request.query_params.get("artifactType", "")
        found = await run_sync(lambda: self._storage.referrers(reference, artifact_type=wanted))
        headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        return Response(referrers_index(found), media_type=OCI_INDEX, headers=headers)
