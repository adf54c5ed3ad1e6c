"""A Celery application with one task for each way that a run can end. Run by real workers.

BROKER=folder python -m celery -A tests.hooks.shop_tasks worker
"""

import json
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject
from kombu.transport import TRANSPORT_ALIASES, filesystem

from indelible import Indelible
from indelible.client import context
from indelible.hooks.celery import install

app = Celery("shop")


class Channel(filesystem.Channel):
    """Kombu's own lets a worker take a message whose text is still to come, and die of it."""

    def _put(self, queue: str, payload: object, **_: Any) -> None:  # type: ignore[override]
        file = Path(self.data_folder_out, f"{time.monotonic_ns()}_{uuid.uuid4()}.{queue}.msg")
        part = file.with_name(f"{file.name}.part")
        part.write_text(json.dumps(payload))
        part.rename(file)


class Transport(filesystem.Transport):
    Channel = Channel


TRANSPORT_ALIASES["whole-files"] = f"{__name__}:Transport"


def use_broker(app: Celery, folder: Path) -> None:
    """Pass messages through files of `folder`, which several processes can share."""
    for name in ("messages", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    app.conf.update(
        broker_url="whole-files://",
        broker_transport_options={
            "data_folder_in": str(folder / "messages"),
            "data_folder_out": str(folder / "messages"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.01,
        },
        worker_prefetch_multiplier=1,
        worker_lost_wait=0.2,
    )


if "BROKER" in os.environ:  # in a worker
    use_broker(app, Path(os.environ["BROKER"]))
    # Batches that nothing but a flush would send: what arrives was flushed.
    client = Indelible(batch_s=float(os.environ["BATCH_S"]))
    install(client, skip=("shop.skipped",), audit=True)

    @signals.task_failure.connect(weak=False)
    def failed(sender: Task, **_: object) -> None:
        """Leaves a file for each time that Celery tells of a stalled task, after us."""
        if sender.name == "shop.stall":
            client.flush(10)
            (Path(os.environ["BROKER"]) / f"failure-{time.monotonic_ns()}").touch()


@app.task(name="shop.pay")
def pay(order: str) -> str:
    return order


@app.task(name="shop.refuse")
def refuse() -> None:
    raise LookupError("no such order")


@app.task(name="shop.again", bind=True, max_retries=1)
def again(self) -> None:  # type: ignore[no-untyped-def]
    if not self.request.retries:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0)


@app.task(name="shop.ignore")
def ignore() -> None:
    raise Ignore


@app.task(name="shop.reject", acks_late=True)
def reject() -> None:
    raise Reject("never", requeue=False)


@app.task(name="shop.die")
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="shop.leave")
def leave() -> None:
    raise SystemExit(3)


@app.task(name="shop.stall", time_limit=1)
def stall() -> None:
    time.sleep(60)


@app.task(name="shop.who", bind=True)
def who(self) -> None:  # type: ignore[no-untyped-def]
    here = context.current()
    assert here is not None
    client.capture("seen", properties={"custom": (self.request.headers or {}).get("custom")})


@app.task(name="shop.skipped")
def skipped() -> None:
    client.capture("skipped_ran")


@app.task(name="shop.count")
def count(folder: str, number: int) -> None:
    client.capture("counted", properties={"number": number})
    time.sleep(0.001)
    (Path(folder) / str(number)).touch()
