"""`merlin doctor` says what works, and names what does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from merlin.artifacts.local import LocalStore
from merlin_server.doctor import DoctorFoundFaults, examine, run_doctor
from merlin_server.settings import RegistrySettings, Settings


def now() -> datetime:
    return datetime.now(UTC)


def test_all_is_well_and_nothing_is_left(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "data",
        registry=RegistrySettings(type="layout", prefix=str(tmp_path / "images")),
    )
    findings = list(examine(settings, "one", now))
    assert [finding.step for finding in findings if not finding.is_good] == []
    assert len(findings) == 10
    assert list(LocalStore(tmp_path / "data" / "artifacts").list()) == []


def test_a_wrong_clock_is_named(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    findings = list(examine(settings, "one", lambda: now() + timedelta(hours=1)))
    faults = [finding for finding in findings if not finding.is_good]
    assert [fault.step for fault in faults] == ["artifact store, clock"]
    assert "ahead of the store's" in faults[0].detail


def test_a_store_that_is_not_there_does_not_hide_the_registry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "merlin.yaml"
    config.write_text(
        "artifacts_url: ftp://host/models\n"
        "registry: {type: docker, prefix: '127.0.0.1:1/ml', insecure: true}\n"
    )
    with pytest.raises(DoctorFoundFaults, match="2 checks failed"):
        run_doctor(files=[config], options={"data_dir": tmp_path})
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    assert [line.removeprefix("FAILED").split(":")[0].strip() for line in failed] == [
        "artifact store, open",
        "image registry, reach and log in",
    ]
