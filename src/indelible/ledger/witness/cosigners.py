"""The log's side of C2SP tlog-witness: ask the witnesses of a policy for their cosignatures.

All are asked at once, each within the same time, so one that fails costs the others nothing. What
each has confirmed is kept in memory only: after a restart the first request says 0, and the answer
409 says what the witness has.

Two answers are alarms, because they mean that the log's history was lost or forked: the witness has
cosigned more than was ever signed here, or it saw another root where our tree can be shown to be
sound. Nothing is overwritten then, and that witness is not asked about that log any more until the
process is restarted: going on would destroy evidence.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import httpx

from indelible.clock import Clock
from indelible.errors import NoteMalformed, SignatureWrong
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import Signature, parse_note, verified
from indelible.ledger.format.policy import Policy, Witness
from indelible.ledger.format.tree import (
    HashReader,
    check_consistency,
    prove_consistency,
    prove_root,
)
from indelible.ledger.witness.request import request_body
from indelible.metrics import WITNESS_ANSWERS

logger = logging.getLogger(__name__)

MOST_ANSWER_BYTES: Final = 64 * 1024

_ADD: Final = "/add-checkpoint"
_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,19})\n?", re.ASCII)
_THIS_MACHINE: Final = ("all://127.0.0.1", "all://[::1]", "all://localhost")
_TRIES: Final = 2
_LOOKUPS: Final = 32
_PROVERS: Final = 2
_CLOSE_S: Final = 5.0


class State(StrEnum):
    """What came of asking one witness."""

    COSIGNED = "cosigned"
    UNREACHABLE = "unreachable"
    """No answer within the time, or no address to ask at."""
    REFUSED = "refused"
    """It answered that it would not; the detail has the status."""
    WRONG = "wrong"
    """It answered, with no cosignature of its key, or one that does not fit."""
    ALARM = "alarm"
    """It has seen another history than ours."""


class Discord(StrEnum):
    """How a witness's history differs from ours."""

    LARGER = "larger"
    """It has cosigned a larger tree than this server ever signed."""
    FORKED = "forked"
    """It has cosigned another tree of a size that this server has signed beyond."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A witness has seen a history of a log that is not ours.

    Attributes:
        at_ms: when it said so.
        witness: its name in the policy.
        origin: the log.
        ours: the size that it was asked to cosign.
        theirs: the size that it has cosigned.
    """

    at_ms: int
    discord: Discord
    witness: str
    origin: str
    ours: int
    theirs: int

    @property
    def sentence(self) -> str:
        """All of it in words."""
        if self.discord is Discord.LARGER:
            saw = f"{self.theirs:,} events, and {self.ours:,} are signed here"
        else:
            saw = f"another history of {self.theirs:,} events than the one signed here"
        return (
            f"The witness {self.witness} has cosigned {saw}: the log {self.origin} was forked, or"
            " lost a part. Keep everything as it is."
        )


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of asking one witness; `detail` is for people."""

    witness: str
    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking all of them.

    Attributes:
        note: the note with the cosignatures that came, in the order of the policy.
        is_met: whether they meet the policy's quorum.
        answers: one for each witness of the policy, in its order.
    """

    note: str
    is_met: bool
    answers: tuple[Answered, ...]


class _Reply(NamedTuple):
    status: int
    body: str


class _Asking(NamedTuple):
    """One note on its way to the witnesses."""

    note: str
    text: str
    checkpoint: Checkpoint
    tree: HashReader
    signed: Callable[[], int]


_Outcome = tuple[Answered, Signature | None]


