"""What accepts connections and admits events, in whichever process it is."""

import gc
import socket
from typing import Final

from indelible.clock import Clock, now_ms
from indelible.edge.asgi import Edge, Framework
from indelible.edge.dialects import DIALECTS
from indelible.edge.gate import Gate
from indelible.edge.intake import Intake, Limits, Submit
from indelible.edge.large import LargeBodies
from indelible.edge.notice import Notices
from indelible.edge.pipeline import hot_routes
from indelible.edge.rates import Rates
from indelible.edge.waiting import Confirm, bounded
from indelible.journal.disk import DiskState
from indelible.processes.edge import Desk, Writer
from indelible.processes.relay import Relay
from indelible.refusals import Refusals
from indelible.registry.snapshot import Known
from indelible.serving import Ending, Patience, serve_asgi
from indelible.settings import Settings

_COLLECT_AFTER: Final = (50_000, 20, 20)


async def serve_edge(
    settings: Settings,
    on: socket.socket,
    bell: socket.socket,
    line: socket.socket,
    *,
    clock: Clock = now_ms,
    patience: Patience | None = None,
) -> None:
    """Accept connections and answer requests until the writer, at the other end of `line`, says
    that the server stops. `bell` is where requests are passed on to the reader."""
    waiting_bytes = max(settings.max_waiting_bytes // (settings.edges or 1), 1)
    large, rates = LargeBodies(max_waiting_bytes=waiting_bytes), Rates()
    disk = DiskState(
        product_percent=settings.product_min_free_percent,
        audit_percent=settings.audit_min_free_percent,
    )
    refusals, notices = Refusals(), Notices(clock)
    writer = Writer(
        disk,
        rates,
        notices,
        max_waiting_bytes=settings.max_waiting_bytes,
    )
    if not await writer.meet(line):
        writer.leave(Ending(0, 0))
        return
    gate = gate_of(settings, writer, clock)
    others = Relay(bell, refusals, lambda: writer.has_reader)
    edge = make_edge(
        settings,
        gate=gate,
        rates=rates,
        disk=disk,
        store=writer.submit,
        large=large,
        confirm=writer.confirm,
        framework=Desk(writer, others, gate, refusals, metrics_key=settings.metrics_key),
        refusals=refusals,
        notices=notices,
        clock=clock,
    )
    spare_collector()
    ending = await serve_asgi(
        edge,
        on=on,
        announce=lambda _: writer.serve(),
        stop=writer.stopping,
        refusal=edge.refusal,
        closed=edge.closed,
        at_once=edge.at_once,
        patience=patience or patience_of(settings),
    )
    await large.stop()
    refusals.close()
    writer.leave(ending)


def make_edge(
    settings: Settings,
    *,
    gate: Gate,
    rates: Rates,
    disk: DiskState,
    store: Submit,
    large: LargeBodies,
    confirm: Confirm,
    framework: Framework,
    refusals: Refusals,
    notices: Notices,
    clock: Clock,
) -> Edge:
    """The application that answers requests: the hot routes, and the framework behind them."""
    intake = Intake(
        gate=gate,
        rates=rates,
        disk=disk,
        store=store,
        limits=limits_of(settings),
        large=large,
        confirm=bounded(confirm),
        notices=notices,
        clock=clock,
    )
    return Edge(hot_routes(DIALECTS, intake), framework, refusals, notices)


def gate_of(settings: Settings, known: Known, clock: Clock) -> Gate:
    """The gate, with the proxies that the settings trust."""
    return Gate(known, clock=clock, trusted_proxies=settings.trusted_proxies)


def limits_of(settings: Settings) -> Limits:
    """What one request may hold."""
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        max_event_bytes=settings.max_event_bytes,
        max_batch=settings.max_batch,
        max_payload_bytes=settings.max_payload_bytes,
    )


def patience_of(settings: Settings) -> Patience:
    """The limits of connections; the budget always has room for one body of the longest size."""
    share_bytes = settings.max_receiving_bytes // (settings.edges or 1)
    memory_bytes = max(share_bytes, settings.max_body_bytes)
    return Patience(memory_bytes=memory_bytes, reserved_bytes=memory_bytes // 2)


def spare_collector() -> None:
    """Keep Python's collector from looking where there is nothing to collect."""
    # All that was made up to here lives as long as the process.
    gc.collect()
    gc.freeze()
    # A body of a megabyte may hold hundreds of thousands of lists, none of them in a cycle. By the
    # usual thresholds the collector looks through them again and again: most of the time of a
    # read.
    gc.set_threshold(*_COLLECT_AFTER)
