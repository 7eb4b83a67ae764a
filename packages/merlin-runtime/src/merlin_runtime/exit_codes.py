"""What the process's exit code says; deployers read it, so the numbers never change."""

from __future__ import annotations

STOPPED = 0
"""Asked to stop and did, or a dry run or smoke test that passed."""

USAGE = 2
"""Wrong option or environment variable; argparse uses the same number."""

LOAD_FAILED = 3
"""The model cannot be loaded. Starting again will not help: the last line of standard output is a
JSON object ``{"event": "load_failed", "code": "model_load_failed", "error": ..., ...}``."""

ADDRESS_UNAVAILABLE = 4
"""The address cannot be listened on; the last line has ``"event": "listen_failed"``."""

EXAMPLE_FAILED = 5
"""The model is loaded and has no answer for the example it was given (``--smoke-test``)."""
