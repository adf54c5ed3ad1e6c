"""The last step of a checkpoint: its cosignatures are asked for, apart from the sealing.

Witnesses that are slow or down hold up nothing but `witnessed`. The newest checkpoint is asked for,
never one for each: what it covers, it covers for all that came before.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from indelible.clock import Clock, monotonic_s
from indelible.errors import IndelibleError
from indelible.event import Level
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.tile import ReadTiles, TileHashes
from indelible.ledger.lockstore import Head
from indelible.ledger.logs import Log
from indelible.ledger.progress import Progress
from indelible.ledger.witness.cosigners import Cosigners

logger = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0
_TRY_AGAIN_S: Final = 5.0
_TIMEOUT_S: Final = 1.0
_LOGS_AT_ONCE: Final = 8


class Witnessing:
    """Asks the witnesses for the newest checkpoint of every log, on a thread of its own.

    Args:
        policy: the witnesses, and how many are enough.
        logs: the logs that sign, asked for anew in each round.
        tiles: returns a reader of a log's tiles as they were signed at a checkpoint.
        publish: told of every checkpoint that has met the quorum, with its cosignatures.
        forked: told of every log whose quorum is out of reach, since its witnesses have seen
            another history, with what they said; told again until it returns.
        interval_s: least time between two checkpoints of all logs that are asked for.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        logs: Callable[[], list[Log]],
        progress: Progress,
        tiles: Callable[[Log, Head], ReadTiles],
        publish: Callable[[Log, Head], None],
        forked: Callable[[Log, list[str]], None],
        interval_s: float,
        clock: Clock,
    ) -> None:
        self._cosigners = Cosigners(policy, timeout_s=_TIMEOUT_S, clock=clock)
        self._logs = logs
        self._progress = progress
        self._tiles = tiles
        self._publish = publish
        self._forked = forked
        self._interval_s = interval_s
        self._again_at: dict[str, float] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="witnessing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is a new checkpoint."""
        self._wake.set()

    def stop(self) -> None:
        """Finish the round under way, then end; returns when the thread has."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def close(self) -> None:
        self._cosigners.close()

    def alarms(self) -> list[str]:
        """What witnesses have said that must never be: a sentence each."""
        return [alarm.sentence for alarm in self._cosigners.alarms()]

    def _said_of(self, log: Log) -> list[str]:
        return [one.sentence for one in self._cosigners.alarms() if one.origin == log.origin]

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_LOOK_EVERY_S)
            self._wake.clear()
            began = monotonic_s()
            due = [log for log in self._logs() if self._is_due(log)]
            if due:
                # Side by side: a witness that stalls for one log must not hold up the others.
                with ThreadPoolExecutor(_LOGS_AT_ONCE) as pool:
                    list(pool.map(self._ask, due))
                self._stopping.wait(began + self._interval_s - monotonic_s())

    def _is_due(self, log: Log) -> bool:
        sealed = self._progress.size(log.project_id, Level.SEALED)
        witnessed = self._progress.size(log.project_id, Level.WITNESSED)
        return sealed > witnessed and monotonic_s() >= self._again_at.get(log.name, 0.0)

    def _ask(self, log: Log) -> None:
        head = self._progress.head(log.project_id, Level.SEALED)
        assert head is not None
        try:
            asked = self._cosigners.ask(
                head.note,
                TileHashes(self._tiles(log, head), head.size),
                signed=lambda: self._progress.size(log.project_id, Level.SEALED),
            )
            if asked.is_met:
                self._publish(log, head._replace(note=asked.note))
                return
            if self._cosigners.is_out_of_reach(log.origin):
                self._forked(log, self._said_of(log))
            what = ", ".join(f"{one.witness} {one.state}" for one in asked.answers)
        except (IndelibleError, OSError) as error:  # this thread's one door: it is tried again
            what = error.code if isinstance(error, IndelibleError) else type(error).__name__
        self._again_at[log.name] = monotonic_s() + _TRY_AGAIN_S
        logger.warning(
            "%s: no quorum for %d events (%s); again in %.0f s",
            log.origin,
            head.size,
            what,
            _TRY_AGAIN_S,
        )
