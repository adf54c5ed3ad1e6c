"""What a log says of a fault of our own."""

import traceback
from pathlib import Path


def place_of(error: BaseException) -> str:
    """Where `error` arose. Its message might quote what somebody sent; this cannot."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "no place known"
    last = frames[-1]
    return f"{last.name} ({Path(last.filename).name}:{last.lineno})"
