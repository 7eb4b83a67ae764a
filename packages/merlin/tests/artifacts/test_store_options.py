"""Options of stores: what they say wins over the environment, and secrets stay in their files."""

from __future__ import annotations

import json
import os
import sys
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from merlin.artifacts import AzureOptions, GcsOptions, S3Options, open_store
from merlin.artifacts.azure import open_azure
from merlin.artifacts.errors import StoreDenied, UnknownStore
from merlin.artifacts.gcs import open_gcs
from merlin.artifacts.s3 import open_s3
from merlin.artifacts.store import Remote
from tests.blob_servers import AZURITE_ACCOUNT, AZURITE_KEY, Service
from tests.cloud_identities import Cloud, serving_cloud

SECRET = "canary-0ff1ce"
NOWHERE = "http://127.0.0.1:9"


def written(folder: Path, **secrets: str) -> dict[str, Path]:
    for name, text in secrets.items():
        (folder / name).write_text(f"{text}\n")
    return {name: folder / name for name in secrets}


@pytest.mark.parts("swift")
def test_s3_keys_come_from_files_and_from_nowhere_else(
    swift_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"test-{uuid.uuid4()}"
    swift_service.make_bucket(bucket)
    # All of it would be mixed in, or win, if the process's environment were listened to.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-session")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", NOWHERE)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    files = written(tmp_path, key="test:tester", secret="testing")
    options = S3Options(
        endpoint_url=swift_service.url,
        region="us-east-1",
        access_key_id_file=files["key"],
        secret_access_key_file=files["secret"],
    )
    store = open_store(f"s3://{bucket}/root", options)
    store.write("key", [b"content"])
    assert b"".join(store.read("key")) == b"content"

    files["secret"].write_text(SECRET)
    refused = open_store(f"s3://{bucket}/root", options)
    with pytest.raises(StoreDenied, match="s3:PutObject") as caught:
        refused.write("key", [b""])
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(options)

    files["secret"].unlink()
    gone = open_store(f"s3://{bucket}/root", options)
    with pytest.raises(StoreDenied, match=rf"secret file {files['secret']} cannot be read"):
        gone.write("key", [b""])


@pytest.mark.parts("moto")
def test_a_profile_of_a_file_is_chosen(moto_service: Service, tmp_path: Path) -> None:
    bucket = f"test-{uuid.uuid4()}"
    moto_service.make_bucket(bucket)
    file = tmp_path / "credentials"
    file.write_text("[models]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    options = S3Options(endpoint_url=moto_service.url, credentials_file=file, profile="models")
    store = open_s3(f"s3://{bucket}", {"AWS_ACCESS_KEY_ID": "other"}, options=options)
    assert store.write("key", [b"content"]).size == 7
    assert store.connection.identity() == f"The profile models of {file}"
    with pytest.raises(StoreDenied, match=r"profile nobody of .* holds no key"):
        open_s3(f"s3://{bucket}", {}, options=S3Options(credentials_file=file, profile="nobody"))
    file.write_text(f"{SECRET} = no section\n")
    with pytest.raises(StoreDenied, match="is not a file of AWS profiles") as caught:
        open_s3(f"s3://{bucket}", {}, options=options)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


Given = Callable[[Cloud, Path, pytest.MonkeyPatch], None]


def web_identity(cloud: Cloud, folder: Path, environ: pytest.MonkeyPatch) -> None:
    """A service account of EKS."""
    environ.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(written(folder, token="jwt")["token"]))
    environ.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/models")
    environ.setenv("AWS_ENDPOINT_URL_STS", cloud.url)


def pod_identity(cloud: Cloud, folder: Path, environ: pytest.MonkeyPatch) -> None:
    """EKS Pod Identity, and ECS by the same protocol."""
    environ.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.url}/credentials")
    file = written(folder, token="jwt")["token"]
    file.write_text("jwt")
    environ.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(file))


def instance(cloud: Cloud, folder: Path, environ: pytest.MonkeyPatch) -> None:
    """The metadata of a machine, asked by version 2 of its protocol."""
    del folder
    environ.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{cloud.url}/")


def assumed_role(cloud: Cloud, folder: Path, environ: pytest.MonkeyPatch) -> None:
    (folder / "config").write_text(
        "[profile base]\naws_access_key_id = base\naws_secret_access_key = secret\n"
        "[profile models]\nrole_arn = arn:aws:iam::123456789012:role/models\n"
        "source_profile = base\n"
    )
    environ.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    environ.setenv("AWS_PROFILE", "models")
    environ.setenv("AWS_ENDPOINT_URL_STS", cloud.url)


