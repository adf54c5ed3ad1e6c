"""Record the messages that a Kafka consumer handles.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/kafka_messages.py

Leaves: order_shipped, message_consumed

The broker is the mock one of confluent-kafka's library, which ends with this process.
"""

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from indelible import Indelible
from indelible.hooks.kafka import Messages, produce_headers

client = Indelible()
messages = Messages(client)

broker = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock:1", "log_level": 0})
address = ",".join(f"{one.host}:{one.port}" for one in broker.list_topics().brokers.values())

with client.context(trail="ord_1"):
    broker.produce("orders", b"ord_1", partition=0, headers=produce_headers())
broker.flush()

consumer = Consumer({"bootstrap.servers": address, "group.id": "shipping"})
consumer.assign([TopicPartition("orders", 0, OFFSET_BEGINNING)])
message = consumer.poll(20)
with messages.consume(message):
    client.capture("order_shipped")
consumer.close()

client.shutdown()
