"""Errors of bringing a version up, as they stand in the deployment history."""

from __future__ import annotations

from collections.abc import Iterable

from merlin.errors import Kind, MerlinError
from merlin_server.deployers.port import Condition


class DeployFailed(MerlinError):
    """The new revision will not become ready."""

    code = "deploy_failed"
    kind = Kind.FAILED
    hint = "Correct what the last lines say, log a new version or change the request, and deploy."


class DeployTimedOut(MerlinError):
    """The new revision did not become ready in time."""

    code = "deploy_timed_out"
    kind = Kind.FAILED
    hint = "See its logs; a slow model needs a longer deployment_timeout_seconds."


class RevisionVanished(MerlinError):
    """The revision was removed while it was waited for."""

    code = "revision_vanished"
    kind = Kind.UNAVAILABLE


class UnknownDeployer(MerlinError):
    """The environment's deployer is not configured in this server."""

    code = "deployer_unknown"
    kind = Kind.INVALID
    hint = "Add the environment to the server's settings again, or undeploy what it holds."


def explain(conditions: Iterable[Condition]) -> str:
    """Return what the conditions say is wrong: message and last lines of the culprit."""
    bad = [condition for condition in conditions if not condition.status]
    if not bad:
        return ""
    worst = max(bad, key=lambda condition: len(condition.culprit))
    lines = [str(line) for line in worst.culprit.get("last_lines", ())]
    return "\n".join([f"{worst.reason}: {worst.message}", *lines])
