"""What became of one event that was sent: a value, for both lanes and the durable door."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one answer means for one event.

    Attributes:
        fate: `delivered`; `refused` for ever; to be sent `again`; `oversized`, as something in
            front calls it even alone, which may change its mind.
        said: why, in words, or by the server's code.
        kind: what `said` is about, without the words of whoever answered.
        status: of an answer that was about all events; 0 if it named this one.
        after_s: how long the answer asks to be left alone.
        body: what the server said of this event.
    """

    fate: Literal["delivered", "refused", "again", "oversized"]
    said: str = ""
    kind: str = ""
    status: int = 0
    after_s: float | None = None
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hint(self) -> str | None:
        """What the server advises."""
        hint = self.body.get("hint")
        return str(hint) if hint else None


def again(reason: str) -> Outcome:
    """To be sent again, for a reason that is a code or few words of our own."""
    return Outcome("again", reason, reason)
