"""Building, deploying and undeploying a version, and following how it goes.

Only what the caller gave is sent: a field left out keeps its stored value on a redeploy and gets
the environment's default on a first deploy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Self

from merlin.autoscaling import AutoscalingPolicy
from merlin.client.api import Api
from merlin.client.errors import BuildFailed, DeploymentFailed, InvalidRequest, NotFound
from merlin.client.resource import parse
from merlin.client.waiting import Patience
from merlin.deployment_mode import DeploymentMode
from merlin.endpoint import Status, VersionEndpoint
from merlin.logger import Logger
from merlin.mounted_mlp_secret import MountedMLPSecret
from merlin.output.human import human_duration
from merlin.output.streams import INSIDE
from merlin.progress import Progress
from merlin.protocol import Protocol
from merlin.resource_request import ResourceRequest
from merlin.transformer import Transformer
from merlin.version_image import ImageBuildingJobState, VersionImage

BUILD = "Build image"
START = "Start model"


@dataclass(frozen=True)
class DeployRequest:
    """What may be asked of a deploy; `None` leaves a field alone, an empty one clears it."""

    resource_request: ResourceRequest | None = None
    image_builder_resource_request: ResourceRequest | None = None
    env_vars: Mapping[str, str] | None = None
    secrets: Sequence[MountedMLPSecret] | None = None
    transformer: Transformer | None = None
    logger: Logger | None = None
    deployment_mode: DeploymentMode | None = None
    autoscaling_policy: AutoscalingPolicy | None = None
    protocol: Protocol | None = None
    enable_model_observability: bool | None = None
    model_observability: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON body, given fields only."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        body = {name: _json(value) for name, value in fields.items() if value is not None}
        for variables in (body, body.get("transformer", {})):
            if "env_vars" in variables:
                pairs = variables["env_vars"].items()
                variables["env_vars"] = [{"name": name, "value": value} for name, value in pairs]
        return body


@dataclass(frozen=True)
class Target:
    """The version that is worked on, and who wants to know."""

    api: Api
    model_id: int
    model_name: str
    version: int
    progress: Progress
    patience: Patience

    @property
    def label(self) -> str:
        return f"{self.model_name} version {self.version}"

    @property
    def path(self) -> str:
        return f"/v1/models/{self.model_id}/versions/{self.version}"

    def endpoint(self, endpoint_id: str) -> VersionEndpoint:
        return parse(VersionEndpoint, self.api.get(f"{self.path}/endpoint/{endpoint_id}"))

    def image(self) -> VersionImage:
        return parse(VersionImage, self.api.get(f"{self.path}/image"))


def build(target: Target, request: Mapping[str, Any]) -> VersionImage:
    """Have the image built and wait for it. Raises `BuildFailed`."""
    with Follower(target) as follower:
        target.api.put(f"{target.path}/image", dict(request))

        def built() -> VersionImage | None:
            image = follower.look()
            state = image.image_building_job_status.state
            unknown = state is ImageBuildingJobState.UNKNOWN and not image.exists
            return None if unknown or state is ImageBuildingJobState.ACTIVE else image

        image = target.patience.until(built, f"The image of {target.label}")
    status = image.image_building_job_status
    if status.state is ImageBuildingJobState.FAILED:
        raise BuildFailed(
            f"The image of {target.label} could not be built: "
            f"{status.message or 'no reason given'}",
            hint=f"See `merlin logs {target.model_name}:{target.version} --build`.",
        )
    return image


def deploy(
    target: Target, environment_name: str, present: VersionEndpoint | None, request: DeployRequest
) -> VersionEndpoint:
    """Deploy into an environment, or redeploy what is ``present`` there, and wait until it is
    ready. Raises `DeploymentFailed`; what ran before then still runs."""
    body: dict[str, Any] = {**request.to_dict(), "environment_name": environment_name}
    with Follower(target) as follower:
        if present is None:
            answer = target.api.post(f"{target.path}/endpoint", body)
        else:
            wanted = Status.SERVING if present.status is Status.SERVING else Status.RUNNING
            body |= {"id": present.id, "status": wanted.value}
            answer = target.api.put(f"{target.path}/endpoint/{present.id}", body)
        endpoint_id = parse(VersionEndpoint, answer).id

        def settled() -> VersionEndpoint | None:
            image = follower.look()
            building = image.image_building_job_status.state is ImageBuildingJobState.ACTIVE
            if not building and (image.exists or not follower.has_image):
                follower.begin(START)
            endpoint = target.endpoint(endpoint_id)
            return None if endpoint.status is Status.PENDING else endpoint

        endpoint = target.patience.until(settled, f"The deployment of {target.label}")
        follower.look()
        reason = _failure(target, endpoint)
        if reason is not None:
            raise DeploymentFailed(
                target.model_name, target.version, reason, culprits=_culprits(endpoint)
            )
        follower.end(START, endpoint.status.value)
    return endpoint


def undeploy(target: Target, present: VersionEndpoint) -> None:
    """Stop the version in its environment and wait until it is gone."""
    target.api.delete(f"{target.path}/endpoint/{present.id}")

    def gone() -> bool | None:
        try:
            status = target.endpoint(present.id).status
        except NotFound:
            return True
        return True if status is Status.TERMINATED else None

    target.patience.until(gone, f"Stopping {target.label}")


class Follower:
    """Reports a build's steps as the server tells them. Steps still open when the block is left
    by an exception are reported as failed."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._open: list[str] = []
        self._known: set[str] = set()
        self.has_image = True
        # Steps of an earlier build stay on the server until a new one begins.
        self._earlier = self._image().steps or []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for name in reversed(self._open.copy()):
            self.end(name, failed=kind is not None)

    def look(self) -> VersionImage:
        """Observe the build, and report what is new."""
        image = self._image()
        status = image.image_building_job_status
        steps = image.steps or []
        active = status.state is ImageBuildingJobState.ACTIVE
        if active or steps != self._earlier:
            self.begin(BUILD)
            for step in steps if steps != self._earlier else ():
                name = f"{BUILD}{INSIDE}{step.step}"
                ran = name in self._open
                self.begin(name)
                if step.seconds is not None or step.failed:
                    # Who watches it run measures it too; the server's time is for the others.
                    detail = step.detail if ran else _described(step.detail, step.seconds)
                    self.end(name, detail, failed=step.failed)
        if not active:
            failed = status.state is ImageBuildingJobState.FAILED
            self.end(BUILD, _summary(image), failed=failed)
        return image

    def begin(self, name: str) -> None:
        """Report the start of a step, once."""
        if name not in self._known:
            self._known.add(name)
            self._open.append(name)
            self._target.progress.start(name)

    def end(self, name: str, detail: str = "", *, failed: bool = False) -> None:
        """Report the end of a step that is open; nothing otherwise."""
        if name in self._open:
            self._open.remove(name)
            self._target.progress.finish(name, detail, failed=failed)

    def _image(self) -> VersionImage:
        if self.has_image:
            try:
                return self._target.image()
            except (InvalidRequest, NotFound):
                # Types that need no image have none to follow.
                self.has_image = False
        return VersionImage()


