"""Settings: where they come from, what contradicts itself, and that no secret is shown."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from merlin.artifacts import AzureOptions, GcsOptions, S3Options
from merlin_server.database_address import database_address, shown_address
from merlin_server.settings import Settings
from merlin_server.settings_loading import SettingsInvalid, load_settings

SECRET = "canary-5e77"


def load(folder: Path, text: str, told: list[str] | None = None, /, **environ: str) -> Settings:
    file = folder / "merlin.yaml"
    file.write_text(text)
    messages: list[str] = told if told is not None else []
    options: dict[str, Any] = {} if "data_dir" in text else {"data_dir": folder / "data"}
    return load_settings([file], options, environ=environ, tell=messages.append)


def test_variables_win_over_secret_files_and_those_over_the_file(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "MERLIN_DATABASE_URL").write_text("postgresql://merlin:of-secret@db/merlin\n")
    (secrets / "merlin_registry__type").write_text("docker\n")
    (secrets / "MERLIN_REGISTRY__PREFIX").write_text("secret.example.com/ml\n")
    (secrets / "..data").mkdir()
    settings = load(
        tmp_path,
        "registry: {type: gcr, prefix: file.example.com, insecure: true}\n",
        MERLIN_SECRETS_DIR=str(secrets),
        MERLIN_REGISTRY__PREFIX="variable.example.com/ml",
    )
    assert settings.registry.prefix == "variable.example.com/ml"
    assert (settings.registry.type, settings.registry.insecure) == ("docker", True)
    assert settings.database_url == "postgresql://merlin:of-secret@db/merlin"
    with pytest.raises(SettingsInvalid, match="which cannot be read"):
        load(tmp_path, "", MERLIN_SECRETS_DIR=str(tmp_path / "nowhere"))


def test_the_password_of_the_database_may_have_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{SECRET}/@:\n")
    settings = load(
        tmp_path,
        "database_url: postgresql://merlin@db:5432/merlin\n"
        f"database_password_file: {tmp_path}/password\n",
    )
    address = database_address(settings)
    assert address == f"postgresql://merlin:{SECRET}%2F%40%3A@db:5432/merlin"
    assert shown_address(address) == "postgresql://merlin:***@db:5432/merlin"
    assert SECRET not in repr(settings)


def test_options_of_a_store_are_made_of_its_section(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key")
    text = "artifacts_url: {url}\nartifacts: {{{name}: {{endpoint_url: 'https://blobs.example'}}}}"
    for url, name, kind in (
        ("s3://models", "s3", S3Options),
        ("gs://models", "gcs", GcsOptions),
        ("az://models", "azure", AzureOptions),
    ):
        settings = load(tmp_path, text.format(url=url, name=name))
        expected = kind(endpoint_url="https://blobs.example")
        assert settings.artifacts.of(url) == expected
    assert Settings().artifacts.of("s3://models") is None
    by_variable = load(
        tmp_path, "", MERLIN_ARTIFACTS_URL="s3://m", MERLIN_ARTIFACTS__S3__REGION="eu-west-1"
    )
    assert by_variable.artifacts.of("s3://m") == S3Options(region="eu-west-1")


DOCKER = "registry: {type: docker, prefix: registry.example.com/ml, "
WRONG = [
    ("port: 70000", "port: "),
    ("no_such_key: 1", "no_such_key: there is no such setting."),
    ("registry: {prefx: a}", "registry.prefx: there is no such setting."),
    ("public_url: merlin.example.com", "public_url: it is not an address"),
    ("tracking_url: ftp://mlflow", "tracking_url: it is not an address"),
    (
        "data_dir: /dev/null/merlin",
        "data_dir: /dev/null/merlin cannot be made or written to: /dev/null is not a folder.",
    ),
    ("database_url: ':'", "database_url: it is not a URL"),
    ("database_url: mysql://db/merlin", "database_url: mysql is neither postgresql nor sqlite."),
    (
        "database_password_file: FILE",
        "database_password_file: it is given, and database_url is not",
    ),
    (
        "{database_url: 'postgresql://a:b@db/c', database_password_file: FILE}",
        "database_password_file: it is given, and database_url holds a password as well.",
    ),
    ("artifacts_url: models", "artifacts_url: 'models' is neither a URL nor an absolute folder."),
    (
        "{artifacts_url: 'gs://models', artifacts: {s3: {region: eu-west-1}}}",
        "artifacts.s3: it is for s3:// URLs, and artifacts_url is 'gs://models'.",
    ),
    (
        "{artifacts_url: 's3://m', artifacts: {s3: {region: a}, azure: {account: b}}}",
        "artifacts.azure: it is for az:// URLs, and artifacts_url is 's3://m'.",
    ),
    ("artifacts: {gcs: {key_file: FILE}}", "artifacts.gcs: it is for gs:// URLs"),
    (
        "{artifacts_url: 's3://m', artifacts: {s3: {endpoint_url: 'minio:9000'}}}",
        "artifacts.s3.endpoint_url: it is not an address",
    ),
    (
        "{artifacts_url: 's3://m', artifacts: {s3: {endpoint_url: 'http://m', ca_file: FILE}}}",
        "artifacts.s3.ca_file: it is given, and endpoint_url is plain http.",
    ),
    (
        "{artifacts_url: 's3://m', artifacts: {s3: {access_key_id_file: FILE}}}",
        "artifacts.s3: access_key_id_file and secret_access_key_file go together; one is set.",
    ),
    (
        (
            "{artifacts_url: 's3://m', artifacts: {s3: {access_key_id_file: FILE, "
            "secret_access_key_file: FILE, profile: a}}}"
        ),
        "artifacts.s3: it names key files and a profile, and only one can count.",
    ),
    (
        (
            "{artifacts_url: 'az://m', artifacts: {azure: {account_key_file: FILE, "
            "sas_token_file: FILE}}}"
        ),
        "artifacts.azure: account_key_file and sas_token_file are given, and only one",
    ),
    ("environments: [{name: a}, {name: a, is_default: true}]", "environments: two have the same"),
    ("environments: [{name: a}]", "environments: exactly one must have is_default: true."),
    ("environments: [{name: a, is_default: true, cpu: 1}]", "environments.0.cpu: there is no such"),
    (
        "registry: {type: docker}",
        "registry.prefix: it is not set, and type is docker; give one, such as",
    ),
    (
        "registry: {type: layout}",
        "registry.prefix: it is not set, and type is layout; give a folder",
    ),
    ("registry: {prefix: registry.example.com}", "and type is builtin; set type to docker"),
    (
        "registry: {type: layout, prefix: 'https://registry.example.com'}",
        "registry.prefix: 'https://registry.example.com' is a URL, and type layout needs a folder.",
    ),
    ("registry: {type: docker, prefix: 'https://r.example.com/ml'}", "without scheme."),
    ("registry: {type: docker, prefix: 'r.example.com/Models'}", "registry.prefix: "),
    (
        "registry: {type: gcr, prefix: registry.example.com/ml}",
        "registry.example.com is no host of Google's (*.pkg.dev, gcr.io), and type is gcr.",
    ),
    (
        "registry: {type: gcr, prefix: europe-docker.pkg.dev/demo}",
        "registry.prefix: Artifact Registry's are europe-docker.pkg.dev/PROJECT/REPOSITORY.",
    ),
    (
        "registry: {type: ecr, prefix: registry.example.com/ml}",
        "registry.example.com is no host of ECR that tells its region; set aws_region.",
    ),
    (f"{DOCKER} username: me}}", "registry.username: it is given without password_file."),
    (f"{DOCKER} insecure: true, ca_file: FILE}}", "registry.ca_file: it is given, and insecure is"),
    (
        f"{DOCKER} google_key_file: FILE}}",
        "registry.google_key_file: it is given, and type is docker",
    ),
    (f"{DOCKER} aws_region: eu-west-1}}", "registry.aws_region: it is given, and type is docker"),
    (
        f"{DOCKER} docker_config: FILE, password_file: FILE}}",
        "registry: docker_config and password_file are given, and only one of them can count.",
    ),
    ("registry: {password_file: FILE}", "registry.password_file: it is given, and type builtin"),
    ("registry: {insecure: true}", "registry.insecure: it is given, and type builtin needs no"),
    (f"{DOCKER} ca_file: /nowhere/ca.pem}}", "registry.ca_file: there is no /nowhere/ca.pem."),
    (f"{DOCKER} password_file: FOLDER}}", "is not a file."),
    ("images: {index_url: pypi}", "images.index_url: it is not an address"),
    ("images: {index_url: 'https://u:p@pypi'}", "images.index_url: it holds a user or password"),
    ("images: {python_versions: []}", "images.python_versions: it is empty"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_wrong_stops_the_start_with_a_sentence(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    text = text.replace("FILE", str(tmp_path / "file")).replace("FOLDER", str(tmp_path))
    with pytest.raises(SettingsInvalid) as caught:
        load(tmp_path, text)
    assert said in caught.value.message
    assert len(caught.value.message.split(". ")) == 1, "one fault is one sentence"


def test_all_is_said_at_once_across_sections(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load(
            tmp_path,
            "port: many\nregistry: {type: gcr, prefix: example.com, ca_file: /nowhere}\n"
            "artifacts_url: gs://m\nartifacts: {s3: {region: a}}\n"
            "ImageBuilderConfig: {BuildTimeout: soon}\n",
            MERLIN_IMAGES__CODEC="rar",
        )
    for said in (
        "port: ",
        "images.codec: ",
        "no host of Google's",
        "there is no /nowhere",
        "artifacts.s3: ",
        "'soon' is not a duration",
    ):
        assert said in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        f"database_url: {{a: {SECRET}}}",
        f"database_url: 'mysql://me:{SECRET}@db/merlin'",
        f"tracking_url: 'ftp://me:{SECRET}@mlflow'",
        f"artifacts_url: 'gs://me:{SECRET}@b?sig={SECRET}'\nartifacts: {{s3: {{region: a}}}}",
        f"registry: {{type: layout, prefix: 'https://me:{SECRET}@registry'}}",
        f"registry: {{type: docker, prefix: 'me:{SECRET}@registry.example.com/ml'}}",
        f"images: {{index_url: 'https://me:{SECRET}@pypi'}}",
        f"DbConfig: {{Host: db, Password: {SECRET}, Port: a}}",
        f"database_url: postgresql://a\nDbConfig: {{Host: db, Password: {SECRET}}}",
        f"tracking_url: 'http://a'\nMlflowConfig: {{TrackingURL: 'http://me:{SECRET}@b'}}",
        f"database_url: 'postgresql://me:{SECRET}@db\n  nonsense: : [",
    ],
)
def test_no_fault_shows_a_secret(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load(tmp_path, text)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in str(caught.value.to_dict())


def test_no_repr_or_message_shows_a_secret(tmp_path: Path) -> None:
    told: list[str] = []
    settings = load(
        tmp_path,
        f"DbConfig: {{Host: db, User: me, Password: {SECRET}}}\n"
        f"MlflowConfig: {{TrackingURL: 'http://me:{SECRET}@mlflow'}}\n",
        told,
    )
    assert SECRET in settings.database_url
    assert SECRET in settings.tracking_url
    assert SECRET not in repr(settings) + str(settings) + " ".join(told)


def test_a_variable_of_no_section_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    load(tmp_path, "", told, MERLIN_REGISTY__TYPE="docker", MERLIN_CONFIG="profile.toml")
    assert told == ["MERLIN_REGISTY__TYPE sets nothing: there is no section registy."]


def test_a_file_that_is_no_mapping_is_named(tmp_path: Path) -> None:
    for text in ("[1]", "1: a", yaml.safe_dump("text")):
        with pytest.raises(SettingsInvalid, match="is not a mapping"):
            load(tmp_path, text)
