"""S3 and what speaks its protocol: ``s3://bucket/folder``.

Configured as AWS's own tools are, by environment and ``~/.aws``:

- Credentials: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` (``AWS_SESSION_TOKEN``), else the
  profile ``AWS_PROFILE`` of the shared credentials file, else web identity, container and instance
  credentials, which are renewed as they expire.
- ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``: another service than AWS. An empty value is none.
- ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, else the profile's region, else us-east-1.
- ``AWS_S3_ADDRESSING_STYLE``: ``path`` (default with an endpoint) or ``virtual`` (default at AWS).
- ``AWS_CA_BUNDLE``: PEM file of a private certificate authority.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.store import S3Store

from merlin.artifacts.bucket import RETRIES, BucketStore, client_options
from merlin.artifacts.bucket_errors import Service
from merlin.artifacts.bucket_urls import split_bucket_url
from merlin.artifacts.errors import UnknownStore
from merlin.hidden import ENVIRON

if TYPE_CHECKING:  # obstore has these for type checkers only.
    from obstore.store import S3Config

S3 = Service(
    "S3",
    {
        "read": "s3:GetObject (and s3:ListBucket, without which a missing object looks forbidden)",
        "write": "s3:PutObject and s3:AbortMultipartUpload",
        "delete": "s3:DeleteObject",
        "list": "s3:ListBucket",
    },
    copies_up_to=5 << 30,
)


def open_s3(url: str, environ: Mapping[str, str] = ENVIRON) -> BucketStore:
    """Open ``s3://bucket/folder``; nothing is asked of the service yet."""
    bucket, root = split_bucket_url(url)
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""
    config: S3Config = {**_credentials(environ)}
    if region := environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"):
        config["region"] = region
    style = environ.get("AWS_S3_ADDRESSING_STYLE") or ("path" if endpoint else "virtual")
    if style not in {"path", "virtual"}:
        raise UnknownStore(
            f"AWS_S3_ADDRESSING_STYLE is {style!r}.", hint="Set it to path or to virtual."
        )
    config["virtual_hosted_style_request"] = style == "virtual"
    if endpoint:
        scheme, _, rest = endpoint.rstrip("/").partition("://")
        config["endpoint"] = f"{scheme}://{bucket}.{rest}" if style == "virtual" else endpoint
    options = client_options(
        allow_http=endpoint.startswith("http://"), ca_file=environ.get("AWS_CA_BUNDLE", "")
    )
    # Some services that speak S3 have no DeleteObjects: one object is deleted without it, and where
    # many cannot be at once they are one by one.
    client, deleter = (
        S3Store(
            bucket,
            config={**config, "disable_bulk_delete": one_by_one},
            client_options=options,
            retry_config=RETRIES if one_by_one else {**RETRIES, "max_retries": 0},
        )
        for one_by_one in (True, False)
    )
    return BucketStore(f"s3://{bucket}", client, S3, root=root, deleter=deleter)


def _credentials(environ: Mapping[str, str]) -> S3Config:
    """Return what ``~/.aws`` says where the environment says nothing."""
    if key := environ.get("AWS_ACCESS_KEY_ID"):
        given: S3Config = {
            "access_key_id": key,
            "secret_access_key": environ.get("AWS_SECRET_ACCESS_KEY", ""),
        }
        if token := environ.get("AWS_SESSION_TOKEN"):
            given["session_token"] = token
        return given
    folder = Path(environ.get("HOME", "/nonexistent")) / ".aws"
    profile = environ.get("AWS_PROFILE") or "default"
    found: S3Config = {}
    secrets = _section(environ.get("AWS_SHARED_CREDENTIALS_FILE", folder / "credentials"), profile)
    settings = _section(
        environ.get("AWS_CONFIG_FILE", folder / "config"),
        profile if profile == "default" else f"profile {profile}",
    )
    if "region" in settings:
        found["region"] = settings["region"]
    secrets = {**settings, **secrets}
    if "aws_access_key_id" in secrets:
        found["access_key_id"] = secrets["aws_access_key_id"]
        found["secret_access_key"] = secrets.get("aws_secret_access_key", "")
        if "aws_session_token" in secrets:
            found["session_token"] = secrets["aws_session_token"]
    return found


def _section(path: str | Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    parser.read(path)
    return dict(parser[name]) if parser.has_section(name) else {}
