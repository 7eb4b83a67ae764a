"""Findings as people and programs read them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from merlin.output.human import human_duration
from merlin.output.streams import TOLD_SECONDS
from merlin_server.doctor.steps import Finding, Outcome

_STEP_WIDTH = 16
_MARKS = {
    Outcome.OK: Text("✓", style="green"),
    Outcome.FAILED: Text("✗", style="bold red"),
    Outcome.SKIPPED: Text("-", style="dim"),
}


def report(
    findings: Iterable[Finding], output: Literal["text", "json"], stream: TextIO
) -> list[Finding]:
    """Write findings, each as it is known except for JSON, which is one object; return them."""
    if output == "json":
        found = list(findings)
        document = {
            "ok": all(finding.outcome is not Outcome.FAILED for finding in found),
            "findings": [finding.to_dict() for finding in found],
        }
        stream.write(json.dumps(document) + "\n")
        return found
    if stream.isatty():
        return list(_tree(findings, Console(file=stream)))
    return list(_lines(findings, stream))


def _tree(findings: Iterable[Finding], console: Console) -> Iterable[Finding]:
    place = ""
    for finding in findings:
        if finding.place != place:
            place = finding.place
            console.print(Text(place, style="bold"))
        failed = finding.outcome is Outcome.FAILED
        told = Text(finding.detail, style="red" if failed else "dim")
        if finding.seconds >= TOLD_SECONDS:
            told.append(f"  {human_duration(finding.seconds)}", style="dim")
        line = Table.grid(padding=(0, 1))
        line.add_column(width=_STEP_WIDTH)
        line.add_row(Text.assemble("  ", _MARKS[finding.outcome], f" {finding.step}"), told)
        if finding.hint:
            line.add_row("", Text(finding.hint))
        console.print(line)
        yield finding


def _lines(findings: Iterable[Finding], stream: TextIO) -> Iterable[Finding]:
    for finding in findings:
        word = finding.outcome.upper() if finding.outcome is Outcome.FAILED else finding.outcome
        told = f"{finding.detail} {finding.hint}".rstrip()
        stream.write(f"{word:<8}{finding.place}, {finding.step}: {told}\n")
        stream.flush()
        yield finding