def _failure(target: Target, endpoint: VersionEndpoint) -> str | None:
    """Say why the deploy failed, `None` if it did not. After a failed redeploy the endpoint has its
    old status back: only the newest row of the history tells."""
    if not endpoint.live:
        return endpoint.message or f"its status is {endpoint.status.value}"
    path = f"/v1/models/{target.model_id}/versions/{target.version}/endpoints/{endpoint.id}"
    history: list[dict[str, Any]] = target.api.get(f"{path}/deployments") or []
    newest: dict[str, Any] = max(history, key=lambda row: row["id"], default={})
    if newest.get("status") != Status.FAILED.value:
        return None
    return newest.get("error") or endpoint.message or "no reason given"


def _culprits(endpoint: VersionEndpoint) -> list[dict[str, Any]]:
    return [condition.culprit for condition in endpoint.conditions or () if condition.culprit]


def _summary(image: VersionImage) -> str:
    report = image.report or {}
    if report.get("reused"):
        return "reused"
    return ", ".join(
        f"{sum(layer.get('action') == action for layer in report.get('layers', ()))} {action}"
        for action in ("uploaded", "mounted", "present")
        if any(layer.get("action") == action for layer in report.get("layers", ()))
    )


def _described(detail: str, seconds: float | None) -> str:
    took = human_duration(seconds) if seconds is not None else ""
    return ", ".join(part for part in (detail, took) if part)


def _json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _json(item) for key, item in asdict(value).items() if item is not None}
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return value
