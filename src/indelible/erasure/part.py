"""The end of what is kept for a time only, as a part of the server."""

from indelible.erasure.retention import Retention
from indelible.parts import Part, off_the_loop


def retention_part(retention: Retention) -> Part:
    """What erases events that are kept for a time only."""
    return Part(name="retention", start=retention.start, stop=off_the_loop(retention.stop))
