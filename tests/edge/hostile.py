"""Bodies that are cheap to send and dear to read, and a neighbour who notices."""

import base64
import gzip
import http.client
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.world import API_KEY, TOKEN, ServerProcess

MB = 1 << 20

TO_PRODUCT = "/api/e"
TO_AUDIT = "/v1/events"
TO_AUDIT_BATCH = "/v1/events/batch"

Body = Callable[[], bytes]

_START = b'{"event":"e","distinct_id":"d","properties":{"a":['
_OURS = b'{"api_key":"%s",' % TOKEN.encode() + _START[1:]
_END = b"1]}}"


def gzipped(*parts: tuple[bytes, int]) -> bytes:
    """A gzip stream of these units, each as often as said, made without holding them."""
    stream = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    packed = bytearray()
    for unit, count in parts:
        at_once = max(1, MB // len(unit))
        block = unit * at_once
        for _ in range(count // at_once):
            packed += stream.compress(block)
        packed += stream.compress(unit * (count % at_once))
    return bytes(packed + stream.flush())


def event(filling: bytes) -> bytes:
    """An event with a list that begins with `filling`."""
    return _START + filling + _END


def batch(events: list[bytes], beside: bytes = b"") -> bytes:
    return b'{"api_key":"%s",%s"batch":[%s]}' % (TOKEN.encode(), beside, b",".join(events))


_SMALL = b'{"event":"e","distinct_id":"d"}'
_LISTED = b'{"token":"%s","event":"e","distinct_id":"d"}' % TOKEN.encode()

PRODUCT: Mapping[str, Body] = {
    # Packed
    "gzip of 33 M lists": lambda: gzipped((_START, 1), (b"[],", 33_000_000), (_END, 1)),
    "gzip of 33 M objects": lambda: gzipped((_START, 1), (b"{},", 33_000_000), (_END, 1)),
    "gzip of 50 M numbers": lambda: gzipped((_START, 1), (b"1,", 50_000_000), (_END, 1)),
    "gzip, in an unknown member": lambda: gzipped(
        (b'{"x":[', 1), (b"[],", 33_000_000), (b"1]}", 1)
    ),
    "gzip of gzip of gzip": lambda: gzip.compress(
        gzip.compress(gzipped((_OURS, 1), (b"[],", 33_000_000), (_END, 1)))
    ),
    "gzip as large as it may be": lambda: gzipped(
        (_OURS, 1), (b'"%s",' % os.urandom(MB).hex().encode(), 1), (b"[],", 32_000_000), (_END, 1)
    ),
    "9,800 events of 10 kB of lists, stored": lambda: gzip.compress(
        batch([event(b"[]," * 3_300)] * 9_800, b'"x":"%s",' % os.urandom(MB).hex().encode()), 1
    ),
    "gzip of 100 members": lambda: gzip.compress(_OURS) + gzip.compress(b"[]," * 60_000) * 98,
    "gzip of blanks": lambda: gzipped((b" ", 90_000_000), (b"{}", 1)),
    "gzip of noise": lambda: gzip.compress(os.urandom(19_000_000), 1),
    "9,999 events of 10 kB of lists": lambda: gzip.compress(
        batch([event(b"[]," * 3_300)] * 9_999), 1
    ),
    "form of 6 M percent signs": lambda: b"data=" + b"%7B" * 6_000_000,
    "form of stray percent signs": lambda: b"data=" + b"%" * 19_000_000,
    "form of 3 M fields": lambda: b"data=" + b"&data=" * 3_000_000,
    "base64 of nothing": lambda: b"A" * 19_800_000,
    "base64 but for its last byte": lambda: b"A" * 19_800_000 + b"!",
    "base64 of lists": lambda: base64.b64encode(_OURS + b"[]," * 4_800_000 + _END),
    # One event
    "19.8 MB of lists, no token": lambda: event(b"[]," * 6_600_000),
    "19.8 MB of lists": lambda: _OURS + b"[]," * 6_600_000 + _END,
    "19.8 MB of objects": lambda: _OURS + b"{}," * 6_600_000 + _END,
    "19.8 MB of numbers": lambda: _OURS + b"1," * 9_900_000 + _END,
    "19.8 MB of empty texts": lambda: _OURS + b'"",' * 6_600_000 + _END,
    "3 M properties": lambda: b'{"properties":{' + b'"":1,' * 3_300_000 + b'"":1}}',
    "3 M members": lambda: b"{" + b'"a":1,' * 2_800_000 + b'"a":1}',
    "90,000 members": lambda: b"{" + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}",
    "a key of 19 MB": lambda: b'{"' + b"k" * 19_000_000 + b'":1}',
    "a token of 19 MB": lambda: b'{"api_key":"' + b"x" * 19_000_000 + b'","event":"e"}',
    "a token of lists": lambda: b'{"api_key":[' + b"[]," * 6_300_000 + b'1],"event":"e"}',
    "$set of lists": lambda: _OURS + b'1]},"$set":{"a":[' + b"[]," * 24_000 + b"1]}}",
    "a number of 19 M digits": lambda: _OURS + b"1" * 19_000_000 + b"," + _END,
    "a million deep": lambda: b"[" * 1_000_000 + b"]" * 1_000_000,
    "ten million deep": lambda: _OURS + b"[" * 9_900_000 + b"]" * 9_900_000 + b"," + _END,
    "40 deep, often": lambda: _OURS + (b"[" * 40 + b"]" * 40 + b",") * 12_000 + _END,
    "19 MB of escapes": lambda: _OURS + b'"' + rb"\u0061" * 3_200_000 + b'",' + _END,
    "19 MB of half characters": lambda: _OURS + b'"' + rb"\ud800" * 3_200_000 + b'",' + _END,
    "one half character in escapes": lambda: (
        _OURS + b'"' + rb"\u0061" * 3_200_000 + rb'\ud800",' + _END
    ),
    "19 MB of backslashes": lambda: _OURS + b'"' + rb"\\" * 9_500_000 + b'",' + _END,
    "19 MB of blanks": lambda: b" " * 19_000_000 + b"{}",
    "19 MB of blanks inside": lambda: b"{" + b" " * 19_000_000 + b"}",
    "6 M byte order marks": lambda: b"\xef\xbb\xbf" * 6_000_000 + b"{}",
    # Many events
    "10,000 small events": lambda: batch([_SMALL] * 10_000),
    "10,000 small events in a list": lambda: b"[" + b",".join([_LISTED] * 10_000) + b"]",
    "10,000 tokens": lambda: b"[%s]" % b",".join(b'{"token":"t%d"}' % n for n in range(10_000)),
    "10,000 nulls": lambda: batch([b"null"] * 10_000),
    "a batch of 9.9 M numbers": lambda: batch([b"1"] * 9_900_000),
    "a list of 6.6 M lists": lambda: b"[" + b"[]," * 6_600_000 + b"1]",
    "1,950 events of 10 kB of lists": lambda: batch([event(b"[]," * 3_300)] * 1_950),
    "260 events of 72 kB of objects": lambda: batch([event(b"{}," * 24_000)] * 260),
    "19 events of 1 MB of lists": lambda: batch([event(b"[]," * 340_000)] * 19),
    "19 events of 1 MB, 31 deep": lambda: batch(
        [event((b"[" * 29 + b"]" * 29 + b",") * 17_000)] * 19
    ),
    "19 events of 1 MB of half characters": lambda: batch(
        [event(b'"' + rb"\ud800" * 160_000 + b'",')] * 19
    ),
    "19 events of a million digits": lambda: batch([event(b"1." + b"1" * 1_000_000 + b",")] * 19),
    "sent_at of 1 MB, 9,000 events": lambda: batch(
        [_SMALL] * 9_000, b'"sent_at":"' + b"x" * MB + b'",'
    ),
    "lost of 17 MB": lambda: batch(
        [_SMALL], b'"lost":{%s},' % b",".join(b'"%d":1' % n for n in range(1_600_000))
    ),
}

QUERIES: Mapping[str, str] = {
    "a query of 16,000 parameters": "a=1&" * 16_000,
    "a query of 7,000 escaped names": "%7B%7B=1&" * 7_000,
    "data in the query, all of it escaped": "data=" + "%7B" * 21_000,
    "data in the query, base64 of lists": "compression=base64&data="
    + base64.b64encode(_OURS + b"[]," * 15_000 + _END).decode(),
    "data in the query, gzip of lists": "data="
    + quote(base64.b64encode(gzipped((_OURS, 1), (b"[],", 1_300_000), (_END, 1)))),
}

AUDIT: Mapping[str, tuple[str, Body]] = {
    "gzip of 33 M lists": (
        TO_AUDIT,
        lambda: gzipped((b'{"payload":"x","a":[', 1), (b"[],", 33_000_000), (b"1]}", 1)),
    ),
    "payload of lists": (TO_AUDIT, lambda: b'{"payload":[' + b"[]," * 6_600_000 + b"1]}"),
    "payload of 19 MB": (TO_AUDIT, lambda: b'{"payload":"' + b"x" * 19_000_000 + b'"}'),
    "payload of escapes": (TO_AUDIT, lambda: b'{"payload":"' + rb"\u0061" * 3_200_000 + b'"}'),
    "payload of half characters": (
        TO_AUDIT,
        lambda: b'{"payload":"' + rb"\ud800" * 3_200_000 + b'"}',
    ),
    "1.4 M keys of meta": (
        TO_AUDIT,
        lambda: b'{"payload":"x","meta":{%s}}' % b",".join([b'"key":"v"'] * 1_400_000),
    ),
    "2.8 M members": (TO_AUDIT, lambda: b"{" + b'"a":1,' * 2_800_000 + b'"payload":"x"}'),
    "4 M nulls": (TO_AUDIT_BATCH, lambda: b'{"events":[' + b"null," * 3_900_000 + b"1]}"),
    "100 events of 190 kB of lists": (
        TO_AUDIT_BATCH,
        lambda: (
            b'{"events":[%s]}'
            % b",".join([b'{"payload":"x","a":[' + b"[]," * 63_000 + b"1]}"] * 100)
        ),
    ),
    "100 events as large as they may be": (
        TO_AUDIT_BATCH,
        lambda: (
            b'{"events":[%s]}'
            % b",".join(
                [b'{"payload":"' + b"x" * 65_000 + b'","a":[' + b"[]," * 21_000 + b"1]}"] * 100
            )
        ),
    ),
    "a key of 19 MB": (
        TO_AUDIT_BATCH,
        lambda: b'{"events":[{"payload":"x","idempotency_key":"' + b"x" * 19_000_000 + b'"}]}',
    ),
}


@dataclass
class Cost:
    """What one request cost the server and its neighbours."""

    status: int = 0
    code: str = ""
    took_s: float = 0.0
    worked_s: float = 0.0
    grown_mib: int = 0
    neighbours_ms: list[float] = field(default_factory=list)

    @property
    def longest_ms(self) -> float:
        return max(self.neighbours_ms, default=0.0)


def resident_mib(process_id: int, what: str = "VmHWM") -> int:
    """Memory of a process; VmHWM is the most it ever had."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) // 1024
    raise AssertionError(what)


def forget_the_most(process_id: int) -> None:
    """From now on VmHWM is the most since now (proc(5), clear_refs)."""
    Path(f"/proc/{process_id}/clear_refs").write_text("5")


def worked_s(process_id: int) -> float:
    """Processor time that a process has used: another's load is not in it."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connected(server: ServerProcess) -> http.client.HTTPConnection:
    address = urlsplit(server.url)
    return http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)


