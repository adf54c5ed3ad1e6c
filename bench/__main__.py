"""``python -m bench [--quick] [ROW …]``: rows are `single`, `batch`, `seal`, `receipt`, `audit`,
`client`, `delivered`, `start`, `crash`, `projects`, `rows`, `stages`, `peers`, `reader`, `live`,
`persons`, `quality`."""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
from tests.world import AS_APPLICATION, TOKEN, ServerProcess, a_free_port, product, started

from bench import client as clients
from bench import ledger, live, peers, persons, projects, stages
from bench import quality as qualities
from bench.usage import by_process, cpu_by_process_s, cpu_s, pss_mib

ROWS: Final = (
    "single",
    "batch",
    "seal",
    "receipt",
    "audit",
    "client",
    "delivered",
    "start",
    "crash",
    "projects",
    "rows",
    "stages",
    "peers",
    "reader",
    "quality",
    "live",
    "persons",
)
_BATCH: Final = 100
_FOLLOWED_RATES: Final = {"single": 6_000, "batched": 25_000}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="a fifth of the time, for a look")
    given = parser.parse_args()
    unknown = set(given.rows) - set(ROWS)
    if unknown:
        parser.error(f"unknown row: {', '.join(unknown)}")
    scale = 0.2 if given.quick else 1.0
    with tempfile.TemporaryDirectory(prefix="indelible-bench-") as folder:
        work = Path(folder)
        print(conditions(work))
        for row in given.rows or ROWS:
            _RUNS[row](work, scale)


def single(work: Path, scale: float) -> None:
    """Single events on 64 connections beside the floor, in turns, so that drift hits both."""
    floors, ours = [], []
    for turn in range(3):
        with _floor(work / f"floor-{turn}.log") as port:
            floors.append(load(port, seconds=8 * scale))
        with started(work / f"single-{turn}") as server:
            ours.append(load(_port(server), seconds=8 * scale))
            usage = _usage(server)
    rate = statistics.median(r["events_per_s"] for r in ours)
    floor = statistics.median(r["events_per_s"] for r in floors)
    p99 = statistics.median(r["p99_ms"] for r in ours)
    _report(
        "1  single POST /api/e, 64 connections",
        f"{rate:,.0f}/s, p99 {p99:.0f} ms, refused {sum(r['refused'] for r in ours)}",
        f"floor {floor:,.0f}/s, p99 {statistics.median(r['p99_ms'] for r in floors):.0f} ms",
        f"{100 * rate / floor:.0f} % of the floor",
        "≥ 5,000/s, p99 ≤ 50 ms, ≥ 50 %",
        reached=rate >= 5_000 and p99 <= 50 and rate >= 0.5 * floor,
    )
    print(f"      {usage}")


