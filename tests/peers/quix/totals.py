"""Count, sum, least and greatest price of each customer's sales on Quix Streams, in RocksDB, with a changelog and an output."""

import io
import json
import os
import time

import fastavro
from quixstreams import Application
from quixstreams.models import Deserializer

# Marker and fingerprint of Avro's single-object encoding.
HEADER = 10

with open("schemas/sale.avsc") as file:
    SALE = fastavro.parse_schema(json.load(file))
RECORDS = int(os.environ["RECORDS"])
TOPIC = os.environ["TOPIC"]


class Sales(Deserializer):
    def __call__(self, value, ctx):
        return fastavro.schemaless_reader(io.BytesIO(value[HEADER:]), SALE)


app = Application(
    broker_address=os.environ["BROKERS"], consumer_group=os.environ["APP"], auto_offset_reset="earliest",
    commit_interval=0.1, processing_guarantee="exactly-once", state_dir=os.environ["STATE_DIR"], loglevel="ERROR",
)

seen = 0
moments = []
# What the figures come to, by what is put out; no store can be asked for all of its keys.
customers, sales, revenue = set(), 0, 0.0


def part(earlier, later):
    records, wall_s, cpu_s = (b - a for a, b in zip(earlier, later))
    return {"records": records, "wall_s": wall_s, "cpu_s": cpu_s}


def aggregate(sale, state):
    global seen, sales, revenue
    if seen in (0, RECORDS // 2):
        moments.append((seen, time.perf_counter(), time.process_time()))
    if seen == 0:
        print("at work", flush=True)
    customer, price = sale["customer"], sale["price"]
    before = state.get("figures") or [0, 0.0, price, price]
    after = [before[0] + 1, before[1] + price, min(before[2], price), max(before[3], price)]
    state.set("figures", after)
    customers.add(customer)
    sales += after[0] - before[0]
    revenue += after[1] - before[1]
    seen += 1
    if seen == RECORDS:
        moments.append((seen, time.perf_counter(), time.process_time()))
        with open("/proc/self/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        print(json.dumps({
            "first": part(*moments[:2]), "warm": part(*moments[1:]), "peak_bytes": peak * 1024,
            "customers": len(customers), "sales": sales, "revenue": revenue,
        }), flush=True)
        os._exit(0)
    return after


totals = app.dataframe(app.topic(TOPIC, value_deserializer=Sales(), key_deserializer="str"))
totals = totals.apply(aggregate, stateful=True)
totals.to_topic(app.topic(TOPIC + "-quix-totals", value_serializer="json", key_serializer="str"))
app.run()
