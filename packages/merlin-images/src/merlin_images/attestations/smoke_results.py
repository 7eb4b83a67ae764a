"""What a smoke test found, as an in-toto statement (in-toto.io/attestation/test-result/v0.1)."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Any

from merlin_images.attestations.attach import IN_TOTO, Attachment
from merlin_images.attestations.provenance import statement
from merlin_images.image import annotation_keys
from merlin_images.image.stored import StoredImage
from merlin_images.smoke.report import SmokeReport

TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"

_TEST = "urn:merlin-serving:smoke-test:v1"


def smoke_test_result(
    image: StoredImage, report: SmokeReport, *, request: bytes | None
) -> Attachment:
    """Return the document to attach. A skipped stage makes the result WARNED.

    There are no times in it, so the same outcome of the same image is the same document.
    """
    named = {
        state: [stage.name for stage in report.stages if stage.state == state]
        for state in ("passed", "skipped", "failed")
    }
    configuration: list[dict[str, Any]] = [
        {"uri": _TEST, "annotations": {"merlin-images": version("merlin-images")}}
    ]
    if request is not None:
        digest = {"sha256": hashlib.sha256(request).hexdigest()}
        configuration.append({"name": "request", "digest": digest})
    result = "FAILED" if report.failure else "WARNED" if named["skipped"] else "PASSED"
    body = statement(
        f"{image.reference.host}/{image.reference.repository}",
        image.descriptor,
        TEST_RESULT,
        {
            "result": result,
            "configuration": configuration,
            "passedTests": named["passed"],
            "warnedTests": named["skipped"],
            "failedTests": named["failed"],
        },
    )
    return Attachment("test-result", IN_TOTO, body, {annotation_keys.PREDICATE: TEST_RESULT})
