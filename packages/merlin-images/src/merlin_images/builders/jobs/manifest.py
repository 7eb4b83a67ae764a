"""A build as a Job: a pure function from a plan and the options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from merlin.cli.exit_codes import BY_KIND
from merlin.errors import Kind
from merlin_images.builders.jobs import buildkit, kaniko, native
from merlin_images.builders.jobs.credentials import (
    Access,
    both,
    check_environment,
    index_access,
    registry_access,
    store_access,
)
from merlin_images.builders.jobs.errors import JobOptionsInvalid
from merlin_images.builders.jobs.names import KEY_ANNOTATION, job_labels
from merlin_images.builders.jobs.options import JobOptions
from merlin_images.builders.jobs.patches import apply_patch
from merlin_images.builders.jobs.plan import (
    DOCKERFILES,
    TERMINATION_LOG,
    WORK,
    BuildPlan,
    fetch_command,
    push_command,
)

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
# The webhooks of the clouds' workload identities give their token to every container, but these.
SKIP_AWS = "eks.amazonaws.com/skip-containers"
SKIP_AZURE = "azure.workload.identity/skip-containers"
USE_AZURE = "azure.workload.identity/use"

_KILLED = 137
_SUFFIXES = {
    "": "1", "n": "1e-9", "u": "1e-6", "m": "1e-3", "k": "1e3", "M": "1e6", "G": "1e9",
    "T": "1e12", "P": "1e15", "E": "1e18", "Ki": str(2**10), "Mi": str(2**20), "Gi": str(2**30),
    "Ti": str(2**40), "Pi": str(2**50), "Ei": str(2**60),
}  # fmt: skip
_QUANTITY = re.compile(rf"(\d+\.?\d*|\.\d+)(?:({'|'.join(_SUFFIXES)})|[eE]([+-]?\d{{1,2}}))")


def check_options(options: JobOptions) -> None:
    """Refuse options with which no Job could work, or a secret would leak. Raises
    `JobOptionsInvalid`."""
    options.image()
    if not options.tools_image:
        raise JobOptionsInvalid("images.jobs.tools_image names no image.")
    check_environment(options.environment)
    kaniko.check_arguments(options.kaniko_arguments)
    for name, value in options.build_args.items():
        if kaniko.is_secret_argument(f"{name}={value}"):
            raise JobOptionsInvalid(
                f"The build argument {name} would carry a secret into the Job and to the model's "
                "code."
            )
    _check_resources(options)
    if options.kind == "native":
        both(options)
    if options.token_audience and not options.service_account:
        raise JobOptionsInvalid("images.jobs.token_audience needs a service_account.")


def _check_resources(options: JobOptions) -> None:
    limits = options.resources.limits
    for text in (*options.largest.values(), *limits.values()):
        quantity(text)
    for name, text in options.resources.requests.items():
        if quantity(text) > quantity(limits.get(name, text)):
            raise JobOptionsInvalid(
                f"A step requests {text} of {name}, which is more than its limit, {limits[name]}."
            )


def job_manifest(plan: BuildPlan, options: JobOptions) -> dict[str, Any]:
    """Return the Job, as JSON that the Kubernetes API takes."""
    labels = job_labels(plan.request, options)
    annotations = {KEY_ANNOTATION: plan.key}
    if not options.safe_to_evict:
        annotations[SAFE_TO_EVICT] = "false"
    retries = options.retries if plan.request.run.retries is None else plan.request.run.retries
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": plan.name,
            "namespace": options.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": retries,
            "activeDeadlineSeconds": options.deadline_seconds,
            "ttlSecondsAfterFinished": options.kept_seconds,
            "podFailurePolicy": {"rules": _failure_rules(options)},
            "template": _template(plan, options, labels, annotations),
        },
    }


def _failure_rules(options: JobOptions) -> list[dict[str, Any]]:
    """A node that goes away costs no try; what would fail alike again is not tried again."""
    gone = {"type": "DisruptionTarget", "status": "True"}
    ours = ["build"] if options.kind == "native" else ["fetch", "push"]
    hopeless = sorted(BY_KIND[kind] for kind in (Kind.INVALID, Kind.USAGE, Kind.NOT_FOUND))
    return [
        {"action": "Ignore", "onPodConditions": [gone]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [_KILLED]}},
        *(
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": name, "operator": "In", "values": hopeless},
            }
            for name in ours
        ),
    ]


def _template(
    plan: BuildPlan,
    options: JobOptions,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> dict[str, Any]:
    steps, volumes = _steps(plan, options)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"fsGroup": buildkit.ROOTLESS_USER},
        "initContainers": steps[:-1],
        "containers": steps[-1:],
        "volumes": volumes,
    }
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    if options.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in options.tolerations]
    if options.node_selector:
        spec["nodeSelector"] = dict(options.node_selector)
    pod_labels, pod_annotations = dict(labels), dict(annotations)
    if options.service_account:
        pod_labels[USE_AZURE] = "true"
        if options.kind != "native":
            pod_annotations |= {SKIP_AWS: "build", SKIP_AZURE: "build"}
    template = {"metadata": {"labels": pod_labels, "annotations": pod_annotations}, "spec": spec}
    return apply_patch(template, options.pod_template)


def _steps(plan: BuildPlan, options: JobOptions) -> tuple[list[dict[str, Any]], list[Any]]:
    work: Mapping[str, Any] = {"name": "workspace", "emptyDir": {}}
    if options.kind == "native":
        access = both(options).and_(index_access(options))
        step = native.build_step(plan, options)
        return [_container(step, plan, options, access)], [work, *access.volumes]
    tool = kaniko if options.kind == "kaniko" else buildkit
    fetching = store_access(options)
    if plan.base is not None and (
        plan.base.host == plan.image.host or options.registry.type == "docker"
    ):
        # The base is read by the credentials that images are written with, where they fit it.
        fetching = both(options)
    fetching = fetching.and_(_dockerfile(options))
    pushing = registry_access(options)
    fetch = {
        "name": "fetch",
        "image": options.tools_image,
        "command": fetch_command(plan, options, base_format=tool.BASE_FORMAT),
    }
    push = {
        "name": "push",
        "image": options.tools_image,
        "command": push_command(plan, options, tool.BUILT),
    }
    steps = [
        _container(fetch, plan, options, fetching),
        _container(tool.build_step(plan, options), plan, options, Access()),
        _container(push, plan, options, pushing),
    ]
    return steps, [work, *fetching.and_(pushing).volumes]


def _container(
    step: Mapping[str, Any], plan: BuildPlan, options: JobOptions, access: Access
) -> dict[str, Any]:
    environment = [{"name": name, "value": value} for name, value in access.environment.items()]
    mounts = [{"name": "workspace", "mountPath": WORK}, *access.mounts]
    container = {
        **step,
        "volumeMounts": mounts,
        "resources": step_resources(plan, options),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if environment:
        container["env"] = [*step.get("env", ()), *environment]
    return container


def _dockerfile(options: JobOptions) -> Access:
    if not options.dockerfile_config_map:
        return Access()
    source = {"name": options.dockerfile_config_map}
    return Access(
        volumes=({"name": "dockerfile", "configMap": source},),
        mounts=({"name": "dockerfile", "mountPath": DOCKERFILES, "readOnly": True},),
    )


def step_resources(plan: BuildPlan, options: JobOptions) -> dict[str, Any]:
    """Return what every step may use: a request's own amount is both request and limit, as with
    Merlin, up to the largest that is allowed (W38). Raises `JobOptionsInvalid`."""
    run = plan.request.run
    asked = {name: text for name, text in (("cpu", run.cpu), ("memory", run.memory)) if text}
    for name, text in asked.items():
        largest = options.largest.get(name)
        if largest and quantity(text) > quantity(largest):
            raise JobOptionsInvalid(
                f"A build may ask for {largest} of {name} at most, not {text}.",
                hint="Ask for less in resource_request.",
            )
    requests = {**options.resources.requests, **asked}
    limits = {**options.resources.limits, **asked}
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def quantity(text: str) -> Decimal:
    """Return the amount that a Kubernetes quantity such as ``500m`` or ``2Gi`` is."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise JobOptionsInvalid(f"{text!r} is not an amount such as 500m or 2Gi.")
    factor = f"1e{match[3]}" if match[3] else _SUFFIXES[match[2]]
    return Decimal(match[1]) * Decimal(factor)
