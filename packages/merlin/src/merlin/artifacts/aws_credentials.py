"""Who we are to AWS, in the order of AWS's own tools.

1. What the options name: two key files, or a credentials file or profile.
2. ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` (``AWS_SESSION_TOKEN``).
3. With botocore installed (the extra ``aws``; the server has it): its whole chain. Roles of
   profiles, single sign-on, ``credential_process``, web identity (EKS), EKS Pod Identity, ECS and
   the instance's metadata, version 2.
4. Without botocore: keys in the shared files, else obstore's web identity, container and
   instance credentials. A profile that needs more says so.

Every key goes through a provider: obstore would complete a key that it is given with the session
token it finds in the process's environment. What a file holds is read again every few minutes, so
a rotated key needs no restart.
"""

from __future__ import annotations

import configparser
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merlin.artifacts.errors import StoreDenied
from merlin.artifacts.options import S3Options
from merlin.artifacts.secret_files import read_secret

if TYPE_CHECKING:  # obstore has these for type checkers only.
    from obstore.store import S3Credential

_READ_AGAIN_AFTER = timedelta(minutes=5)
_NEEDS_BOTOCORE = ("sso_session", "sso_start_url", "role_arn", "credential_process")
_INSTALL = "Run: pip install 'merlin-serving[aws]'."

Provider = Callable[[], "S3Credential"]
Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Identity:
    """``provider`` gives keys, or is ``None`` where obstore finds them. ``source`` says where they
    come from, and may have to ask for that."""

    provider: Provider | None
    source: Callable[[], str]


def find_identity(
    options: S3Options,
    environ: Mapping[str, str],
    region: str,
    clock: Clock = lambda: datetime.now(UTC),
) -> Identity:
    """``region`` is whose STS is asked. Raises `StoreDenied` for a file or profile that is named
    and cannot be used."""
    if options.access_key_id_file and options.secret_access_key_file:
        return _of_key_files(options.access_key_id_file, options.secret_access_key_file, clock)
    if not (options.credentials_file or options.profile) and environ.get("AWS_ACCESS_KEY_ID"):
        return _of_environment(environ)
    files = _SharedFiles.of(options, environ)
    if files.holds_keys():
        return Identity(lambda: files.keys(clock), lambda: str(files))
    botocore = _botocore()
    if needed := files.needs_botocore():
        if botocore is None:
            raise StoreDenied(f"{files} uses {needed}, which needs botocore.", hint=_INSTALL)
    elif options.credentials_file or options.profile:
        raise StoreDenied(
            f"{files} holds no key.", hint="Correct the file, or the profile that is named."
        )
    if botocore is None:
        return Identity(None, lambda: "obstore's chain: web identity, container or instance")
    return _of_botocore(botocore, files, region, clock)


def region_of_profile(options: S3Options, environ: Mapping[str, str]) -> str:
    """Return the region that the profile in use names, if any."""
    return _SharedFiles.of(options, environ).settings.get("region", "")


def _of_key_files(id_file: Path, secret_file: Path, clock: Clock) -> Identity:
    def provide() -> S3Credential:
        return {
            "access_key_id": read_secret(id_file),
            "secret_access_key": read_secret(secret_file),
            "token": None,
            "expires_at": clock() + _READ_AGAIN_AFTER,
        }

    return Identity(provide, lambda: f"the key in {id_file} and {secret_file}")


def _of_environment(environ: Mapping[str, str]) -> Identity:
    keys: S3Credential = {
        "access_key_id": environ["AWS_ACCESS_KEY_ID"],
        "secret_access_key": environ.get("AWS_SECRET_ACCESS_KEY", ""),
        "token": environ.get("AWS_SESSION_TOKEN") or None,
        "expires_at": None,
    }
    return Identity(lambda: keys, lambda: "AWS_ACCESS_KEY_ID of the environment")


@dataclass(frozen=True)
class _SharedFiles:
    """One profile of AWS's two files, of which the credentials file wins."""

    credentials: Path
    config: Path
    profile: str

    @classmethod
    def of(cls, options: S3Options, environ: Mapping[str, str]) -> _SharedFiles:
        folder = Path(environ.get("HOME", "/nonexistent")) / ".aws"
        named = environ.get("AWS_SHARED_CREDENTIALS_FILE")
        return cls(
            options.credentials_file or Path(named or folder / "credentials"),
            Path(environ.get("AWS_CONFIG_FILE") or folder / "config"),
            options.profile or environ.get("AWS_PROFILE") or "default",
        )

    def __str__(self) -> str:
        return f"The profile {self.profile} of {self.credentials}"

    @property
    def settings(self) -> dict[str, str]:
        name = self.profile if self.profile == "default" else f"profile {self.profile}"
        return {**_section(self.config, name), **_section(self.credentials, self.profile)}

    def holds_keys(self) -> bool:
        return "aws_access_key_id" in self.settings

    def needs_botocore(self) -> str:
        return next((key for key in _NEEDS_BOTOCORE if key in self.settings), "")

    def keys(self, clock: Clock) -> S3Credential:
        settings = self.settings
        if "aws_access_key_id" not in settings:
            raise StoreDenied(f"{self} holds no key any more.")
        return {
            "access_key_id": settings["aws_access_key_id"],
            "secret_access_key": settings.get("aws_secret_access_key", ""),
            "token": settings.get("aws_session_token"),
            "expires_at": clock() + _READ_AGAIN_AFTER,
        }


def _section(file: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, "utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        # Without the reason's own words, which may quote the file.
        raise StoreDenied(f"{file} is not a file of AWS profiles.") from None
    return dict(parser[name]) if parser.has_section(name) else {}


def _of_botocore(botocore: Any, files: _SharedFiles, region: str, clock: Clock) -> Identity:
    exceptions = importlib.import_module("botocore.exceptions")
    found: list[Any] = []

    def credentials() -> Any:
        if not found:
            # A profile that does not exist is an error to botocore, unless it is the default one.
            profile = None if files.profile == "default" else files.profile
            session = botocore.Session(profile=profile)
            session.set_config_variable("credentials_file", str(files.credentials))
            session.set_config_variable("region", region)
            session.set_config_variable("config_file", str(files.config))
            found.append(session.get_credentials())
        if found[0] is None:
            found.clear()
            raise StoreDenied(
                "There are no AWS credentials.",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, name key "
                "files in the settings, or run where AWS gives the machine or pod a role.",
            )
        return found[0]

    def provide() -> S3Credential:
        try:
            keys = credentials().get_frozen_credentials()
        except exceptions.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            raise StoreDenied(f"AWS refused {error.operation_name}: {code}.") from None
        except (exceptions.BotoCoreError, OSError, ValueError) as error:
            # botocore's own words may hold tokens; its classes say which step it was.
            raise StoreDenied(f"AWS gives no credentials: {type(error).__name__}.") from None
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": clock() + _READ_AGAIN_AFTER,
        }

    def source() -> str:
        provide()
        return f"{credentials().method}, as botocore found it"

    return Identity(provide, source)


def _botocore() -> Any:
    # Slow to load, and not everybody has it.
    try:
        return importlib.import_module("botocore.session")
    except ImportError:
        return None
