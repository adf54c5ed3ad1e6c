"""How long a connection may keep the server waiting, how much of it may be held, why it ended."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Deadlines and limits of an HTTP server, for every connection. Times in seconds.

    Attributes:
        connections: Open connections; 90 % of the descriptors that the system gives us if not set.
        first_byte_s: From the connection to its first byte.
        head_s: From the first byte of a head to its last.
        idle_s: From an answer to the next request. The longest idle is the first to be closed when
            another client needs the place.
        body_grace_s, body_bytes_per_s, body_s: A body that is longer than `body_grace_s` under way
            needs this rate on average, and at most `body_s` in all.
        answer_window_s, answer_bytes_per_s: A client that keeps an answer waiting takes this many
            bytes a second, over each such window.
        linger_quiet_s, linger_s: After the last answer the rest of what a client sends is thrown
            away, until it has been quiet, or has gone on, for this long.
        look_s: How often connections are looked at.
        stop_s: How long requests under way may take once the server is being stopped.
        memory_bytes: Bytes of all requests under way that are held at the same time.
        reserved_bytes: More of them, for small requests alone.
        small_bytes: What counts as small.
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
    REFUSED = "refused", "What it sent is no HTTP request that can be answered otherwise."
    SILENT = "silent", "Nothing was sent in time."
    SLOW_HEAD = "slow_head", "The head of a request did not come in time."
    IDLE = "idle", "No further request came in time."
    SLOW_BODY = "slow_body", "A body came too slowly."
    CUT_BODY = "cut_body", "A body was cut off."
    UNREAD = "unread", "An answer was read too slowly."
    CROWDED_OUT = "crowded_out", "It waited, and another client needed the place."
    NO_PLACE = "no_place", "There were as many connections as there may be."
    NO_MEMORY = "no_memory", "Its request held memory for longest when there was none left."
    BROKEN = "broken", "Something broke inside the server in the midst of an answer."
    STOPPING = "stopping", "The server was stopped."
