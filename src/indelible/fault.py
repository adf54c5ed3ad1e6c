"""Describe an internal fault for the log."""

import traceback
from pathlib import Path


def place_of(error: BaseException) -> str:
    """Return where `error` was raised. Unlike its message, this cannot quote an event."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "no place known"
    last = frames[-1]
    return f"{last.name} ({Path(last.filename).name}:{last.lineno})"
