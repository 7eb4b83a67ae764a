"""`merlin doctor` says what works, names what does not, and shows no secret of either."""

from __future__ import annotations

import io
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from merlin.artifacts.local import LocalStore
from merlin.artifacts.s3 import open_s3
from merlin_server.database import Database
from merlin_server.doctor import DoctorFoundFaults, Finding, Outcome, examine, run_doctor
from merlin_server.doctor.report import report
from merlin_server.migrations.upgrade import HEAD, upgrade
from merlin_server.settings import Settings
from merlin_server.settings_loading import load_settings
from tests.blob_servers import CannotInstall, Service, swift
from tests.peers import missing, postgres
from tests.registry_servers import (
    PASSWORD,
    USER,
    docker_registry,
    docker_with_password,
    docker_with_tls,
)
from tests.token_server import TokenServer, serving_tokens

SECRET = "canary-d0c7"
OK, FAILED, SKIPPED = Outcome.OK, Outcome.FAILED, Outcome.SKIPPED


def now() -> datetime:
    return datetime.now(UTC)


def found(
    folder: Path, section: Mapping[str, Any], place: str, ahead: timedelta = timedelta()
) -> dict[str, Finding]:
    """What comes of each step of a place, with settings as a maintainer would write them."""
    file = folder / "merlin.yaml"
    file.write_text(json.dumps(section))
    settings = load_settings([file], {"data_dir": folder / "data"}, environ={})
    findings = list(examine(settings, uuid.uuid4().hex, lambda: now() + ahead))
    assert SECRET not in repr(findings)
    return {finding.step: finding for finding in findings if finding.place == place}


def outcomes(findings: Mapping[str, Finding]) -> dict[str, Outcome]:
    return {step: finding.outcome for step, finding in findings.items()}


def test_all_is_well_with_nothing_configured_and_nothing_is_left(tmp_path: Path) -> None:
    findings = list(examine(Settings(data_dir=tmp_path / "data"), "one", now))
    assert {finding.outcome for finding in findings} == {OK, SKIPPED}
    assert {finding.place for finding in findings} == {
        "database",
        "artifact store",
        "image registry",
        "environments",
    }
    assert list(LocalStore(tmp_path / "data" / "artifacts").list()) == []
    assert not (tmp_path / "data" / "merlin.db").exists()


def test_a_layout_folder_is_written_to(tmp_path: Path) -> None:
    registry = {"type": "layout", "prefix": str(tmp_path / "images")}
    findings = found(tmp_path, {"registry": registry}, "image registry")
    assert findings["push"].outcome is OK
    assert findings["reach"].outcome is SKIPPED
    assert findings["delete"].detail.startswith("gone")


