"""How long a connection may keep the server waiting, how much memory it may hold, why it ended."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Deadlines and limits of an HTTP server. Times in seconds.

    Attributes:
        connections: Most open connections; by default 90 % of the descriptors the system grants.
        first_byte_s: From the connection to its first byte.
        head_s: From the first byte of a head to its last.
        idle_s: From an answer to the next request.
        body_grace_s, body_bytes_per_s, body_s: After the grace, a body must have arrived at this
            average rate; it may take `body_s` in all.
        answer_window_s, answer_bytes_per_s: A client that blocks an answer must read at this rate,
            averaged over each window.
        linger_quiet_s, linger_s: After the last answer, discard input until the client has been
            quiet for the one or has sent for the other.
        look_s: How often deadlines are checked.
        stop_s: How long requests under way may take during shutdown.
        memory_bytes: Most memory for all requests under way together.
        reserved_bytes: Additional memory for small requests.
        small_bytes: Requests up to this size are small.
    """

    connections: int | None = None
    first_byte_s: float = 10
    head_s: float = 10
    idle_s: float = 75
    body_grace_s: float = 10
    body_bytes_per_s: int = 1024
    body_s: float = 300
    answer_window_s: float = 30
    answer_bytes_per_s: int = 1024
    linger_quiet_s: float = 2
    linger_s: float = 30
    look_s: float = 0.5
    stop_s: float = 10
    memory_bytes: int = 128 * 1024 * 1024
    reserved_bytes: int = 64 * 1024 * 1024
    small_bytes: int = 64 * 1024


class CloseReason(StrEnum):
    """Why a connection ended; `meaning` explains it."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "CloseReason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    CLIENT = "client", "The client closed it."
    DONE = "done", "Its last request was answered."
    REFUSED = "refused", "It sent something that is not a well-formed HTTP/1.1 request."
    SILENT = "silent", "It did not send its first byte in time."
    SLOW_HEAD = "slow_head", "It did not send the whole head of a request in time."
    IDLE = "idle", "It was idle for too long."
    SLOW_BODY = "slow_body", "It sent a body too slowly."
    CUT_BODY = "cut_body", "It ended, or broke its framing, in the middle of a body."
    UNREAD = "unread", "It read an answer too slowly."
    CROWDED_OUT = "crowded_out", "It was evicted at the connection limit, as the longest waiting."
    NO_PLACE = "no_place", "It came at the connection limit, and none could be evicted."
    NO_MEMORY = "no_memory", "Its request had cost most when the memory budget was used up."
    BROKEN = "broken", "The server failed while answering."
    STOPPING = "stopping", "The server was shutting down."

    @property
    def is_unanswered(self) -> bool:
        """Whether a deadline or the connection limit ended it without an answer.

        At every other end the client has had its answer, or it was the client's own doing.
        """
        return self in _UNANSWERED


_UNANSWERED: Final = frozenset(
    {CloseReason.SILENT, CloseReason.UNREAD, CloseReason.CROWDED_OUT, CloseReason.NO_PLACE}
)
