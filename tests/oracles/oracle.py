"""What fastavro makes of the schemas and values that the tests wrote: a line of JSON for each of theirs."""

import io
import json
import math
import random
import sys
from pathlib import Path

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form
from fastavro.utils import generate_one


def read(writer, reader, datum):
    source = io.BytesIO(bytes.fromhex(datum))
    value = schemaless_reader(source, parse_schema(writer), parse_schema(reader) if reader is not None else None)
    if source.read(1):
        raise ValueError("bytes are left over")
    return value


def written(schema, value):
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), value)
    return out.getvalue().hex()


def shown(value):
    """As people read it: bytes a character each, numbers that JSON has none for as texts."""
    if isinstance(value, dict):
        return {key: shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + max(map(depth, inner), default=0)


def answer_value(question):
    canonical = to_parsing_canonical_form(question["schema"])
    answer = {
        # CRC-64-AVRO comes as its bytes, the lowest first.
        "rabin": bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))[::-1].hex().lstrip("0"),
        "md5": fingerprint(canonical, "MD5"),
        "sha256": fingerprint(canonical, "SHA-256"),
    }
    value = read(question["bare"], None, question["datum"])
    answer["value"] = [shown(value)]
    if not question["wide"]:
        answer["datum"] = written(question["bare"], value)
    random.seed(question["seed"])
    try:
        own = generate_one(question["bare"])
    except RecursionError:
        return answer
    # Deeper values are refused by design.
    if depth(own) <= 30:
        answer["own_datum"] = written(question["bare"], own)
        answer["own_value"] = [shown(read(question["bare"], None, answer["own_datum"]))]
    return answer


def answer_triple(question):
    return {"value": [shown(read(question["writer"], question["reader"], question["datum"]))]}


def each(folder, name, answer):
    path = folder / f"{name}.jsonl"
    if not path.exists():
        return
    with path.open() as questions, (folder / f"{name}.python.jsonl").open("w") as out:
        for line in questions:
            try:
                text = json.dumps(answer(json.loads(line)))
            except Exception as error:  # Whatever it is, it is the answer.
                text = json.dumps({"error": f"{type(error).__name__}: {error}"})
            out.write(text + "\n")


each(Path(sys.argv[1]), "values", answer_value)
each(Path(sys.argv[1]), "triples", answer_triple)
