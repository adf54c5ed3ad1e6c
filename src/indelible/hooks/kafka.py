"""Kafka: one event for each message consumed, with aiokafka and with confluent-kafka.

    messages = Messages(client)
    async for message in consumer:                     # aiokafka
        async with messages.consume(message):
            …

    with messages.consume(consumer.poll(1.0)):         # confluent-kafka
        …

    await producer.send(topic, value, headers=produce_headers())

Neither library has a hook of its own, and confluent-kafka's types are C's: so the block that
handles a message says so. The event names the topic and says where the message was; key, value and
headers stay out of it. Request id and trace come from the message's headers, as `produce_headers`
sends them.
"""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Unpack

from indelible.client import context as contexts
from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.observer import Observer, quietly
from indelible.hooks.run import Run, context_of, headers_of

Headers = list[tuple[str, str | bytes | None]]
"""As confluent-kafka's types ask for them; all of ours are bytes, which aiokafka demands."""

Place = tuple[str, int, int, dict[str, str]]
"""Topic, partition, offset and headers."""

_FRAMEWORK: Final = "kafka"


def produce_headers(headers: Iterable[tuple[str, str | bytes | None]] = ()) -> Headers:
    """Headers for a message that is to be handled in the current context, after those given.

    One that is given already is not added again.
    """
    own = list(headers)
    there = {name.lower() for name, _ in own}
    ours = headers_of(contexts.current())
    return own + [(name, value.encode()) for name, value in ours.items() if name not in there]


class Messages:
    """Records the messages that a consumer handles. One for the life of the consumer.

    Args:
        client: the client to send with; without one, that of `settings`, else the default one.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`;
            `skip` takes names of topics.
    """

    def __init__(self, client: Indelible | None = None, **settings: Unpack[Settings]) -> None:
        self._observer = observer_of(client, settings, framework=_FRAMEWORK)

    def consume(self, message: Any) -> "Consumption":
        """A block, `with` or `async with`, that handles one message.

        What `poll` gives in place of a message (None, or one with an error) leaves no event.
        """
        return Consumption(self._observer, message)


def consume(message: Any, client: Indelible | None = None, **recording: Any) -> "Consumption":
    """`Messages.consume`, for those who handle a message now and then; it makes no client.

    Args:
        message: as the consumer gave it.
        client: the client to send with; the default one if None.
        recording: fields of `indelible.hooks.observer.Recording`.
    """
    return Consumption(Observer(client, framework=_FRAMEWORK, **recording), message)


class Consumption:
    """The handling of one message, as a context manager of either colour."""

    def __init__(self, observer: Observer, message: Any) -> None:
        self.client = observer.client
        self._observer = observer
        self._message = message
        self._run: Run | None = None

    def __enter__(self) -> Context:
        place = self._place()
        if place is None:
            return contexts.inherited()
        topic, partition, offset, headers = place
        here = context_of(headers.get)
        self._run = Run(self._observer, kind="message", name=topic, context=here)
        self._run.details |= {"partition": partition, "offset": offset}
        return self._run.context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._run is not None:
            self._run.__exit__(kind, error, trace)

    @quietly
    def _place(self) -> Place | None:
        return _place_of(self._message)

    async def __aenter__(self) -> Context:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


def _place_of(message: Any) -> Place | None:
    """Where a message was; members with aiokafka, methods with confluent-kafka."""
    if message is None:
        return None
    if not callable(getattr(message, "topic", None)):
        headers = _headers(message.headers)
        return message.topic, message.partition, message.offset, headers
    if message.error() is not None or message.topic() is None:
        return None
    return message.topic(), message.partition(), message.offset(), _headers(message.headers())


def _headers(pairs: Sequence[tuple[str, bytes | str | None]] | None) -> dict[str, str]:
    """By lower-case name, the last of a name; what is not text cannot be ours."""
    headers = {}
    for name, value in pairs or ():
        if isinstance(value, bytes):
            headers[name.lower()] = value.decode("latin1")
    return headers
