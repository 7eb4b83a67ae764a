"""What ``merlin up`` does, from settings to the last signal."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from merlin.cli.profile import save as save_profile
from merlin_server import server_log
from merlin_server.app import create_app
from merlin_server.data_folder import DataFolder
from merlin_server.opening import open_services
from merlin_server.serving import listen, serve
from merlin_server.settings import Settings
from merlin_server.settings_loading import load_settings
from merlin_server.sign_in import SignIn, prepare_sign_in


def run_up(
    *,
    files: Sequence[Path],
    options: Mapping[str, Any],
    output: Literal["text", "json"],
    verbose: bool,
) -> None:
    """Serve until a signal comes. Raises `MerlinError` for what the user can mend."""
    settings = load_settings(files, options)
    with DataFolder(settings.data_dir) as folder:
        listener = listen(settings.host, settings.port)
        url = _public_url(settings, listener)
        folder.announce(url)
        server_log.configure(folder.log, verbose=verbose)
        sign_in = prepare_sign_in(settings, folder, url, save_profile)
        with open_services(settings, folder, url, sign_in.policy) as services:
            serve(
                create_app(services),
                listener,
                started=lambda: _announce(url, folder, sign_in, output),
                stopping=services.followers.stop,
            )


def _public_url(settings: Settings, listener: socket.socket) -> str:
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = settings.host
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104  compared, not bound
        host = socket.gethostname()
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{listener.getsockname()[1]}"


def _announce(
    url: str, folder: DataFolder, sign_in: SignIn, output: Literal["text", "json"]
) -> None:
    command = "merlin deploy MODEL --model-dir DIR --model-type sklearn"
    if output == "json":
        facts = {
            "url": url,
            "data_dir": str(folder.path),
            "signed_in": sign_in.sentence,
            "next": command,
        }
        text = json.dumps(facts)
    else:
        text = "\n".join(
            (
                f"Merlin answers at {url} (open it for an overview and the API reference)",
                f"Data lies in {folder.path}",
                f"Signed in: {sign_in.sentence}",
                f"Next: {command}",
            )
        )
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