@contextmanager
def neighbours(server: ServerProcess, waits_ms: list[float]) -> Iterator[None]:
    """Two other clients, one that sends events and one that asks for the health, every 20 ms."""
    done = threading.Event()
    sent = json.dumps({"api_key": TOKEN, "event": "viewed", "distinct_id": "n"})

    def ask(method: str, path: str, body: str | None) -> None:
        connection = connected(server)
        while not done.is_set():
            start = time.perf_counter()
            connection.request(method, path, body)
            answer = connection.getresponse()
            answer.read()
            waits_ms.append((time.perf_counter() - start) * 1000)
            assert 200 == answer.status
            done.wait(0.02)
        connection.close()

    threads = [
        threading.Thread(target=ask, args=arguments)
        for arguments in (("POST", TO_PRODUCT, sent), ("GET", "/healthz", None))
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    waits_ms.clear()
    try:
        yield
    finally:
        time.sleep(0.1)
        done.set()
        for thread in threads:
            thread.join()


def cost(
    server: ServerProcess, path: str, body: bytes, headers: Mapping[str, str] | None = None
) -> Cost:
    """Send `body`, or ask when there is none, and say what that cost.

    The request is alone but for its `neighbours`.
    """
    process_id = server.process.pid
    key = {} if path.startswith(TO_PRODUCT) else {"authorization": f"Bearer {API_KEY}"}
    found = Cost()
    before_mib, before_s = resident_mib(process_id, "VmRSS"), worked_s(process_id)
    forget_the_most(process_id)
    connection, start = connected(server), time.perf_counter()
    connection.request("POST" if body else "GET", path, body or None, {**key, **(headers or {})})
    answer = connection.getresponse()
    text = answer.read()
    found.took_s = time.perf_counter() - start
    found.worked_s = worked_s(process_id) - before_s
    found.grown_mib = resident_mib(process_id) - before_mib
    found.status = answer.status
    found.code = json.loads(text).get("code", "") if text[:1] == b"{" else ""
    connection.close()
    return found
