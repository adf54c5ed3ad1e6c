"""`Indelible.doctor()`: a marked event in each lane, followed hop by hop to its receipt.

    options ─▶ address ─▶ connection ─▶ tls ─▶ answer ─▶ stored ─▶ sealed ─▶ receipt ─▶ witnessed

Each hop says in one sentence what it found and, where it failed, what to do; the hops behind a
failure are not tried. The event goes past the queue, on a connection of its own, so it neither
waits for what is queued nor counts among the captures. At the server it counts like any other: it
is named `$doctor` or `indelible.doctor`.

Without the server's parts installed this is ``python -m indelible.client.doctor``.
"""

import json
import os
import socket
import ssl
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from indelible import __version__
from indelible.client.hidden import Hidden, Secret
from indelible.client.options import ENVIRONMENT, InvalidOption, Options
from indelible.client.proxy import ProxyUnusable, proxy_for
from indelible.client.receipt import is_portable, receipt_path
from indelible.client.sockets import connected, secured
from indelible.client.timing import REAL_TIME, Time
from indelible.client.transport import Answer, Transport, TransportFailed, in_ascii
from indelible.client.trust import TrustUnreadable, tls_context
from indelible.clock import rfc3339
from indelible.event import Lane

PRODUCT_NAME: Final = "$doctor"
AUDIT_NAME: Final = "indelible.doctor"
_SEALED_WITHIN_S: Final = 5.0
_SECRETS: Final = {Lane.PRODUCT: "token", Lane.AUDIT: "api_key"}


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of the way.

    Attributes:
        lane: `product` or `audit`.
        name: see the picture above.
        ok: None when it could not be found out.
        ms: how long it took.
        detail: what was found, in a sentence without secrets.
        cure: what to do, where it is not ok.
    """

    lane: str
    name: str
    ok: bool | None
    ms: float
    detail: str
    cure: str | None = None

    def __str__(self) -> str:
        state = {True: "ok", False: "failed", None: "cannot check"}[self.ok]
        line = f"{state:<12}  {self.lane:<7}  {self.name:<10}  {self.ms:7.1f} ms  {self.detail}"
        return line if self.cure is None else f"{line}\n{'':14}try: {self.cure}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor found; its text is a line for each hop."""

    hops: tuple[Hop, ...]

    @property
    def ok(self) -> bool | None:
        """Whether every hop was; None when none failed and one could not be found out."""
        found = {hop.ok for hop in self.hops}
        return False if False in found else None if None in found else True

    def __str__(self) -> str:
        return "\n".join(map(str, self.hops))