def process(cloud: Cloud, folder: Path, environ: pytest.MonkeyPatch) -> None:
    (folder / "answer").write_text(json.dumps({"Version": 1, **cloud.keys()}))
    command = f"{sys.executable} -c \"print(open('{folder}/answer').read())\""
    (folder / "config").write_text(f"[default]\ncredential_process = {command}\n")
    environ.setenv("AWS_CONFIG_FILE", str(folder / "config"))


@pytest.mark.parametrize(
    ("given", "source"),
    [
        (web_identity, "assume-role-with-web-identity"),
        (pod_identity, "container-role"),
        (instance, "iam-role"),
        (assumed_role, "assume-role"),
        (process, "custom-process"),
    ],
)
def test_the_default_chain_of_s3(
    given: Given, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with serving_cloud() as cloud:
        given(cloud, tmp_path, monkeypatch)
        store = open_s3("s3://models", options=S3Options(endpoint_url=cloud.url))
        assert store.connection.identity() == f"{source}, as botocore found it"
        store.write("key", [b"content"])
    [(credential, token)] = cloud.signed
    assert credential.startswith("FOUND/")
    assert token == "session"


def test_no_credentials_at_all_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreDenied, match="There are no AWS credentials"):
        open_s3("s3://models", options=S3Options(endpoint_url=NOWHERE)).write("key", [b""])


def test_a_profile_that_needs_botocore_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    (tmp_path / "config").write_text("[profile sso]\nsso_session = ours\n")
    environ = {"AWS_PROFILE": "sso", "AWS_CONFIG_FILE": str(tmp_path / "config")}
    with pytest.raises(StoreDenied, match=r"needs botocore.*pip install"):
        open_s3("s3://models", environ)
    assert open_s3("s3://models", {}).connection.identity().startswith("obstore's chain")


@pytest.mark.parts("azurite")
def test_azure_secrets_come_from_files(azurite_service: Service, tmp_path: Path) -> None:
    container = f"test-{uuid.uuid4()}"
    azurite_service.make_bucket(container)
    files = written(
        tmp_path,
        connection=azurite_service.environ["AZURE_STORAGE_CONNECTION_STRING"],
        key=AZURITE_KEY,
    )
    by_connection = AzureOptions(connection_string_file=files["connection"])
    by_key = AzureOptions(
        account=AZURITE_ACCOUNT,
        endpoint_url=azurite_service.url,
        account_key_file=files["key"],
    )
    for options in (by_connection, by_key):
        store = open_store(f"az://{container}", options)
        store.write("key", [b"content"])
        assert b"".join(store.read("key")) == b"content"
        assert isinstance(store, Remote)
        assert str(tmp_path) in store.connection.identity()

    files["key"].write_text(f"sv=2022-11-02&ss=b&srt=sco&sp=rwdl&sig={SECRET}")
    by_token = AzureOptions(
        account=AZURITE_ACCOUNT, endpoint_url=azurite_service.url, sas_token_file=files["key"]
    )
    with pytest.raises(StoreDenied, match="Storage Blob Data Contributor") as caught:
        open_azure(f"az://{container}", {}, options=by_token).write("key", [b""])
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(StoreDenied, match=r"secret file .* cannot be read"):
        open_azure(
            f"az://{container}",
            {},
            options=AzureOptions(connection_string_file=tmp_path / "none"),
        )


@pytest.mark.parts("gcs-emulator")
def test_gcs_signs_in_with_a_key_file(gcs_service: Service, tmp_path: Path) -> None:
    bucket = f"test-{uuid.uuid4()}"
    gcs_service.make_bucket(bucket)
    with serving_cloud() as cloud:
        options = GcsOptions(
            endpoint_url=gcs_service.url, key_file=cloud.google_key(tmp_path / "key.json")
        )
        store = open_gcs(f"gs://{bucket}", {}, options=options)
        assert store.write("key", [b"content"]).size == 7
        assert "builder@demo.iam.gserviceaccount.com" in store.connection.identity()
        store.close()
    (tmp_path / "key.json").write_text(json.dumps({"type": "service_account", "key": SECRET}))
    with pytest.raises(StoreDenied, match=r"No Google credentials .*key\.json") as caught:
        open_gcs(f"gs://{bucket}", {}, options=options)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_options_of_another_store_are_refused() -> None:
    with pytest.raises(UnknownStore, match="GcsOptions are for gs URLs"):
        open_store("s3://models", GcsOptions())


@pytest.mark.parametrize("url", ["s3://b", "gs://b", "az://b"])
def test_an_authority_that_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    options = {
        "s3": S3Options(ca_file=missing),
        "gs": GcsOptions(ca_file=missing),
        "az": AzureOptions(ca_file=missing, account="a"),
    }[url.partition(":")[0]]
    with pytest.raises(UnknownStore, match=r"ca\.pem cannot be read"):
        open_store(url, options)
