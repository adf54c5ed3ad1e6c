"""Both Kafka libraries against one broker: librdkafka's mock cluster, on a loopback socket."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from indelible.client import context
from indelible.hooks.kafka import Headers, Messages, consume, produce_headers
from indelible.testing import Recorder

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    """The mock cluster's address; it lives as long as the producer that made it."""
    owner = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "ignored:1", "log_level": 0})
    known = owner.list_topics(timeout=60).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in known)
    owner.flush(5)


@pytest.fixture
def topic() -> str:
    return f"orders-{uuid.uuid4().hex[:8]}"


def produced(brokers: str, topic: str, *values: str, headers: Any = None) -> None:
    producer = Producer({"bootstrap.servers": brokers})
    for value in values:
        producer.produce(topic, value, partition=0, headers=headers)
    assert 0 == producer.flush(60)


def polled(brokers: str, topic: str, count: int = 1) -> list[Message]:
    """The topic's first messages, or what stands for one, by confluent-kafka."""
    settings = {"bootstrap.servers": brokers, "group.id": topic, "enable.partition.eof": True}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    try:
        messages = [consumer.poll(60) for _ in range(count)]
    finally:
        consumer.close()
    return [message for message in messages if message is not None]


async def received(brokers: str, topic: str, count: int) -> list[Any]:
    """The topic's first messages, by aiokafka."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=brokers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


def test_a_message_of_confluent_kafka_leaves_an_event_named_by_its_topic(
    brokers: str, topic: str, events: Recorder
) -> None:
    produced(brokers, topic, "secret value", headers=[("secret", b"header")])

    [message] = polled(brokers, topic)
    with Messages(events.client).consume(message):
        pass

    event = events.assert_captured("message_consumed", name=topic, outcome="success", times=1)
    assert (0, 0) == (event.properties["partition"], event.properties["offset"])
    assert event.properties["duration_ms"] >= 0
    events.assert_nothing_audited()
    assert "secret" not in repr([one.body for one in events.server.received])


def test_a_message_of_aiokafka_leaves_an_event_named_by_its_topic(
    brokers: str, topic: str, events: Recorder
) -> None:
    produced(brokers, topic, "one", "two")
    messages = Messages(events.client)

    async def handle() -> None:
        for message in await received(brokers, topic, 2):
            async with messages.consume(message):
                events.client.capture("handled")

    asyncio.run(handle())
    events.assert_captured("message_consumed", name=topic, offset=1)
    events.assert_captured("message_consumed", name=topic, times=2)


def test_a_handler_that_raises_is_an_error_and_raises_still(
    brokers: str, topic: str, events: Recorder
) -> None:
    produced(brokers, topic, "one")
    [message] = polled(brokers, topic)

    with pytest.raises(LookupError), consume(message, events.client):
        raise LookupError("no such order")

    event = events.assert_captured("message_consumed", outcome="error", times=1)
    assert "LookupError" == event.properties["error_type"]
    assert "no such order" not in repr(event.body)


def test_a_message_is_audited_where_that_is_asked_for_and_nowhere_else(
    brokers: str, topic: str, events: Recorder
) -> None:
    produced(brokers, topic, "one")
    [message] = polled(brokers, topic)
    with Messages(events.client, audit=True).consume(message):
        pass
    with consume(message, events.client) as here:
        here.event_name = "order.shipped"
    with pytest.raises(LookupError), consume(message, events.client):
        raise LookupError  # and so may every message raise

    events.assert_captured("message_consumed", times=3)
    assert [f"message.{topic}", "order.shipped"] == [one.name for one in events.audited]


@pytest.mark.parametrize("library", ["confluent-kafka", "aiokafka"])
def test_the_producers_context_reaches_the_handler(
    brokers: str, topic: str, events: Recorder, library: str
) -> None:
    async def send(headers: Headers) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=brokers)
        await producer.start()
        await producer.send_and_wait(topic, b"value", headers=headers)
        await producer.stop()

    with context.bound(request_id="req-1", trace_id=TRACE):
        headers = produce_headers([("kind", b"order")])
        if library == "aiokafka":
            asyncio.run(send(headers))
        else:
            produced(brokers, topic, "value", headers=headers)

    if library == "aiokafka":
        [message] = asyncio.run(received(brokers, topic, 1))
    else:
        [message] = polled(brokers, topic)
    with consume(message, events.client) as here:
        assert ("req-1", TRACE) == (here.request_id, here.trace_id)
        assert here is context.current()

    event = events.assert_captured("message_consumed", request_id="req-1", trace_id=TRACE, times=1)
    assert event.properties["framework"] == "kafka"
    assert context.current() is None


def test_what_poll_gives_in_place_of_a_message_leaves_no_event(
    brokers: str, topic: str, events: Recorder
) -> None:
    produced(brokers, topic, "one")
    _, end = polled(brokers, topic, 2)
    assert end.error() is not None

    for one in (None, end):
        with consume(one, events.client):
            pass
    events.assert_nothing_captured()


def test_what_is_no_message_costs_the_event_and_not_the_block() -> None:
    with Recorder(strict=False) as events:
        with consume(object(), events.client):
            events.client.capture("handled")

        assert ["handled"] == [one.name for one in events.captured]
        assert 1 == events.client.counts().failures


def test_headers_that_are_there_already_are_kept() -> None:
    with context.bound(request_id="req-1"):
        assert [("X-Request-Id", b"own")] == produce_headers([("X-Request-Id", b"own")])
    assert [] == produce_headers()


def test_a_skipped_topic_is_handled_and_leaves_no_event(
    brokers: str, topic: str, events: Recorder
) -> None:
    produced(brokers, topic, "one")
    [message] = polled(brokers, topic)
    with consume(message, events.client, skip=(topic,)):
        events.client.capture("handled")

    events.assert_captured("handled", times=1)
    events.assert_nothing_captured("message_consumed")
