"""S3 and what speaks its protocol: ``s3://bucket/folder``.

Configured by `S3Options`, else as AWS's own tools are, by environment and ``~/.aws``:

- Credentials: see `merlin.artifacts.aws_credentials`.
- ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``: another service than AWS. An empty value is none.
- ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, else the profile's region, else us-east-1.
- ``AWS_S3_ADDRESSING_STYLE``: ``path`` (default with an endpoint) or ``virtual`` (default at AWS).
- ``AWS_CA_BUNDLE``: PEM file of a private certificate authority.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from obstore.store import S3Store

from merlin.artifacts.aws_credentials import find_identity, region_of_profile
from merlin.artifacts.bucket import RETRIES, BucketStore, client_options
from merlin.artifacts.bucket_errors import Service
from merlin.artifacts.bucket_urls import split_bucket_url
from merlin.artifacts.errors import UnknownStore
from merlin.artifacts.options import S3Options
from merlin.artifacts.store import Connection
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
_DEFAULTS = S3Options()


def open_s3(
    url: str, environ: Mapping[str, str] = ENVIRON, *, options: S3Options = _DEFAULTS
) -> BucketStore:
    """Open ``s3://bucket/folder``; nothing is asked of the service yet.

    Raises `StoreDenied` for a file or profile of credentials that is named and cannot be used.
    """
    bucket, root = split_bucket_url(url)
    endpoint = _endpoint(options, environ)
    style = options.addressing_style or environ.get("AWS_S3_ADDRESSING_STYLE")
    style = style or ("path" if endpoint else "virtual")
    if style not in {"path", "virtual"}:
        raise UnknownStore(
            f"AWS_S3_ADDRESSING_STYLE is {style!r}.", hint="Set it to path or to virtual."
        )
    region = _region(options, environ)
    config: S3Config = {
        "region": region,
        "virtual_hosted_style_request": style == "virtual",
    }
    address = endpoint or f"https://s3.{region}.amazonaws.com"
    if style == "virtual":
        scheme, _, rest = address.partition("://")
        address = f"{scheme}://{bucket}.{rest}"
    if endpoint:
        # Under both names: obstore reads the second from the process's environment, and there it
        # would win.
        config["endpoint"] = config["aws_endpoint_url_s3"] = address
    ca_file = str(options.ca_file or environ.get("AWS_CA_BUNDLE", ""))
    identity = find_identity(options, environ, region)
    # Some services that speak S3 have no DeleteObjects: one object is deleted without it, and where
    # many cannot be at once they are one by one.
    client, deleter = (
        S3Store(
            bucket,
            config={**config, "disable_bulk_delete": one_by_one},
            client_options=client_options(
                allow_http=endpoint.startswith("http://"), ca_file=ca_file
            ),
            retry_config=RETRIES if one_by_one else {**RETRIES, "max_retries": 0},
            credential_provider=identity.provider,
        )
        for one_by_one in (True, False)
    )
    connection = Connection(address, ca_file, identity.source)
    return BucketStore(
        f"s3://{bucket}", client, S3, root=root, connection=connection, deleter=deleter
    )


def _endpoint(options: S3Options, environ: Mapping[str, str]) -> str:
    given = options.endpoint_url or environ.get("AWS_ENDPOINT_URL_S3")
    return (given or environ.get("AWS_ENDPOINT_URL") or "").rstrip("/")


def _region(options: S3Options, environ: Mapping[str, str]) -> str:
    given = options.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return given or region_of_profile(options, environ) or "us-east-1"
