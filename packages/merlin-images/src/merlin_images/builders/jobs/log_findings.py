"""What the end of a step's log says about who is at fault: a line, a requirement, a sentence.

Steps of our own end with one JSON object (``--output json``). Kaniko and BuildKit say which
instruction failed, uv and pip which requirement; each in words that are theirs to change, so
nothing here is needed to know *that* a step failed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from merlin_images.environments.requirement_lines import without_credentials

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NAME = r"[A-Za-z0-9][\w.-]*"
# BuildKit: "Dockerfile:12", and the failed lines below it marked with ">>>".
_BUILDKIT_LINE = re.compile(r"^(?:\w*\.?Dockerfile[\w.]*):(\d+)\s*$", re.MULTILINE)
_BUILDKIT_MARK = re.compile(r"^\s*\d+ \| >>> (.*)$", re.MULTILINE)
_BUILDKIT_PROCESS = re.compile(r'process "(?:/bin/sh -c )?(.+?)" did not complete successfully')
# Kaniko: "INFO[0012] RUN pip install x" before it runs, "error building image: ..." at the end.
_KANIKO_STEP = re.compile(
    r"^(?:INFO\[\d+\]|.*level=info msg=\"?) ?((?:RUN|COPY|ADD|FROM|WORKDIR|ARG|ENV|USER) .+?)\"?$",
    re.MULTILINE,
)
_KANIKO_ERROR = re.compile(r"^error building image: (.+)$", re.MULTILINE)
_REQUIREMENTS = (
    re.compile(rf"No matching distribution found for ({_NAME}\S*)"),
    re.compile(rf"Could not find a version that satisfies the requirement ({_NAME}\S*)"),
    re.compile(rf"Failed (?:building wheel for|to build(?: installable wheels for)?) `?({_NAME})"),
    re.compile(rf"Because ({_NAME}) was not found in the"),
    re.compile(rf"there (?:is no version|are no versions) of ({_NAME}\S*)"),
    re.compile(rf"Because ({_NAME}\S*) depends on"),
    re.compile(rf"Cannot install ({_NAME}\S*)"),
    re.compile(rf"Failed to download(?: and build)? `({_NAME}\S*)`"),
    re.compile(r"No module named '([\w.]+)'"),
)
_LONGEST = 300


@dataclass(frozen=True)
class Finding:
    """Who is at fault, as far as the log says. ``line`` is a line of the Dockerfile, 0 if unknown;
    ``code`` and ``hint`` are those of an error of our own tools."""

    sentence: str = ""
    hint: str = ""
    code: str = ""
    line: int = 0
    instruction: str = ""
    requirement: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sentence)


def read_findings(text: str) -> Finding:
    """Return what the end of a log says; nothing in it is an error of its own."""
    clean = redacted(text)
    return _own_error(clean) or _build_error(clean)


def redacted(text: str) -> str:
    """Return a log without colours and without what stands before the host in URLs."""
    return "\n".join(without_credentials(line) for line in _ANSI.sub("", text).splitlines())


def _own_error(text: str) -> Finding:
    for line in reversed(text.splitlines()):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and isinstance(told.get("error"), str) and "code" in told:
            rest = {k: v for k, v in told.items() if k not in ("error", "code", "hint")}
            package = told.get("package")
            return Finding(
                sentence=told["error"],
                hint=str(told.get("hint", "")),
                code=str(told["code"]),
                requirement=package if isinstance(package, str) else "",
                data=rest,
            )
    return Finding()


def _build_error(text: str) -> Finding:
    line, instruction = _instruction(text)
    requirement = _last(_REQUIREMENTS, text)
    if requirement and instruction:
        sentence = f"{_short(instruction)} failed because of {requirement}."
    elif requirement:
        sentence = f"The requirement {requirement} cannot be installed."
    elif instruction:
        sentence = f"{_short(instruction)} failed."
    elif match := _KANIKO_ERROR.search(text):
        sentence = f"{_short(match[1])}."
    else:
        return Finding()
    if line:
        sentence = f"Line {line} of the Dockerfile: {sentence}"
    return Finding(
        sentence=sentence, line=line, instruction=_short(instruction), requirement=requirement
    )


def _instruction(text: str) -> tuple[int, str]:
    if match := _BUILDKIT_LINE.search(text):
        marked = _BUILDKIT_MARK.search(text, match.end())
        return int(match[1]), marked[1] if marked else ""
    if match := _BUILDKIT_PROCESS.search(text):
        return 0, f"RUN {match[1]}"
    steps = _KANIKO_STEP.findall(text)
    return 0, steps[-1] if steps and _KANIKO_ERROR.search(text) else ""


def _last(patterns: tuple[re.Pattern[str], ...], text: str) -> str:
    """The last word on a requirement: earlier ones may have been tried again."""
    found = [match for pattern in patterns for match in pattern.finditer(text)]
    return max(found, key=lambda match: match.start())[1].strip("`'\".,:;()") if found else ""


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else f"{flat[:_LONGEST]}..."
