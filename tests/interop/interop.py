"""Reads and writes what gretchen writes and reads, with confluent-kafka and fastavro, or with Confluent's own serializers
where the environment variable REGISTRY names a schema registry."""

import csv
import datetime
import io
import json
import os
import sys
from decimal import Decimal

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

MARKER = b"\xc3\x01"


def schema(name):
    with open(f"schemas/{name}.avsc") as file:
        parsed = fastavro.parse_schema(json.load(file))
    fingerprint = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(parsed), "CRC-64-AVRO")
    return parsed, MARKER + bytes.fromhex(fingerprint)


def codec(topic, name):
    """What turns a record into the bytes of a value, and the reverse."""
    if registry := os.environ.get("REGISTRY"):
        client = SchemaRegistryClient({"url": registry})
        with open(f"schemas/{name}.avsc") as file:
            serializer = AvroSerializer(client, file.read())
        deserializer = AvroDeserializer(client)
        context = SerializationContext(topic, MessageField.VALUE)
        return lambda record: serializer(record, context), lambda value: deserializer(value, context)
    parsed, header = schema(name)

    def encode(record):
        value = io.BytesIO()
        value.write(header)
        fastavro.schemaless_writer(value, parsed, record)
        return value.getvalue()

    def decode(value):
        assert value.startswith(header), value[:10]
        return fastavro.schemaless_reader(io.BytesIO(value[len(header):]), parsed)

    return encode, decode


def read(brokers, topic, name):
    """Keys and values of all committed records of a topic."""
    _, decode = codec(topic, name)
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
        yield message.key().decode(), decode(message.value())
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
    encode, _ = codec(topic, "order")
    # Java's hash of the key: librdkafka has another by default.
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "linger.ms": 20})
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            order = {
                "order_id": int(row["order_id"]), "customer": row["customer"], "quantity": int(row["quantity"]),
                "ordered_on": datetime.date.fromisoformat(row["ordered_on"]), "amount": Decimal(row["amount"]),
            }
            producer.produce(topic, encode(order), row["customer"])
            producer.poll(0)
    assert producer.flush(30) == 0


if __name__ == "__main__":
    {"orders": orders, "totals": totals, "write": write}[sys.argv[1]](*sys.argv[2:])
