"""Reads and writes what gretchen writes and reads, with confluent-kafka and fastavro."""

import csv
import datetime
import io
import json
import sys
from decimal import Decimal

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition

MARKER = b"\xc3\x01"


def schema(name):
    with open(f"schemas/{name}.avsc") as file:
        parsed = fastavro.parse_schema(json.load(file))
    fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(parsed), "CRC-64-AVRO")
    return parsed, MARKER + bytes.fromhex(fingerprint)


def read(brokers, topic, name):
    """Keys and values of all committed records of a topic."""
    parsed, header = schema(name)
    consumer = Consumer({
        "bootstrap.servers": brokers, "group.id": "interop", "enable.auto.commit": False,
        "isolation.level": "read_committed", "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    ended = set()
    while len(ended) < len(partitions):
        message = consumer.poll(10)
        if message is None:
            sys.exit(f"nothing came of {topic} for ten seconds")
        if message.error():
            ended.add(message.partition())
            continue
        assert message.value().startswith(header), message.value()[:10]
        yield message.key().decode(), fastavro.schemaless_reader(io.BytesIO(message.value()[len(header):]), parsed)
    consumer.close()


def orders(brokers, topic):
    count, revenue, quantity = 0, Decimal(0), 0
    for key, order in read(brokers, topic, "order"):
        assert key == order["customer"] and isinstance(order["ordered_on"], datetime.date), order
        count, revenue, quantity = count + 1, revenue + order["amount"], quantity + order["quantity"]
    print(f"{count} orders, {revenue}, {quantity} CDs")


def totals(brokers, topic):
    last = dict(read(brokers, topic, "order_total")).values()
    orders, quantity = (sum(total[name] for total in last) for name in ("orders", "quantity"))
    revenue = sum(total["revenue"] for total in last)
    print(f"{len(last)} customers, {orders} orders, {revenue}, {quantity} CDs")


def write(brokers, topic, path):
    parsed, header = schema("order")
    # Java's hash of the key: librdkafka has another by default.
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "linger.ms": 20})
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            order = {
                "order_id": int(row["order_id"]), "customer": row["customer"], "quantity": int(row["quantity"]),
                "ordered_on": datetime.date.fromisoformat(row["ordered_on"]), "amount": Decimal(row["amount"]),
            }
            value = io.BytesIO()
            value.write(header)
            fastavro.schemaless_writer(value, parsed, order)
            producer.produce(topic, value.getvalue(), row["customer"])
            producer.poll(0)
    assert producer.flush(30) == 0


if __name__ == "__main__":
    {"orders": orders, "totals": totals, "write": write}[sys.argv[1]](*sys.argv[2:])
