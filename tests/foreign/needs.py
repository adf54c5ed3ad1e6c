"""What these tests need beside Python. In CI it must be there; elsewhere a test may be skipped."""

import contextlib
import os
from collections.abc import Iterator

import pytest


class Missing(Exception):
    """This machine lacks something; the message says what, and how to get it."""


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """What is missing inside the `with` skips the test, and fails it where `CI` is set."""
    try:
        yield
    except Missing as error:
        missing = str(error)
    else:
        return
    if os.environ.get("CI"):
        pytest.fail(f"in CI this may not be skipped: {missing}", pytrace=False)
    pytest.skip(missing)