class _Failed(Exception):
    """This hop is not ok."""

    def __init__(self, detail: str, cure: str | None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cure = cure


class _Unknown(_Failed):
    """Nobody can say whether this hop is ok."""


def examine(
    options: Options,
    *,
    clock: Time = REAL_TIME,
) -> Iterator[Hop]:
    """Every hop of every lane that has a secret, as it is made; of both where none has."""
    lanes = [lane for lane, name in _SECRETS.items() if getattr(options, name)] or list(Lane)
    for lane in lanes:
        walk = _Walk(lane, options, clock)
        try:
            yield from walk.hops()
        finally:
            walk.close()


class _Walk:
    """One lane's way, and what was learned on it."""

    def __init__(self, lane: Lane, options: Options, clock: Time) -> None:
        self._lane = lane
        self._options = options
        self._clock = clock
        self._secret_name = _SECRETS[lane]
        self._host = (options.audit_host if lane == Lane.AUDIT else None) or options.host
        self._socket: socket.socket | None = None
        self._transport: Transport | None = None
        self._answer: Answer | None = None
        self._proxy: str | None = None
        self._tx_id: str | None = None
        self._receipt = b""

    def hops(self) -> Iterator[Hop]:
        steps: list[tuple[str, Callable[[], str | None]]] = [
            ("options", self._read_options),
            ("address", self._find_address),
            ("connection", self._connect),
            ("tls", self._secure),
            ("answer", self._send),
            ("stored", self._find_place),
            ("sealed", self._wait_for_seal),
            ("receipt", self._look_at_receipt),
            ("witnessed", self._ask_for_witnesses),
        ]
        for name, step in steps:
            started = time.perf_counter()
            ok: bool | None = True
            cure = None
            try:
                detail = step()
            except _Failed as found:
                ok = None if isinstance(found, _Unknown) else False
                detail, cure = found.detail, found.cure
            ms = (time.perf_counter() - started) * 1_000
            if detail is not None:
                yield Hop(self._lane.value, name, ok, round(ms, 1), detail, cure)
            if not ok:
                return

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._transport is not None:
            self._transport.close()

    # Each step returns what it found, or None when there is nothing to look at.

    def _read_options(self) -> str:
        if not self._options.enabled:
            raise _Failed("the client is disabled", "Remove INDELIBLE_ENABLED or enabled=False.")
        why_not = self._options.why_not(self._host, secret_name=self._secret_name)
        if why_not is not None:
            detail, _, cure = why_not.partition(": ")
            raise _Failed(detail, cure[:1].upper() + cure[1:])
        found = f"{self._secret_name} from {self._source(self._secret_name)}"
        return f"{found}, host {self._shown_host} from {self._source('host')}"

    def _source(self, option: str) -> str:
        """The variable that an option came from."""
        for variable in ENVIRONMENT[option]:
            if os.environ.get(variable, "").strip() == self._value_of(option):
                return variable
        return "an argument"

    def _value_of(self, option: str) -> object:
        return self._host if option == "host" else getattr(self._options, option)

    @property
    def _shown_host(self) -> str:
        parts = urlsplit(str(self._host))
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def _place(self) -> tuple[str, int]:
        """Where a connection is made to: the host, or the proxy before it."""
        parts = urlsplit(str(self._host))
        name = in_ascii(str(parts.hostname))
        port = parts.port or (443 if parts.scheme == "https" else 80)
        proxy = proxy_for(name, port, parts.scheme)
        self._proxy = None if proxy is None else str(proxy)
        return (name, port) if proxy is None else (proxy.name, proxy.port)

    def _find_address(self) -> str:
        try:
            name, port = self._place
        except ProxyUnusable as error:
            detail, _, cure = str(error).partition(": ")
            raise _Failed(detail, cure[:1].upper() + cure[1:]) from None
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _Failed(
                f"nobody knows the name {name}: {error.strerror or error}",
                "Check the host's spelling, and that this machine reaches a name server.",
            ) from None
        listed = ", ".join(dict.fromkeys(str(address[4][0]) for address in found))
        if self._proxy is not None:
            return f"{name}, the proxy of the environment, is {listed}"
        return f"{name} is {listed}" if name != listed else f"{name} needs no look-up"

    def _connect(self) -> str:
        name, port = self._place
        try:
            self._socket = connected(
                name, port, deadline=self._connect_until(), monotonic=self._clock.monotonic
            )
        except OSError as error:
            raise _Failed(
                f"no connection to {name} port {port}: {error.strerror or error}",
                "Start the server, check the port, and let the firewall pass it.",
            ) from None
        return f"{self._socket.getpeername()[0]} port {port} answers"

    def _connect_until(self) -> float:
        return self._clock.monotonic() + self._options.connect_s

    def _secure(self) -> str | None:
        parts = urlsplit(str(self._host))
        if parts.scheme != "https" or self._proxy is not None or self._socket is None:
            return None
        name = self._place[0].partition("%")[0].rstrip(".")
        try:
            context = tls_context(self._options.ca_file)
            with secured(
                self._socket,
                context,
                name,
                deadline=self._connect_until(),
                monotonic=self._clock.monotonic,
            ) as tls:
                certificate = tls.getpeercert() or {}
                version = tls.version()
        except TrustUnreadable as error:
            raise _Failed(str(error), "Name a file of certificates in PEM that is there.") from None
        except ssl.SSLCertVerificationError as error:
            raise _Failed(
                f"the certificate is not trusted: {error.verify_message}",
                "Give the server a certificate for this name; for an authority of your own set "
                "ca_file or SSL_CERT_FILE.",
            ) from None
        except OSError as error:
            raise _Failed(
                f"no secure connection: {getattr(error, 'reason', None) or error}",
                "Check that the port speaks TLS; a plain one needs http:// and a host of its own.",
            ) from None
        ends = ssl.cert_time_to_seconds(str(certificate.get("notAfter")))
        days = int((ends - self._clock.wall_ns() / 1e9) // 86_400)
        return f"{version}, the certificate is good for {days} more days"

    def _send(self) -> str:
        self._transport = Transport(
            str(self._host),
            headers={
                "User-Agent": f"indelible-python/{__version__}",
                **Secret.of_each(self._options.headers),
            },
            connect_s=self._options.connect_s,
            total_s=self._options.total_s,
            monotonic=self._clock.monotonic,
            ca_file=self._options.ca_file,
        )
        own_id = str(uuid.uuid4())
        path, body, headers = self._marked_event(own_id)
        answer = self._asked("POST", path, body, headers)
        if answer.status == 204:
            raise _Failed(
                "a proxy answered 204, or a server that took this client for a crawler",
                "Look at what stands before the server; for a crawler's User-Agent in `headers`, "
                "keep such events: indelible project set NAME --bot-policy mark.",
            )
        if not 200 <= answer.status < 300:
            raise _Failed(_said(answer), _cure(answer, self._secret_name))
        self._answer = answer
        return f"{answer.status}, as event {own_id}"

    def _marked_event(self, own_id: str) -> tuple[str, Hidden, dict[str, str]]:
        now = rfc3339(self._clock.wall_ms())
        if self._lane == Lane.PRODUCT:
            event = {
                "event": PRODUCT_NAME,
                "distinct_id": "indelible-doctor",
                "uuid": own_id,
                "timestamp": now,
                "properties": {"$doctor": True, "$process_person_profile": False},
            }
            body = {"api_key": self._options.token, "sent_at": now, "batch": [event]}
            return "/api/e", Hidden({"body": json.dumps(body).encode()}), {}
        meta = {"type": "debug", "event_name": AUDIT_NAME}
        for name in ("service", "env"):
            if getattr(self._options, name):
                meta[name] = getattr(self._options, name)
        payload = json.dumps({"doctor": True, "timestamp": now})
        headers = {**self._key_header, "Idempotency-Key": own_id}
        audit_event = json.dumps({"payload": payload, "meta": meta}).encode()
        return "/v1/events", Hidden({"body": audit_event}), headers

    @property
    def _key_header(self) -> dict[str, str]:
        return {"Authorization": Secret.of(f"Bearer {self._options.api_key}")}

    def _find_place(self) -> str:
        assert self._answer is not None
        body = self._answer.body
        if not isinstance(body, dict):
            raise _Failed(
                f"something else answers at this address: {self._answer.said}",
                "Check the host; a proxy or a login page may stand before the server.",
            )
        said = body
        if self._lane == Lane.PRODUCT:
            events = body.get("events")
            said = events[0] if isinstance(events, list) and events else {}
        if said.get("result") == "drop" or said.get("ok") is False:
            reason = said.get("reason")
            raise _Failed(f"it was dropped: {reason}", "See docs/reference/errors.md.")
        if not isinstance(said.get("tx_id"), str) or not isinstance(said.get("index"), int):
            raise _Unknown(
                "it was taken, and the answer does not say where it is: no Indelible server?",
                "Ask the service that answers here.",
            )
        self._tx_id = said["tx_id"]
        return f"index {said['index']}, {self._tx_id}"

    def _wait_for_seal(self) -> str | None:
        if not self._options.api_key:
            return None  # a token may write only
        path = receipt_path(str(self._tx_id), "sealed", _SEALED_WITHIN_S)
        total_s = max(self._options.total_s, _SEALED_WITHIN_S) + 2.0
        answer = self._asked("GET", path, None, self._key_header, total_s)
        if answer.status != 200:
            raise _Failed(
                f"not within {_SEALED_WITHIN_S:g} s: {_said(answer)}",
                _cure(answer, "api_key"),
            )
        self._receipt = answer.text
        return "a signed checkpoint of the log covers it"

    def _look_at_receipt(self) -> str | None:
        if not self._receipt:
            return None
        if not is_portable(self._receipt):
            raise _Failed("what came is no receipt", "Check what stands before the server.")
        kind = self._receipt.partition(b"\n")[0].decode("utf-8", "replace")
        return f"{len(self._receipt):,} bytes, {kind}; `indelible verify` checks it offline"

    def _ask_for_witnesses(self) -> str | None:
        if not self._receipt:
            return None
        answer = self._asked("GET", f"/v1/events/{quote(str(self._tx_id))}", None, self._key_header)
        life = answer.body.get("life", []) if isinstance(answer.body, dict) else []
        steps = [step.get("step") for step in life if isinstance(step, dict)]
        return " → ".join(map(str, steps)) if "witnessed" in steps else None

    def _asked(
        self,
        method: str,
        path: str,
        hidden: Hidden | None,
        headers: Mapping[str, str],
        total_s: float | None = None,
    ) -> Answer:
        assert self._transport is not None
        try:
            return self._transport.request(
                method,
                path,
                hidden.get("body") if hidden else None,
                headers=headers,
                total_s=total_s,
            )
        except TransportFailed as error:
            cure = "Look at the server's log and /healthz; a proxy may have cut the connection."
            if self._proxy is not None:
                cure = (
                    "Let the proxy pass this host, with its user and password where it wants them "
                    "(http://user:password@proxy:3128), or list the host in NO_PROXY."
                )
            raise _Failed(f"no answer: {error}", cure) from None


def _cure(answer: Answer, secret_name: str) -> str:
    """What to do about a refusal: what the server says, else what its status usually means."""
    hint = answer.body.get("hint") if isinstance(answer.body, dict) else None
    if answer.reason is not None:
        return str(hint or f"Check the {secret_name}, and the page of this code in errors.md.")
    cures = {
        401: "Give what stands before the server what it wants, as `headers`, or let events past.",
        403: "Let the proxy or firewall before the server pass POST to /api/e and /v1/events.",
        404: "Check the host: nothing takes events below this address.",
        405: "Check the host: nothing takes events below this address.",
        407: "Name the proxy with user and password: http://user:password@proxy:3128.",
        413: "Raise the limit of the proxy before the server: 20 MiB and more for a body.",
        429: "Raise the rate limit of what stands before the server, or leave out its routes.",
    }
    if 300 <= answer.status < 400:
        return "Set the host to the address that answers; a redirect would take keys elsewhere."
    return cures.get(answer.status, "Look at what stands before the server, and at /healthz.")


def _said(answer: Answer) -> str:
    """A refusal: the server's status and code, or what something in front answered."""
    return answer.words if answer.reason is None else f"{answer.status} {answer.reason}"


def main() -> int:
    """Print each hop; 0 when all are ok, 1 when one failed, 2 for options, 3 when unknown."""
    try:
        options = Options.found(Hidden({}))
    except InvalidOption as error:
        print(error, file=sys.stderr)  # noqa: T201 — a program's own output
        return 2
    found = []
    for hop in examine(options):
        found.append(hop)
        print(hop, flush=True)  # noqa: T201
    return {True: 0, False: 1, None: 3}[Diagnosis(tuple(found)).ok]


if __name__ == "__main__":
    sys.exit(main())