class Cosigners:
    """The witnesses of a policy. Any thread may `ask`; several at once may ask for several logs.

    One thread of its own does the waiting and keeps the connections open, and a few look up names
    and make proofs; they end with `close`.

    Args:
        policy: whom to ask, and how many are enough. A witness's URL is its submission prefix.
        timeout_s: how long one witness may take over one note, retry included.
        clock: gives the time of alarms.
    """

    def __init__(self, policy: Policy, *, timeout_s: float = 1.0, clock: Clock) -> None:
        self._policy = policy
        self._timeout_s = timeout_s
        self._clock = clock
        # What follows is touched on the loop's thread only, but for reading `_alarms`.
        self._confirmed: dict[tuple[str, str], int] = {}
        self._largest: dict[str, int] = {}
        self._alarms: dict[tuple[str, str], Alarm] = {}
        self._states: dict[tuple[str, str], State] = {}
        # A proxy of the environment is for the world, not for this machine.
        here: dict[str, httpx.AsyncBaseTransport | None] = dict.fromkeys(_THIS_MACHINE)
        self._http = httpx.AsyncClient(timeout=timeout_s, mounts=here)
        self._loop = asyncio.new_event_loop()
        # Names are looked up on the loop's own pool, where one that nobody answers stays for long:
        # proofs must not wait behind it.
        self._loop.set_default_executor(ThreadPoolExecutor(_LOOKUPS, "cosigners-lookup"))
        self._provers = ThreadPoolExecutor(_PROVERS, "cosigners-prove")
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="cosigners", daemon=True
        )
        self._thread.start()

    def ask(self, note: str, tree: HashReader, *, signed: Callable[[], int] = lambda: 0) -> Asked:
        """Ask every witness to cosign a log's signed checkpoint; takes `timeout_s` at the most.

        `tree` reads the log's hashes at this checkpoint: consistency proofs are made from it.
        `signed` returns how many events the newest checkpoint covers that was ever signed: anyone
        may have shown a witness a newer one than this.

        Raises:
            NoteMalformed: it is no checkpoint.
            IndelibleError: a proof could not be made from `tree`.
        """
        text = parse_note(note).text
        asking = _Asking(note, text, Checkpoint.parse(text), tree, signed)
        return asyncio.run_coroutine_threadsafe(self._ask(asking), self._loop).result()

    def alarms(self) -> list[Alarm]:
        """Every alarm of this process, oldest first; one for each witness and log."""
        return list(self._alarms.values())

    def is_out_of_reach(self, origin: str) -> bool:
        """Whether so many witnesses have seen another history of this log that the others cannot
        meet the policy's quorum."""
        estranged = {alarm.witness for alarm in self.alarms() if alarm.origin == origin}
        others = {witness.name for witness in self._policy.witnesses} - estranged
        return bool(estranged) and not self._policy.is_met(others)

    def close(self) -> None:
        """End the thread and the connections. Whoever still asks gets a CancelledError."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        self._provers.shutdown()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _end(self) -> None:
        mine = asyncio.current_task()
        running = [task for task in asyncio.all_tasks() if task is not mine]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._http.aclose()

    async def _ask(self, asking: _Asking) -> Asked:
        origin, size = asking.checkpoint.origin, asking.checkpoint.size
        self._largest[origin] = max(size, self._largest.get(origin, 0))
        # All of them end before a failure of one is looked at.
        found = await asyncio.gather(
            *(self._one(witness, asking) for witness in self._policy.witnesses),
            return_exceptions=True,
        )
        outcomes: list[_Outcome] = []
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes.append(outcome)
        lines = "".join(signature.line for _, signature in outcomes if signature is not None)
        cosigned = {one.witness for one, signature in outcomes if signature is not None}
        return Asked(
            asking.note + lines,
            self._policy.is_met(cosigned),
            tuple(answered for answered, _ in outcomes),
        )

    async def _one(self, witness: Witness, asking: _Asking) -> _Outcome:
        outcome = await self._within_time(witness, self._converse(witness, asking))
        WITNESS_ANSWERS.labels(witness.name, outcome[0].state).inc()
        self._tell(asking.checkpoint.origin, outcome[0])
        return outcome

    async def _within_time(
        self, witness: Witness, conversation: Coroutine[Any, Any, _Outcome]
    ) -> _Outcome:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await conversation
        except (TimeoutError, httpx.TimeoutException):
            return _failed(witness, State.UNREACHABLE, f"no answer within {self._timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return _failed(witness, State.UNREACHABLE, f"{type(error).__name__}: {error}")

    async def _converse(self, witness: Witness, asking: _Asking) -> _Outcome:
        """Ask one witness, and once more if it has cosigned another size than we thought."""
        origin, size = asking.checkpoint.origin, asking.checkpoint.size
        about = witness.name, origin
        if about in self._alarms:
            return _failed(witness, State.ALARM, self._alarms[about].sentence)
        if witness.url is None:
            return _failed(witness, State.UNREACHABLE, "the policy has no address of it")
        reply = _Reply(0, "")
        for _ in range(_TRIES):
            # An older note than the last one has nothing to continue: the witness will say so.
            old = min(self._confirmed.get(about, 0), size)
            proof = await self._loop.run_in_executor(
                self._provers, prove_consistency, asking.tree, old, size
            )
            reply = await self._post(witness.url, request_body(old, proof, asking.note))
            if reply.status == 200:
                return self._confirm(witness, asking, reply.body)
            if reply.status == 422 and await self._is_ours(asking, old, proof):
                return self._raise_alarm(witness, asking, Discord.FORKED, old)
            theirs = _size_in(reply)
            if theirs is None:
                break
            if theirs > max(self._largest[origin], asking.signed()):
                return self._raise_alarm(witness, asking, Discord.LARGER, theirs)
            if theirs == old == size:
                # It was asked to go on from its own size, and has another root for it.
                return self._raise_alarm(witness, asking, Discord.FORKED, theirs)
            self._compare(witness, origin, theirs)
            if theirs > size:
                return _failed(witness, State.REFUSED, "a newer checkpoint was cosigned meanwhile")
        return _failed(
            witness, State.REFUSED, f"status {reply.status}: {reply.body.strip()[:200]!r}"
        )

    def _confirm(self, witness: Witness, asking: _Asking, body: str) -> _Outcome:
        """Take a cosignature, if it is one."""
        checkpoint = asking.checkpoint
        try:
            # Its lines stand as they would in the note, so nothing but signature lines can be read.
            answer = parse_note(f"{asking.text}\n{body}")
            signatures = verified(answer, [witness.key])
        except (NoteMalformed, SignatureWrong) as error:
            return _failed(witness, State.WRONG, error.message)
        if answer.text != asking.text or not signatures:
            return _failed(witness, State.WRONG, "the answer has no cosignature of its key")
        self._confirmed[witness.name, checkpoint.origin] = checkpoint.size
        return Answered(witness.name, State.COSIGNED), signatures[0]

    def _compare(self, witness: Witness, origin: str, theirs: int) -> None:
        """Take up the size that a witness says it has cosigned."""
        confirmed = self._confirmed.get((witness.name, origin), 0)
        if theirs < confirmed:
            logger.warning(
                "witness %s: it had cosigned %d of %s and now says %d: it has lost its memory",
                witness.name,
                confirmed,
                origin,
                theirs,
            )
        self._confirmed[witness.name, origin] = theirs

    async def _is_ours(self, asking: _Asking, old: int, proof: list[bytes]) -> bool:
        """Whether a proof that was refused is right, seen from our own tree."""
        new = asking.checkpoint
        if old == 0:
            return False  # the witness has seen nothing yet, so nothing else either
        root = await self._loop.run_in_executor(self._provers, prove_root, asking.tree, old)
        return check_consistency(old, new.size, proof, root, new.root)

    def _raise_alarm(
        self, witness: Witness, asking: _Asking, discord: Discord, theirs: int
    ) -> _Outcome:
        origin, size = asking.checkpoint.origin, asking.checkpoint.size
        alarm = Alarm(self._clock(), discord, witness.name, origin, size, theirs)
        self._alarms[witness.name, origin] = alarm
        logger.error("%s", alarm.sentence)
        return _failed(witness, State.ALARM, alarm.sentence)

    async def _post(self, url: str, body: str) -> _Reply:
        """One request; no more of the answer is read than any witness has to say."""
        headers = {"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity"}
        async with self._http.stream(
            "POST", url.rstrip("/") + _ADD, content=body.encode(), headers=headers
        ) as answer:
            content = b""
            # As it comes: a packed answer, which was not asked for, could unpack to anything.
            async for part in answer.aiter_raw():
                content += part
                if len(content) > MOST_ANSWER_BYTES:
                    raise httpx.DecodingError(f"the answer is over {MOST_ANSWER_BYTES:,} bytes")
            return _Reply(answer.status_code, content.decode("utf-8", "replace"))

    def _tell(self, origin: str, answered: Answered) -> None:
        """Log what an operator should know, when it changes: not at every checkpoint."""
        about = answered.witness, origin
        before = self._states.get(about, State.COSIGNED)
        self._states[about] = answered.state
        if answered.state in (before, State.ALARM):
            return
        if answered.state is State.COSIGNED:
            logger.warning("witness %s: cosigns %s again", answered.witness, origin)
        else:
            logger.warning(
                "witness %s: %s for %s: %s",
                answered.witness,
                answered.state,
                origin,
                answered.detail,
            )


def _failed(witness: Witness, state: State, detail: str) -> _Outcome:
    return Answered(witness.name, state, detail), None


def _size_in(reply: _Reply) -> int | None:
    """The size in an answer 409; None when it is another answer."""
    match = _SIZE.fullmatch(reply.body) if reply.status == 409 else None
    return None if match is None else int(match[1])