def batch(work: Path, scale: float) -> None:
    """Batches of 100 for a minute beside raw SQLite with groups of the same size."""
    with started(work / "batch") as server:
        ours = load(_port(server), seconds=60 * scale, connections=8, size=_BATCH)
        group = server.count("indelible_group_events_sum") / server.count(
            "indelible_group_events_count"
        )
        waiting = server.count("indelible_bytes_waiting")
        usage = _usage(server)
    size = max(1, round(group))
    raw = float(_run("bench.raw", str(work / "raw.db"), str(20 * scale), str(size)))
    rate = ours["events_per_s"]
    tenth = max(1, len(ours["per_second"]) // 6)
    first, last = ours["per_second"][:tenth], ours["per_second"][-tenth:]
    _report(
        f"2  batches of {_BATCH}, 8 connections, {60 * scale:.0f} s",
        f"{rate:,.0f} events/s, p99 {ours['p99_ms']:.0f} ms, refused {ours['refused']}",
        f"raw SQLite {raw:,.0f}/s in groups of {size}",
        f"{100 * rate / raw:.0f} % of raw",
        "≥ 15,000/s for 60 s, ≥ 60 %",
        reached=rate >= 15_000 and rate >= 0.6 * raw,
    )
    print(
        f"      first sixth {statistics.mean(first):,.0f}/s, last {statistics.mean(last):,.0f}/s, "
        f"waiting at the end {waiting:,.0f} bytes; {usage}"
    )


def seal(work: Path, scale: float) -> None:
    """Seal latency under a steady load; then the most that is taken with and without sealing."""
    with started(work / "seal") as server:
        outcome = load(_port(server), seconds=20 * scale, connections=16, size=10, rate=ledger.RATE)
        events = ledger.wait_until_sealed(server)
        latencies = ledger.seal_latencies_ms(server)
    on: list[dict[str, Any]] = []
    off: list[dict[str, Any]] = []
    for turn in range(3):
        for name, outcomes, environment in (("on", on, {}), ("off", off, ledger.sealing_off())):
            with started(work / f"seal-{name}-{turn}", **environment) as server:
                outcomes.append(load(_port(server), seconds=8 * scale, connections=8, size=_BATCH))
    p99 = latencies[len(latencies) * 99 // 100]
    _report(
        f"3  seal latency at {ledger.RATE:,}/s",
        f"p50 {latencies[len(latencies) // 2]} ms, p99 {p99} ms, most {latencies[-1]} ms over "
        f"{events:,} events at {outcome['events_per_s']:,.0f}/s",
        f"batches with sealing {ledger.rate_of(on):,.0f}/s, without {ledger.rate_of(off):,.0f}/s",
        f"{100 * ledger.rate_of(on) / ledger.rate_of(off):.0f} % with sealing on",
        "p99 ≤ 1 s",
        reached=p99 <= 1_000,
    )


def receipt(work: Path, scale: float) -> None:
    """Making and checking receipts of a log of 200,000 events, one core each."""
    folder = work / "receipt"
    ledger.fill(folder, round(200_000 * scale))
    made, receipts, policy = ledger.receipts_per_s(folder, seconds=5 * scale)
    checked = ledger.verifications_per_s(receipts, policy, one_checkpoint=True)
    apart = ledger.verifications_per_s(receipts, policy, one_checkpoint=False)
    floor = ledger.signatures_per_s(2 * scale)
    _report(
        "4  receipts, one core",
        f"{made:,.0f} made/s, {checked:,.0f} verified/s ({len(receipts[0]):,} bytes each; "
        f"{apart:,.0f}/s if no two share a checkpoint)",
        f"one Ed25519 signature verified {floor:,.0f}/s",
        f"{100 * checked / floor:.0f} % of the signature alone",
        "≥ 2,000 made/s, ≥ 5,000 verified/s",
        reached=made >= 2_000 and checked >= 5_000,
    )


def audit(work: Path, scale: float) -> None:
    """A whole log of a million events, computed again with its journal."""
    events = round(1_000_000 * scale)
    folder = work / "audit"
    ledger.fill(folder, events)
    seconds = min(ledger.audit_s(folder, work / f"state-{turn}") for turn in range(2))
    floor = ledger.hashing_s(events)
    _report(
        f"5  full audit of {events:,} events with their journal",
        f"{seconds:.1f} s, {events / seconds:,.0f} events/s",
        f"their hashes alone, on every core {floor:.1f} s",
        f"{seconds / floor:.1f} times the hashes",
        f"< {10 * scale:g} s",
        reached=seconds < 10 * scale,
    )


def client(work: Path, scale: float) -> None:  # noqa: ARG001 — it leaves no files
    """Per capture, 5,000 calls with a background sender, in turns with the peers."""
    calls = round(5_000 * scale)
    runs: dict[str, list[clients.Cost]] = {sdk: [] for sdk in (*clients.SDKS, "disabled")}
    for _ in range(3):
        for sdk, costs in runs.items():
            with clients.stub() as port:
                costs.append(clients.cost(sdk, port, calls))
    median = {
        sdk: [statistics.median(figures) for figures in zip(*costs, strict=True)]
        for sdk, costs in runs.items()
    }
    ours = clients.Cost(*median.pop("indelible"))
    disabled = clients.Cost(*median.pop("disabled"))
    peers = {sdk: clients.Cost(*figures) for sdk, figures in median.items()}
    nearest = min(peer.p50 for peer in peers.values())
    _report(
        f"6  client, per capture, {calls:,} calls",
        f"{_microseconds(ours)}; disabled p50 {disabled.p50:.2f} µs",
        "; ".join(f"{sdk} {_microseconds(cost)}" for sdk, cost in peers.items()),
        f"p50 is {100 * ours.p50 / nearest:.0f} % of the nearest peer's",
        "p50 ≤ 5 µs, p99 ≤ 50 µs, disabled ≤ 1 µs",
        reached=ours.p50 <= 5 and ours.p99 <= 50 and disabled.p50 <= 1,
    )
    begun: dict[str, list[clients.Begin]] = {sdk: [] for sdk in clients.SDKS}
    with clients.stub() as port:
        for _ in range(5):
            for sdk, begins in begun.items():
                begins.append(clients.begin(sdk, port))
    middle = {
        sdk: clients.Begin(*map(statistics.median, zip(*begins, strict=True)))
        for sdk, begins in begun.items()
    }
    first = middle.pop("indelible")
    _report(
        "   client, in a process that begins",
        _milliseconds(first),
        "; ".join(f"{sdk} {_milliseconds(begin)}" for sdk, begin in middle.items()),
        f"import is {100 * first.imported / min(b.imported for b in middle.values()):.0f} % "
        "of the nearest peer's",
        "import of the class ≤ 60 ms, first capture ≤ 5 ms",
        reached=first.imported <= 60 and first.first <= 5,
    )


def _milliseconds(begin: clients.Begin) -> str:
    return (
        f"import {begin.imported:.0f} ms, client {begin.made:.1f} ms, "
        f"first capture {begin.first:.2f} ms"
    )


def _microseconds(cost: clients.Cost) -> str:
    return (
        f"p50 {cost.p50:.1f}, p99 {cost.p99:.0f}, most {cost.most:,.0f} µs, "
        f"CPU {cost.cpu:.0f} µs an event, {cost.delivered:,.0f} delivered"
    )


def delivered(work: Path, scale: float) -> None:  # noqa: ARG001 — and has no shorter form
    """What arrives of 1,000 events at exit and SIGTERM, and of 100 in a fork's child."""
    found = {
        sdk: {end: clients.delivered(sdk, end) for end in clients.ENDS} for sdk in clients.SDKS
    }
    wanted = {end: f"{count:,}" for end, count in clients.ENDS.items()}
    ours = found.pop("indelible")
    _report(
        "7  delivered at exit / SIGTERM / in a fork's child",
        " / ".join(ours.values()),
        "; ".join(f"{sdk} {' / '.join(ends.values())}" for sdk, ends in found.items()),
        "-",
        " / ".join(wanted.values()),
        reached=ours == wanted,
    )


def start(work: Path, scale: float) -> None:
    """From the command to the first event that a query finds, and the memory it takes."""
    times = []
    for turn in range(max(1, round(5 * scale))):
        began = time.perf_counter()
        with started(work / f"start-{turn}") as server:
            server.send(product())
            found = server.http.get("/v1/events", headers=AS_APPLICATION).json()["events"]
            assert [0] == [event["index"] for event in found]
            times.append(time.perf_counter() - began)
            memory = pss_mib(server.process.pid)
    seconds = statistics.median(times)
    _report(
        "9  cold start to the first queryable event",
        f"{seconds:.2f} s, {memory:.0f} MiB (PSS of all processes)",
        "-",
        "-",
        "< 3 s, < 250 MiB",
        reached=seconds < 3 and memory < 250,
    )


def crash(work: Path, scale: float) -> None:
    """kill -9 under load; every event acknowledged before is looked for, and all is sent again."""
    from tests.crash.test_kill import kill_again_and_again

    rounds = max(2, round(20 * scale))
    try:
        kills = kill_again_and_again(work / "crash", rounds=rounds)
    except AssertionError as error:
        figure, reached = f"failed: {error}", False
    else:
        figure = (
            f"0 of {kills.acknowledged:,} acknowledged events lost, 0 duplicates "
            f"({kills.unanswered} were unanswered), slowest restart {kills.slowest_restart_s:.2f} s"
        )
        reached = True
    _report(
        f"10 kill -9 under load, {rounds} times",
        figure,
        "-",
        "-",
        "0 lost, 0 duplicates, restart < 5 s",
        reached=reached,
    )


def many(work: Path, scale: float) -> None:
    """Hundreds of projects with an event a second each: sealed as soon as one alone would be."""
    seconds = 20 * scale
    floor_s = projects.files_alone_s(work / "files")
    with started(work / "many") as server:
        tokens, took_s = projects.made(server)
        before = cpu_by_process_s(server.process.pid)
        projects.an_event_a_second(server, tokens, seconds=seconds)
        after = cpu_by_process_s(server.process.pid)
    # The stop has sealed what was still waiting.
    delays = projects.delays_ms(work / "many")
    p99 = delays[len(delays) * 99 // 100]
    first, last = statistics.median(took_s[:50]), statistics.median(took_s[-50:])
    _report(
        f"11 {projects.PROJECTS} projects, an event a second each, {seconds:.0f} s",
        f"sealed after p50 {delays[len(delays) // 2]} ms, p99 {p99} ms, over {len(delays):,} "
        f"events; made in {1e3 * first:.0f} ms at first, {1e3 * last:.0f} ms at last",
        f"the synced files of one round alone {1e3 * floor_s:,.0f} ms",
        f"p99 {p99 / (1e3 * floor_s):.1f} times those",
        "p99 ≤ 2 s, the last project made in 2 times the first's at most",
        reached=p99 <= 2_000 and last <= 2 * first,
    )
    spent = {name: total - before.get(name, 0.0) for name, total in after.items()}
    per_checkpoint = len(delays) / projects.checkpoints(work / "many")
    print(
        f"      CPU, us an event: {by_process(spent, len(delays))};"
        f" {per_checkpoint:.2f} events a checkpoint"
    )


def beside_peers(work: Path, scale: float) -> None:
    """Single events and batches, in turns with Tessera, with and without its antispam."""
    program = peers.built(work)
    if program is None:
        print("\n12 Tessera: there is no Go on this machine")
        return
    for shape in peers.SHAPES:
        turns: dict[str, list[peers.Turn]] = {"ours": [], "Tessera": [], "with antispam": []}
        for turn in range(max(1, round(5 * scale))):
            folder = work / f"peers-{shape.name}-{turn}"
            with started(folder / "ours") as server:
                turns["ours"].append(_turn(server.process.pid, _port(server), shape, scale))
            for name, antispam in (("Tessera", False), ("with antispam", True)):
                with peers.tessera(program, folder / name, shape, antispam=antispam) as (pid, port):
                    turns[name].append(_turn(pid, port, shape, scale, framed=True))
        middle = {
            name: peers.Turn(*map(statistics.median, zip(*each, strict=True)))
            for name, each in turns.items()
        }
        ours = middle.pop("ours")
        rival = middle["with antispam"]
        _report(
            f"12 {shape.name}, {shape.connections} connections, beside Tessera",
            str(ours),
            "; ".join(f"{name} {turn}" for name, turn in middle.items()),
            f"{ours.events_per_s / rival.events_per_s:.2f} of its rate with antispam, "
            f"{ours.cpu_us / rival.cpu_us:.2f} of its CPU",
            "past Tessera with antispam",
            reached=ours.events_per_s > rival.events_per_s,
        )


def without_reader(work: Path, scale: float) -> None:
    """What ingest costs while the log is followed, and while nobody follows it: the reader stands
    still for the time of the load, which comes at one rate, since at a higher one an event is
    cheaper."""
    for shape in peers.SHAPES:
        costs: dict[str, list[float]] = {"followed": [], "alone": []}
        rates: dict[str, list[float]] = {"followed": [], "alone": []}
        for turn in range(5):
            for how in ("followed", "alone") if turn % 2 else ("alone", "followed"):
                with started(work / f"reader-{shape.name}-{turn}-{how}") as server:
                    cost_us, rate = _ingest(server, shape, scale, is_followed=how == "followed")
                costs[how].append(cost_us)
                rates[how].append(rate)
        ratio = statistics.median(
            followed / alone
            for followed, alone in zip(costs["followed"], costs["alone"], strict=True)
        )
        middle_us = {how: statistics.median(each) for how, each in costs.items()}
        middle = {how: statistics.median(each) for how, each in rates.items()}
        _report(
            f"14 {shape.name}, CPU of writer and edge while the log is followed",
            f"{middle_us['followed']:.1f} µs an event, {middle['followed']:,.0f}/s",
            f"a reader that stands still: {middle_us['alone']:.1f} µs, {middle['alone']:,.0f}/s",
            f"{ratio:.2f} of the CPU",
            "at most 5 % more",
            reached=ratio <= 1.05,
        )


def _ingest(
    server: ServerProcess, shape: peers.Shape, scale: float, *, is_followed: bool
) -> tuple[float, float]:
    """CPU of an event in all processes but the reader, µs, and events a second."""
    children = server.http.get("/healthz").json()["processes"]["children"]
    (reader,) = [child["pid"] for child in children if child["name"] == "reader"]
    if not is_followed:
        os.kill(reader, signal.SIGSTOP)
    try:
        before = cpu_by_process_s(server.process.pid)
        outcome = load(
            _port(server),
            seconds=8 * scale,
            connections=shape.connections,
            size=shape.size,
            rate=_FOLLOWED_RATES[shape.name],
        )
        after = cpu_by_process_s(server.process.pid)
    finally:
        os.kill(reader, signal.SIGCONT)
    spent_s = sum(after[name] - before[name] for name in after if name != "reader")
    return 1e6 * spent_s / outcome["events"], outcome["events_per_s"]


def _turn(
    pid: int, port: int, shape: peers.Shape, scale: float, *, framed: bool = False
) -> peers.Turn:
    before = cpu_s(pid)
    outcome = load(
        port,
        seconds=8 * scale,
        connections=shape.connections,
        size=shape.size,
        framed=framed,
    )
    cpu_us = 1e6 * (cpu_s(pid) - before) / outcome["events"]
    requests = outcome["events"] / shape.size + outcome["refused"]
    return peers.Turn(
        outcome["events_per_s"], outcome["p99_ms"], cpu_us, outcome["refused"] / requests
    )


def load(
    port: int,
    *,
    seconds: float,
    connections: int = 64,
    size: int = 1,
    rate: float = float("inf"),
    framed: bool = False,
) -> dict[str, Any]:
    text = _run(
        "bench.load",
        str(port),
        *("--token", TOKEN, "--connections", str(connections)),
        *("--seconds", str(seconds), "--batch", str(size), "--rate", str(rate)),
        *(["--framed"] if framed else []),
    )
    result: dict[str, Any] = json.loads(text)
    return result


def _run(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def _floor(path: Path) -> Iterator[int]:
    port = a_free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.floor", str(port), str(path)])
    try:
        for _ in range(500):
            with contextlib.suppress(httpx.TransportError):
                httpx.post(f"http://127.0.0.1:{port}/", json={}, trust_env=False)
                break
            time.sleep(0.02)
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _port(server: ServerProcess) -> int:
    return httpx.URL(server.url).port or 0


def _usage(server: ServerProcess) -> str:
    """What the server spent, and how long its syncs took: where the time goes."""
    events = server.count("indelible_group_events_sum")
    groups = server.count("indelible_group_events_count")
    commit_s = server.count("indelible_commit_seconds_sum")
    spent_s = cpu_by_process_s(server.process.pid)
    cpu_us = 1e6 * sum(spent_s.values()) / events
    return (
        f"server CPU {cpu_us:.0f} µs an event ({by_process(spent_s, events)}), "
        f"{events / groups:.0f} events a group, "
        f"{1e3 * commit_s / groups:.1f} ms to write and sync a group, "
        f"{pss_mib(server.process.pid):.0f} MiB"
    )


def conditions(work: Path) -> str:
    """The machine in a line: a figure without it says nothing."""
    file = os.open(work / "sync", os.O_CREAT | os.O_WRONLY)
    began = time.perf_counter()
    for _ in range(200):
        os.write(file, bytes(4096))
        os.fdatasync(file)
    sync_ms = 1000 * (time.perf_counter() - began) / 200
    os.close(file)
    version = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{os.cpu_count()} cores, load generator beside the server, Python {version}; "
        f"every acknowledged event synced (fdatasync of 4 KiB here: {sync_ms:.2f} ms)"
    )


def in_bulk(work: Path, scale: float) -> None:
    """Reading leaves, records and payloads of a log in bulk."""
    folder = work / "rows"
    folder.mkdir()
    whole, without = map(
        float, _run("bench.rows", str(folder), str(round(200_000 * scale))).split()
    )
    _report(
        "13 reading a log in bulk, CPU of one thread",
        f"{whole:.2f} us an event",
        f"without payloads {without:.2f} us",
        f"{whole / without:.1f} times",
        "≤ 2 us an event",
        reached=whole <= 2.0,
    )


def of_persons(_: Path, scale: float) -> None:
    """What the persons of a log cost; `python -m bench.persons 1000000` at full size."""
    lines = _run("bench.persons", str(round(200_000 * scale))).splitlines()
    figures = {name: float(value) for name, value in map(str.split, lines)}
    follower_us, busy = figures["follower_us"], figures["hash_us"] / persons.HASH_US
    _report(
        "15 persons, a tenth as many as events, CPU of the follower",
        f"{follower_us:.1f} us an event; a person found in {figures['find_ms']:.1f} ms, a page of "
        f"a timeline in {figures['timeline_ms']:.1f} ms (p99); made again in "
        f"{figures['rebuild_s']:.1f} s; {figures['bytes_a_person']:.0f} bytes a person",
        f"hashing takes {busy:.1f} times what it takes on a machine that does nothing else",
        f"{follower_us / busy:.1f} us at that",
        "≤ 5 us an event, ≤ 5 ms, ≤ 50 ms",
        reached=follower_us / busy <= 5
        and figures["find_ms"] <= 5
        and figures["timeline_ms"] <= 50,
    )


def by_stage(work: Path, scale: float) -> None:
    """CPU of an event by process, under load; then that of an edge by stage, alone."""
    events = "indelible_group_events_sum"
    for name, size in stages.SHAPES.items():
        connections = 64 if size == 1 else 8
        with started(work / f"stages-{name}") as server:
            pid, port = server.process.pid, _port(server)
            load(port, seconds=scale, connections=connections, size=size)  # warm
            before, events_before = cpu_by_process_s(pid), server.count(events)
            load(port, seconds=8 * scale, connections=connections, size=size)
            spent_s = {
                process: spent - before.get(process, 0.0)
                for process, spent in cpu_by_process_s(pid).items()
            }
            stored = server.count(events) - events_before
        whole = 1e6 * sum(spent_s.values()) / stored
        print(f"\n15 CPU of {name} events: {whole:.1f} us an event ({by_process(spent_s, stored)})")
        for stage, us in stages.us_by_stage(size).items():
            print(f"      {stage:<32} {us:6.2f}", flush=True)


def what_happens_now(work: Path, scale: float) -> None:
    """The debug stream under load; the CPU of following; the memory of many projects' figures."""
    with started(work / "live") as server:
        seen = live.seen(_port(server), seconds=30 * scale)
    p50, p99 = (seen.latencies_ms[len(seen.latencies_ms) * part // 100] for part in (50, 99))
    costs = {}
    for at_once in (2_000, 200):
        folder = work / f"live-{at_once}"
        folder.mkdir()
        events = round(200_000 * scale)
        costs[at_once] = float(_run("bench.live", "cost", str(folder), str(events), str(at_once)))
    many = float(_run("bench.live", "memory", str(live.PROJECTS), "0", "1000"))
    busy = float(_run("bench.live", "memory", "1", str(live.RATE // 2), "1000000"))
    _report(
        f"16 the debug stream at {live.RATE:,} events/s, from the answer to the message",
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {seen.latencies_ms[-1]:.0f} ms; sent "
        f"{seen.sent:,}, shown {seen.shown:,}, told as left out {seen.missed:,}",
        f"following costs {costs[2_000]:.2f} us an event in runs of 2,000, {costs[200]:.2f} of 200",
        f"full windows of {live.PROJECTS} projects at 1/s {many:.0f} MiB, of one at "
        f"{live.RATE:,}/s with a new id each {busy:.0f} MiB",
        "p99 ≤ 1 s, sent = shown + left out, ≤ 2 us an event",
        reached=p99 <= 1_000 and seen.sent == seen.shown + seen.missed and costs[2_000] <= 2,
    )


def _report(row: str, figure: str, beside: str, ratio: str, target: str, *, reached: bool) -> None:
    print(f"\n{row}\n      {figure}\n      beside: {beside}   ratio: {ratio}")
    print(f"      target: {target}   {'reached' if reached else 'MISSED'}", flush=True)


def quality(work: Path, scale: float) -> None:
    """Learning the schema of a busy log and of a quiet one, beside the accounts, in turns."""
    busy = [
        qualities.cost(work / f"busy-{turn}", events=round(200_000 * scale), rate=5_000)
        for turn in range(3)
    ]
    quiet = qualities.cost(work / "quiet", events=round(20_000 * scale), rate=20)
    learned = statistics.median(one.learned for one in busy)
    accounted = statistics.median(one.accounted for one in busy)
    _report(
        f"15 schema, CPU of an event of a log of 5,000/s, {qualities.NAMES} names",
        f"{learned:.1f} µs, {busy[0].looked_into:,} events looked into",
        f"accounts of the same log {accounted:.1f} µs",
        f"{learned / accounted:.1f} times the accounts",
        "≤ 3 µs",
        reached=learned <= 3,
    )
    print(
        f"      at 20/s {quiet.learned:.0f} µs, {quiet.looked_into:,} events looked into; "
        f"file {quiet.file_bytes:,} bytes"
    )


_RUNS: Final = {
    "single": single,
    "batch": batch,
    "seal": seal,
    "receipt": receipt,
    "audit": audit,
    "client": client,
    "delivered": delivered,
    "start": start,
    "crash": crash,
    "projects": many,
    "rows": in_bulk,
    "stages": by_stage,
    "peers": beside_peers,
    "reader": without_reader,
    "quality": quality,
    "live": what_happens_now,
    "persons": of_persons,
}


if __name__ == "__main__":
    main()
