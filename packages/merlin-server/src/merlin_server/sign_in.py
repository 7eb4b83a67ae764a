"""How callers prove who they are at this server, and how the CLI of the one who starts it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from merlin_server.auth.policy import Policy, host_name, is_loopback
from merlin_server.auth.tokens import TokenFile
from merlin_server.data_folder import DataFolder
from merlin_server.settings import Settings

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class SignIn:
    """The policy, and a sentence that tells how the CLI is signed in."""

    policy: Policy
    sentence: str


def prepare_sign_in(
    settings: Settings,
    folder: DataFolder,
    url: str,
    save_profile: Callable[[str, str | None], object],
) -> SignIn:
    """Choose the policy and make the token at the first start. ``save_profile`` is told the
    address and, that one time, the token."""
    local = is_loopback(settings.host)
    mode = settings.auth.mode
    if mode == "auto":
        mode = "open" if local else "token"
    hosts = {settings.host, host_name(url.partition("://")[2]), *_LOOPBACK_NAMES}
    if mode == "open":
        save_profile(url, None)
        who = "everyone on this machine may call" if local else "anyone who reaches it may call"
        return SignIn(Policy(hosts if local else (), None), f"{who}; the CLI uses this address.")
    token_file = TokenFile(folder.token)
    token = token_file.open()
    policy = Policy(
        hosts if local else (), token_file, open_predictions=settings.auth.open_predictions
    )
    if token is None:
        return SignIn(policy, "with the token saved at the first start (CLI profile).")
    save_profile(url, token)
    return SignIn(policy, "a token was made and saved in the CLI profile.")
