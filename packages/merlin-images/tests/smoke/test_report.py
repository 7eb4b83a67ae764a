"""What is made of the runtime's lines, and of containers that end without a word."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from merlin.progress import Silent
from merlin_images.smoke.containers import ContainerProgram, Ended, find_program
from merlin_images.smoke.errors import NoContainerProgram, SmokeTestFailed
from merlin_images.smoke.report import StageLines


def line(stage: str, state: str, **more: Any) -> str:
    return json.dumps({"event": "stage", "stage": stage, "state": state, **more})


PASSED = [
    *(line("import", "started"), line("import", "passed", seconds=1.5, detail="3 packages")),
    *(line("load", "started"), line("load", "passed", seconds=0.5, detail="sklearn")),
    *(line("predict", "started"), line("predict", "skipped", seconds=0.1, detail="none logged")),
]


def read(lines: list[str], *, code: int = 0, timed_out: bool = False) -> tuple[StageLines, Any]:
    followed = StageLines(Silent())
    for text in lines:
        followed.read(f"{text}\n")
    ended = Ended(code, ("a log line",), timed_out)
    return followed, followed.end("team/fraud:7", ended, seconds=30)


def failure(lines: list[str], **ended: Any) -> SmokeTestFailed:
    found = read(lines, **ended)[1]
    assert isinstance(found, SmokeTestFailed)
    assert found.data["culprits"][0]["last_lines"] == ["a log line"]
    return found


def test_stages_that_end_well() -> None:
    followed, failed = read(PASSED)
    assert failed is None
    assert [(stage.name, stage.state, stage.seconds) for stage in followed.stages] == [
        *(("import", "passed", 1.5), ("load", "passed", 0.5), ("predict", "skipped", 0.1))
    ]


@pytest.mark.parametrize(
    "noise",
    [
        *("", "a print of the model's", "{not json", "[1]", "{}", '{"event": "stage"}', "null"),
        *(line("lunch", "started"), line("load", "paused"), line("predict", "passed")),
    ],
)
def test_what_a_model_prints_is_passed_over(noise: str) -> None:
    followed, failed = read([noise, *PASSED[:2], noise, *PASSED[2:]])
    assert failed is None
    assert len(followed.stages) == 3


@pytest.mark.parametrize(
    ("count", "ended", "stage", "sentence"),
    [
        (3, {"code": 128 + signal.SIGSEGV}, "load", "was ended by SIGSEGV"),
        (5, {"code": 128 + signal.SIGKILL}, "predict", "was ended by SIGKILL"),
        (5, {"code": 250}, "predict", "was ended by signal 122"),
        (1, {"code": 137, "timed_out": True}, "import", "did not end within 30 seconds"),
        (0, {"code": 2}, "import", "knows no smoke test"),
        (0, {"code": 127}, "import", "exit code 127"),
        (2, {"code": 0}, "load", "exit code 0"),
        (6, {"code": 1}, "predict", "exit code 1"),
    ],
)
def test_an_end_without_a_word(
    count: int, ended: dict[str, Any], stage: str, sentence: str
) -> None:
    found = failure(PASSED[:count], **ended)
    assert found.data["stage"] == stage
    assert sentence in found.message
    assert f"team/fraud:7 failed at the stage {stage}" in found.message


@pytest.mark.parametrize(
    ("error", "library", "advice"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file", "libGL.so.1", "Write libgl1 "),
        ("Error loading shared library libgomp.so.1: No such", "libgomp.so.1", "Write libgomp1 "),
        ("libodd.so.9: cannot open shared object file", "libodd.so.9", "that have libodd.so.9"),
        ("libcuda.so.1: cannot open shared object file", "libcuda.so.1", "driver of a device"),
    ],
)
def test_a_library_is_named_with_what_brings_it(error: str, library: str, advice: str) -> None:
    found = failure([PASSED[0], line("import", "failed", error=error)], code=3)
    assert found.data["missing_library"] == library
    assert advice in found.hint


def test_what_the_runtime_says_of_a_failure_is_kept() -> None:
    told = {"error": "It needs 'x'.", "hint": "Add x.", "missing_module": "x", "where": "a.py:1"}
    found = failure([*PASSED[:3], line("load", "failed", **told)], code=3)
    assert found.message.endswith("failed at the stage load: It needs 'x'.")
    assert (found.hint, found.data["missing_module"], found.data["where"]) == (
        *("Add x.", "x", "a.py:1"),
    )


def test_programs_that_cannot_run_containers() -> None:
    assert ContainerProgram(["/bin/true"]).check() == ""
    assert find_program("/bin/true --with options").name == "true"
    with pytest.raises(NoContainerProgram, match="no /nonexistent here"):
        find_program("/nonexistent")
