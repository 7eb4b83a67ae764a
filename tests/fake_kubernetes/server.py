"""HTTP: paths, query parameters, authentication, streams, and the faults a test planned."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fake_kubernetes import statuses
from tests.fake_kubernetes.access import Access
from tests.fake_kubernetes.api import Api, Options
from tests.fake_kubernetes.faults import Fault, Faults
from tests.fake_kubernetes.lists import Lists, Selection, watch
from tests.fake_kubernetes.resources import NAMESPACES, ResourceType, Target, discovery
from tests.fake_kubernetes.selectors import matcher
from tests.fake_kubernetes.statuses import (
    ApiStatus,
    bad_request,
    method_not_allowed,
    no_such_path,
)

Object = dict[str, Any]
LogReader = Callable[[str, str, dict[str, str], Callable[[], bool]], Iterator[str]]

_PATH = re.compile(
    r"(?P<root>/api/[^/]+|/apis/[^/]+/[^/]+)(/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(/(?P<name>[^/]+))?(/(?P<part>[^/]+))?"
)
_NAMESPACE = re.compile(r"(?P<root>/api/v1)/namespaces(/(?P<name>[^/]+))?(/(?P<part>status))?")
_ONE = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_MANY = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}


class Server(ThreadingHTTPServer):
    """Serves an Api on a free port of this machine. Every connection has a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        api: Api,
        *,
        lists: Lists,
        access: Access,
        faults: Faults,
        resources: list[ResourceType],
        read_log: LogReader,
        strict: bool,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api, self.lists, self.access, self.faults = api, lists, access, faults
        self.resources, self.read_log, self.strict = resources, read_log, strict
        self.life = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=[0.05], daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.cut()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def cut(self) -> None:
        """End every connection, watches and all, as a restart does."""
        with self._lock:
            self.life += 1
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        with self.api.storage.changed:
            self.api.storage.changed.notify_all()

    def hold(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def release(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that tests cut are no news."""

    def target(self, path: str) -> Target:
        """Raises 404 for a path that names nothing served."""
        found = _NAMESPACE.fullmatch(path) or _PATH.fullmatch(path)
        if not found:
            raise no_such_path()
        parts = {k: unquote(v) for k, v in found.groupdict().items() if v}
        plural = parts.get("plural", NAMESPACES.plural)
        for resource in self.resources:
            if (resource.root, resource.plural) == (parts["root"], plural):
                return Target(
                    resource,
                    parts.get("namespace", ""),
                    parts.get("name", ""),
                    parts.get("part", ""),
                )
        raise no_such_path()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.hold(self.connection)

    def finish(self) -> None:
        self.server.release(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is logged."""

    def _serve(self) -> None:
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        try:
            self._respond(split.path, query, body)
        except ApiStatus as status:
            self._send(status.code, status.body, status.retry_after)
        except (BrokenPipeError, ConnectionError):
            self.close_connection = True
        except Exception:  # noqa: BLE001 - a fault of the fake must be seen in the test it spoils
            message = f"the fake cluster failed:\n{traceback.format_exc()}"
            self._send(500, ApiStatus(500, "InternalError", message).body)

    # The names are those of the standard library.
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _respond(self, path: str, query: dict[str, str], body: str) -> None:
        authorization = self.headers.get("Authorization", "")
        self.server.access.authenticate(authorization)
        if path in ("/healthz", "/livez", "/readyz"):
            self._send_bytes(200, b"ok", "text/plain")
            return
        document = discovery(path, self.server.resources)
        if document and self.command == "GET":
            self._send(200, document)
            return
        target = self.server.target(path)
        verb = self._verb(target, query)
        fault = self.server.faults.next(verb, target.plural)
        if fault and fault.before:
            fault.before()
        if fault and fault.drop == "request":
            self._hang_up()
            return
        self.server.access.check(authorization, verb, target)
        if fault and fault.status:
            raise fault.status
        self._carry_out(verb, target, query, body, fault)

    def _verb(self, target: Target, query: dict[str, str]) -> str:
        verb = (_ONE if target.name else _MANY).get(self.command)
        if verb is None:
            raise method_not_allowed()
        if verb == "list" and query.get("watch") in ("true", "1"):
            return "watch"
        return verb

    def _carry_out(
        self, verb: str, target: Target, query: dict[str, str], body: str, fault: Fault | None
    ) -> None:
        if target.part and target.part != "status" and target.plural != "pods/log":
            raise no_such_path()
        if target.plural == "pods/log":
            self._log(target, query)
            return
        if verb == "watch":
            self._watch(target, query)
            return
        code, answer = self._answer(verb, target, query, body)
        if fault and fault.drop == "answer":
            self._hang_up()
            return
        self._send(code, answer)

    def _answer(
        self, verb: str, target: Target, query: dict[str, str], body: str
    ) -> tuple[int, Object]:
        api = self.server.api
        options = self._options(query)
        match verb:
            case "get":
                return 200, api.get(target)
            case "list":
                limit, token = _number(query, "limit"), query.get("continue", "")
                version = str(_number(query, "resourceVersion") or "")
                selection = self._selection(target, query)
                return 200, self.server.lists.page(selection, limit, token, version)
            case "create":
                return 201, api.create(target, body, options)
            case "update":
                return 200, api.replace(target, body, options)
            case "patch":
                kind = self.headers.get("Content-Type", "").partition(";")[0]
                if kind == "application/apply-patch+yaml" and "fieldManager" not in query:
                    raise statuses.no_manager()
                answer, made = api.patch(target, body, kind, options)
                return (201 if made else 200), answer
            case "delete":
                how = self._delete_options(query, body)
                dry = options.dry_run
                return 200, api.delete(target, how, dry_run=dry)
            case _:
                return 200, self._delete_collection(target, query, body)

    def _delete_collection(self, target: Target, query: dict[str, str], body: str) -> Object:
        how, dry = self._delete_options(query, body), self._options(query).dry_run
        page = self.server.lists.page(self._selection(target, query), 0, "", "")
        for item in page["items"]:
            at = item["metadata"].get("namespace", "")
            with contextlib.suppress(ApiStatus):
                self.server.api.delete(
                    Target(target.resource, at, item["metadata"]["name"]), how, dry_run=dry
                )
        return page

    def _options(self, query: dict[str, str]) -> Options:
        validation = query.get("fieldValidation") or ("Strict" if self.server.strict else "Warn")
        if validation not in ("Strict", "Warn", "Ignore"):
            raise bad_request(f'fieldValidation: Unsupported value: "{validation}"')
        agent = self.headers.get("User-Agent", "unknown").partition("/")[0]
        return Options(
            manager=query.get("fieldManager") or agent,
            dry_run=query.get("dryRun") == "All",
            strict=validation == "Strict",
            force=query.get("force") in ("true", "1"),
        )

    def _delete_options(self, query: dict[str, str], body: str) -> Object:
        how: Object = json.loads(body) if body else {}
        if "propagationPolicy" in query:
            how["propagationPolicy"] = query["propagationPolicy"]
        if "gracePeriodSeconds" in query:
            how["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
        return how

    def _selection(self, target: Target, query: dict[str, str]) -> Selection:
        labels, fields = query.get("labelSelector"), query.get("fieldSelector")
        matches = matcher(target.resource.kind, labels, fields)
        return Selection(target.resource, target.namespace or None, matches)

    def _watch(self, target: Target, query: dict[str, str]) -> None:
        faults, life = self.server.faults, self.server.life
        asked = query.get("timeoutSeconds")
        limits = [float(asked)] if asked else []
        limits += [faults.seconds_a_watch] if faults.seconds_a_watch is not None else []
        events = watch(
            self.server.api.storage,
            self._selection(target, query),
            version=str(_number(query, "resourceVersion") or ""),
            bookmarks=query.get("allowWatchBookmarks") in ("true", "1"),
            initial=query.get("sendInitialEvents") in ("true", "1"),
            seconds=min(limits) if limits else None,
            ended=lambda: self.server.life != life,
        )
        self._stream_head("application/json")
        sent = 0
        try:
            for event in events:
                if event is None:
                    if self._left():
                        break
                    continue
                self._chunk(json.dumps(event).encode() + b"\n")
                sent += 1
                if faults.events_a_watch is not None and sent >= faults.events_a_watch:
                    break
        except ApiStatus as status:
            # The answer has begun: what is wrong travels as an event.
            error = {"type": "ERROR", "object": status.body}
            self._chunk(json.dumps(error).encode() + b"\n")
        self._chunk(b"")

    def _log(self, target: Target, query: dict[str, str]) -> None:
        life = self.server.life
        lines = self.server.read_log(
            target.namespace, target.name, query, lambda: self.server.life != life or self._left()
        )
        first = next(lines, None)
        self._stream_head("text/plain")
        if first:
            self._chunk(first.encode())
        for line in lines:
            if line:
                self._chunk(line.encode())
        self._chunk(b"")

    def _left(self) -> bool:
        """Whether the client has closed its end."""
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(None)

    def _stream_head(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, code: int, answer: Object, retry_after: int | None = None) -> None:
        self._send_bytes(code, json.dumps(answer).encode(), "application/json", retry_after)

    def _send_bytes(
        self, code: int, data: bytes, content_type: str, retry_after: int | None = None
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(data)


def _number(query: dict[str, str], name: str) -> int:
    """A whole number of the query, 0 without one. Raises 400 for anything else."""
    text = query.get(name) or "0"
    if not text.isdecimal():
        raise bad_request(f'{name}: Invalid value: "{text}": invalid syntax')
    return int(text)
