"""Count, sum, least and greatest price of each customer's sales on Faust, in RocksDB, with a changelog."""

import io
import json
import os
import time

import fastavro
import faust

# Marker and fingerprint of Avro's single-object encoding.
HEADER = 10

with open("schemas/sale.avsc") as file:
    SALE = fastavro.parse_schema(json.load(file))
RECORDS = int(os.environ["RECORDS"])

app = faust.App(
    os.environ["APP"], broker="kafka://" + os.environ["BROKERS"], store="rocksdb://", topic_partitions=4,
    web_enabled=False, datadir=os.environ["STATE_DIR"], value_serializer="raw",
)
sales = app.topic(os.environ["TOPIC"], key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
totals = app.Table("totals", default=lambda: [0, 0.0, float("inf"), float("-inf")], partitions=4)

seen = 0
moments = []


def say(line):
    """Past the framework, which logs what is printed."""
    os.write(1, (line + "\n").encode())


def part(earlier, later):
    records, wall_s, cpu_s = (b - a for a, b in zip(earlier, later))
    return {"records": records, "wall_s": wall_s, "cpu_s": cpu_s}


@app.agent(sales)
async def aggregate(stream):
    global seen
    async for value in stream:
        if seen in (0, RECORDS // 2):
            moments.append((seen, time.perf_counter(), time.process_time()))
        if seen == 0:
            say("at work")
        sale = fastavro.schemaless_reader(io.BytesIO(value[HEADER:]), SALE)
        customer, price = sale["customer"], sale["price"]
        count, revenue, smallest, largest = totals[customer]
        totals[customer] = [count + 1, revenue + price, min(smallest, price), max(largest, price)]
        seen += 1
        if seen == RECORDS:
            moments.append((seen, time.perf_counter(), time.process_time()))
            rows = list(totals.values())
            with open("/proc/self/status") as status:
                peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
            say(json.dumps({
                "first": part(*moments[:2]), "warm": part(*moments[1:]), "peak_bytes": peak * 1024,
                "customers": len(rows), "sales": sum(row[0] for row in rows), "revenue": sum(row[1] for row in rows),
            }))
            os._exit(0)


if __name__ == "__main__":
    app.main()
