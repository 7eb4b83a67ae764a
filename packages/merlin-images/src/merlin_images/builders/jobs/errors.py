"""Errors of builds that run as Jobs.

Those about a Job carry its name as ``job``; `BuildRefused`, `BuildJobFailed` and
`BuildInterrupted` carry ``step``, ``reason``, ``exit_code`` and ``culprits`` where they are known.
"""

from __future__ import annotations

from merlin.errors import Kind, MerlinError


class BuildJobError(MerlinError):
    """Base of all errors of build Jobs."""

    code = "build_job_error"
    kind = Kind.FAILED


class JobOptionsInvalid(BuildJobError):
    """The configuration of Jobs contradicts itself, or would put a secret where it can be read."""

    code = "build_job_options_invalid"
    kind = Kind.INVALID
    hint = "Correct the section images.jobs of the server's settings."


class BuildRefused(BuildJobError):
    """The model cannot be built as it is: its environment, its Dockerfile or its code fails."""

    code = "build_refused"
    kind = Kind.INVALID
    hint = "Correct what the message names, log the model again and build that version."


class BuildJobFailed(BuildJobError):
    """The Job failed for a reason that is not known to be the model's."""

    code = "build_job_failed"
    hint = "Read the build's log; the same build can be asked for again."


class BuildJobTooSmall(BuildJobError):
    """A step needed more memory than it may have."""

    code = "build_job_out_of_memory"
    kind = Kind.EXHAUSTED
    hint = "Ask for more memory in resource_request, or raise images.jobs.resources."


class BuildJobOverdue(BuildJobError):
    """The Job did not end before its deadline."""

    code = "build_job_overdue"
    hint = "Raise images.build_timeout_seconds if the build needs longer."


class BuildInterrupted(BuildJobError):
    """The cluster took the Job or its node away."""

    code = "build_job_interrupted"
    kind = Kind.UNAVAILABLE
    hint = "The same build can be asked for again."


class BuildImageMissing(BuildJobError):
    """The Job ended well, and the registry does not have its image."""

    code = "build_image_missing"
    kind = Kind.UPSTREAM
    hint = "Check that Jobs and server use the same registry, then build again."


class ClusterDenied(BuildJobError):
    """The build cluster refused our credentials, or they lack a right."""

    code = "build_cluster_denied"
    kind = Kind.UPSTREAM
    hint = "docs/building-on-kubernetes.md lists the rights that the server needs."


class ClusterUnavailable(BuildJobError):
    """The build cluster could not be reached, or failed, for longer than we wait."""

    code = "build_cluster_unavailable"
    kind = Kind.UNAVAILABLE
    hint = "Check the build cluster; a Job that was started goes on and is found again."


class JobRefused(BuildJobError):
    """The build cluster does not accept the Job."""

    code = "build_job_refused"
    kind = Kind.UPSTREAM
    hint = "Check images.jobs, the namespace and the cluster's admission policies."