@pytest.fixture(scope="module")
def with_password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The prefix at a registry that knows one user."""
    with docker_with_password(tmp_path_factory.mktemp("htpasswd")) as place:
        yield str(place.settings["prefix"])


def signed_in(folder: Path, prefix: str, password: str) -> dict[str, Any]:
    (folder / "password").write_text(f"{USER}:{password}\n")
    file = str(folder / "password")
    return {"registry": {"type": "docker", "prefix": prefix, "password_file": file}}


@pytest.mark.parts("docker-registry")
def test_a_registry_is_pushed_to_and_says_who_we_are(with_password: str, tmp_path: Path) -> None:
    section = signed_in(tmp_path, with_password, PASSWORD)
    findings = found(tmp_path, section, "image registry")
    assert set(outcomes(findings).values()) == {OK}
    assert findings["credentials"].detail == f"{USER} by the password file {tmp_path}/password"
    assert "without TLS" in findings["reach"].detail
    assert findings["delete"].detail.startswith("gone")

    late = found(tmp_path, section, "image registry", ahead=timedelta(hours=1))
    assert late["clock"].outcome is FAILED
    assert "s ahead of that of 127.0.0.1" in late["clock"].detail


@pytest.mark.parts("docker-registry")
def test_a_wrong_password_is_no_missing_right(with_password: str, tmp_path: Path) -> None:
    section = signed_in(tmp_path, with_password, SECRET)
    findings = found(tmp_path, section, "image registry")
    assert findings["reach"].outcome is OK
    assert findings["push"].outcome is FAILED
    assert "they are wrong or no longer valid" in findings["push"].hint
    assert findings["push"].permission == ""
    assert findings["delete"].outcome is SKIPPED
    assert findings["delete"].detail == "push did not succeed"


@pytest.mark.parts("docker-registry")
def test_a_token_that_may_only_read_names_the_right(tmp_path: Path) -> None:
    server = TokenServer(users={USER: PASSWORD}, actions=frozenset({"pull"}))
    certificate = tmp_path / "certificate.pem"
    with (
        serving_tokens(server, certificate),
        docker_registry(tmp_path, server.registry_options(certificate)) as (host, _),
    ):
        section = signed_in(tmp_path, f"{host}/ml", PASSWORD)
        findings = found(tmp_path, section, "image registry")
        assert findings["look up"].outcome is OK
        assert findings["push"].outcome is FAILED
        assert findings["push"].permission == "the right to push"

        server.users.clear()
        findings = found(tmp_path, section, "image registry")
    assert "token server" in findings["look up"].detail
    assert "wrong or no longer valid" in findings["look up"].hint


@pytest.mark.parts("docker-registry")
def test_name_connection_and_certificate_are_told_apart(tmp_path: Path) -> None:
    def reached(prefix: str, **more: Any) -> Finding:
        registry = {"type": "docker", "prefix": prefix, **more}
        findings = found(tmp_path, {"registry": registry}, "image registry")
        if findings["reach"].outcome is FAILED:
            assert findings["push"].outcome is SKIPPED
        return findings["reach"]

    assert reached("no-such-host.invalid/ml").detail.startswith("DNS knows no no-such-host.invalid")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused = reached(f"127.0.0.1:{port}/ml")
    assert f"Port {port} of 127.0.0.1 takes no connection: Connection refused" in refused.detail

    with docker_with_tls(tmp_path) as place:
        prefix, ca_file = place.settings["prefix"], place.settings["ca_file"]
        assert "TLSv1" in reached(prefix, ca_file=ca_file).detail
        other = tmp_path / "other.pem"
        with serving_tokens(TokenServer(users={}), other):
            unknown = reached(prefix, ca_file=str(other))
    assert "The certificate of 127.0.0.1 is not trusted" in unknown.detail
    assert "ca_file" in unknown.hint


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A bucket of a service that checks signatures."""
    with ExitStack() as stack:
        try:
            service = stack.enter_context(swift(tmp_path_factory.mktemp("swift")))
        except CannotInstall as error:
            missing(str(error))
        service.make_bucket("models")
        yield service, "models"


def s3_section(service: Service, folder: Path, secret: str) -> dict[str, Any]:
    (folder / "id").write_text("test:tester\n")
    (folder / "secret").write_text(f"{secret}\n")
    s3 = {
        "endpoint_url": service.url,
        "region": "us-east-1",
        "access_key_id_file": str(folder / "id"),
        "secret_access_key_file": str(folder / "secret"),
    }
    return {"artifacts_url": "s3://models/platform", "artifacts": {"s3": s3}}


@pytest.mark.parts("swift")
def test_a_bucket_is_written_to_and_left_empty(bucket: tuple[Service, str], tmp_path: Path) -> None:
    section = s3_section(bucket[0], tmp_path, "testing")
    findings = found(tmp_path, section, "artifact store")
    assert set(outcomes(findings).values()) == {OK}
    assert findings["credentials"].detail == f"the key in {tmp_path}/id and {tmp_path}/secret"
    store = open_s3("s3://models", bucket[0].environ)
    assert list(store.list("platform/merlin/doctor")) == []
    behind = found(tmp_path, section, "artifact store", ahead=timedelta(minutes=-20))
    assert behind["clock"].outcome is FAILED
    assert "s behind that of 127.0.0.1" in behind["clock"].detail


