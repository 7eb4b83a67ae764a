"""The few calls of the Kubernetes API that builds need, in our own errors.

lightkube reads the kubeconfig and signs in; objects stay the API's own JSON, so that a maintainer's
pod template may hold fields that no model of ours knows, and a delete can name one Job by its uid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from lightkube import KubeConfig
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import SingleConfig
from lightkube.core.exceptions import ConfigError

from merlin_images.builders.jobs.errors import (
    BuildJobError,
    ClusterDenied,
    ClusterUnavailable,
    JobRefused,
)

Object = dict[str, Any]

_TRANSIENT = {408, 410, 425, 429, 500, 502, 503, 504}
_PAGE = 500
_SECONDS = 10


class Cluster:
    """One namespace of the build cluster; safe to use from several threads.

    Whatever may go away by itself is raised as `ClusterUnavailable`, and callers try it again.
    """

    def __init__(self, config: SingleConfig, namespace: str, *, trust_env: bool = True) -> None:
        parameters = client_adapter.ConnectionParams(
            timeout=httpx2.Timeout(_SECONDS), trust_env=trust_env
        )
        with _calling("use the kubeconfig of", "the build cluster"):
            self._http = client_adapter.Client(config, parameters)
        self.namespace = namespace

    @classmethod
    def open(
        cls, kubeconfig: Path | None, namespace: str, inline: Mapping[str, Any] | None = None
    ) -> Cluster:
        """Open the cluster of a kubeconfig file, or of ``inline``, whose ``cluster`` and ``user``
        are as a kubeconfig has them; by default the one this Pod runs in, or the one that
        ``KUBECONFIG`` names."""
        try:
            if inline:
                found = KubeConfig.from_dict(_kubeconfig(inline))
            else:
                found = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
            config = found.get()
        except (ConfigError, OSError, ValueError, TypeError, AttributeError) as error:
            raise ClusterDenied(
                f"The kubeconfig of the build cluster cannot be read: {type(error).__name__}."
            ) from error
        if config is None:
            raise ClusterDenied("The kubeconfig names no cluster to build in.")
        return cls(config, namespace)

    def close(self) -> None:
        self._http.close()

    def job(self, name: str) -> Object | None:
        """Read a Job; ``None`` only if the API says that there is no Job of this name."""
        answer = self._call("read Job", name, "GET", self._jobs(name), absent=(404,))
        if answer.status_code != 404:
            return _object(answer)
        if _details(answer).get("name", name) != name:
            raise _told(404, _message(answer), "read Job", name)
        return None

    def create(self, manifest: Mapping[str, Any]) -> Object | None:
        """Create a Job; ``None`` if there is one of its name. After `ClusterUnavailable` it may
        have been created all the same, so callers look again."""
        name = manifest["metadata"]["name"]
        answer = self._call(
            "create Job", name, "POST", self._jobs(), absent=(409,), body=dict(manifest)
        )
        return None if answer.status_code == 409 else _object(answer)

    def delete(self, job: Object) -> None:
        """Delete exactly this Job, and its Pods behind it; that it has gone is no error."""
        name = job["metadata"]["name"]
        how = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": job["metadata"]["uid"]},
        }
        self._call("delete Job", name, "DELETE", self._jobs(name), absent=(404, 409), body=how)

    def watch(self, job: Object, seconds: int) -> Iterator[tuple[str, Object]]:
        """Yield what changes about a Job after the state given, for at most ``seconds``.

        It ends early, and without an error, when the server cuts it or has forgotten that state
        (410): whoever needs to know reads the Job again.
        """
        name = job["metadata"]["name"]
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": job["metadata"]["resourceVersion"],
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        timeout = httpx2.Timeout(_SECONDS, read=seconds + _SECONDS)
        try:
            with (
                _calling("watch Job", name),
                self._http.stream("GET", self._jobs(), params=query, timeout=timeout) as answer,
            ):
                _check(answer, "watch Job", name)
                for line in answer.iter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]
        except (ClusterUnavailable, ValueError):
            return

    def pods(self, job: Object) -> list[Object]:
        """List the Pods of exactly this Job, oldest first: a label has its uid (W22)."""
        selector = f"controller-uid={job['metadata']['uid']}"
        pods = self._list("Pods", f"/api/v1/namespaces/{self.namespace}/pods", selector)
        return sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))

    def jobs(self, labels: Mapping[str, str]) -> list[Object]:
        """List the Jobs that have all of these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        return self._list("Jobs", self._jobs(), selector)

    def log(self, pod: str, container: str, *, follow: bool) -> Iterator[str]:
        """Yield the lines of a container's log. Raises `JobRefused` before it has started."""
        query = {"container": container, "follow": "true" if follow else "false"}
        timeout = httpx2.Timeout(_SECONDS, read=None if follow else _SECONDS)
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        with (
            _calling("read the log of", pod),
            self._http.stream("GET", path, params=query, timeout=timeout) as answer,
        ):
            _check(answer, "read the log of", pod)
            yield from answer.iter_lines()

    def _jobs(self, name: str = "") -> str:
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        return f"{path}/{name}" if name else path

    def _list(self, what: str, path: str, selector: str) -> list[Object]:
        items: list[Object] = []
        query = {"labelSelector": selector, "limit": str(_PAGE)}
        while True:
            page = _object(self._call(f"list {what} in", self.namespace, "GET", path, query=query))
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items
            query["continue"] = token

    def _call(
        self,
        what: str,
        name: str,
        method: str,
        path: str,
        *,
        absent: tuple[int, ...] = (),
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
    ) -> httpx2.Response:
        with _calling(what, name):
            answer = self._http.request(method, path, params=query, json=body)
        if answer.status_code not in absent:
            _check(answer, what, name)
        return answer


@contextmanager
def _calling(what: str, name: str) -> Iterator[None]:
    """Turn what the client raises into our errors; none of them repeats a header or a body."""
    try:
        yield
    except (httpx2.TransportError, httpx2.StreamError) as error:
        raise ClusterUnavailable(
            f"The build cluster did not answer when asked to {what} {name}: "
            f"{type(error).__name__}.",
            job=name,
        ) from error
    except (ConfigError, OSError) as error:
        raise ClusterDenied(
            f"The access to the build cluster is not usable: {type(error).__name__}."
        ) from error


def _check(answer: httpx2.Response, what: str, name: str) -> None:
    if answer.status_code >= 300:
        answer.read()
        raise _told(answer.status_code, _message(answer), what, name)


def _told(code: int, message: str, what: str, name: str) -> BuildJobError:
    sentence = f"The build cluster would not {what} {name}: {message.rstrip('.')}."
    if code in _TRANSIENT:
        return ClusterUnavailable(sentence, job=name, status=code)
    if code in (401, 403):
        return ClusterDenied(sentence, job=name, status=code)
    return JobRefused(sentence, job=name, status=code)


def _kubeconfig(inline: Mapping[str, Any]) -> dict[str, Any]:
    name = str(inline.get("name") or "build")
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": inline["cluster"]}],
        "users": [{"name": name, "user": inline.get("user") or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def _message(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


def _details(answer: httpx2.Response) -> Object:
    try:
        return dict(answer.json().get("details") or {})
    except (ValueError, AttributeError):
        return {}


def _object(answer: httpx2.Response) -> Object:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ClusterUnavailable("The build cluster answered with something that is not JSON.")
    return found