@pytest.mark.parts("swift")
def test_a_wrong_key_names_the_actions_of_s3(bucket: tuple[Service, str], tmp_path: Path) -> None:
    findings = found(tmp_path, s3_section(bucket[0], tmp_path, SECRET), "artifact store")
    assert findings["list"].permission == "s3:ListBucket"
    assert findings["write"].permission == "s3:PutObject and s3:AbortMultipartUpload"
    assert {outcomes(findings)[step] for step in ("read", "create once", "delete")} == {SKIPPED}


def test_a_store_that_is_away_does_not_hide_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "merlin.yaml"
    config.write_text(
        "artifacts_url: ftp://host/models\n"
        f"database_url: postgresql://me:{SECRET}@127.0.0.1:9/merlin\n"
        f"tracking_url: http://me:{SECRET}@127.0.0.1:9\n"
        "environments: [{name: gone, is_default: true, deployer: none-such}]\n"
    )
    with pytest.raises(DoctorFoundFaults, match="4 checks failed"):
        run_doctor(files=[config], options={"data_dir": tmp_path}, output="json")
    document = json.loads(shown := capsys.readouterr().out)
    assert document["ok"] is False
    assert [
        (finding["place"], finding["step"])
        for finding in document["findings"]
        if finding["outcome"] == "failed"
    ] == [
        ("database", "connect"),
        ("artifact store", "open"),
        ("environments", "gone"),
        ("tracking", "reach"),
    ]
    assert SECRET not in shown


@pytest.mark.parts("postgres")
def test_a_database_says_its_schema(tmp_path: Path) -> None:
    with postgres() as url:
        section = {"database_url": url}
        findings = found(tmp_path, section, "database")
        assert findings["connect"].detail.startswith("postgresql PostgreSQL ")
        assert findings["schema"].detail == f"empty; the first start makes {HEAD}"
        database = Database(url)
        upgrade(database)
        assert found(tmp_path, section, "database")["schema"].detail == f"{HEAD}, current"
        with database.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        database.dispose()
        assert found(tmp_path, section, "database")["schema"].outcome is FAILED


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "merlin.db").write_bytes(b"no database " * 1000)
    findings = found(tmp_path, {}, "database")
    assert "not a database" in findings["schema"].detail + findings["connect"].detail


def test_settings_that_cannot_be_are_said_before_any_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "merlin.yaml").write_text("registry: {type: ecr}\n")
    with pytest.raises(Exception, match=r"registry\.prefix: it is not set, and type is ecr"):
        run_doctor(files=[tmp_path / "merlin.yaml"], options={"data_dir": tmp_path})
    assert capsys.readouterr().out == ""


def test_findings_are_lines_for_pipes_and_a_tree_for_terminals() -> None:
    findings = [
        Finding("database", "connect", OK, "sqlite", seconds=0.12),
        Finding("database", "schema", FAILED, "It is too new.", "Start another Merlin."),
        Finding("artifact store", "read", SKIPPED, "write did not succeed"),
    ]
    pipe = io.StringIO()
    assert report(iter(findings), "text", pipe) == findings
    assert pipe.getvalue().splitlines() == [
        "ok      database, connect: sqlite",
        "FAILED  database, schema: It is too new. Start another Merlin.",
        "skipped artifact store, read: write did not succeed",
    ]
    primary, secondary = os.openpty()
    with os.fdopen(primary, "rb", buffering=0) as seen, os.fdopen(secondary, "w") as terminal:
        report(iter(findings), "text", terminal)
        terminal.flush()
        content = b""
        while b"did not succeed" not in content:  # A terminal hands over what it has so far.
            content += seen.read(4096)
        shown = content.decode()
    for word in ("✓", "✗", "connect", "120 ms", "Start another Merlin."):
        assert word in shown
