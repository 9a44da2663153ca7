"""Whatever a decoder that was taken over says costs its item, and the next one is as if it had never been."""

import json
import os
from contextlib import contextmanager

import hostile
import pyarrow as pa
from hostile import ARRAYS, ITEM, SAMPLE, message

from reelmill.config import from_dict
from reelmill.curation.ledger import ITEMS, PLAN
from reelmill.curation.scoring import ItemScorer, ScoreConfig
from torture.campaign import Tried
from torture.damage import mutated

END = {"type": "end", "arrays": []}
ODD = [
    None, True, -1, 0, 2**31, 2**63, 2**64, 10**400, float("nan"), float("inf"), -0.0, 1e308, "", "0", "\ud800",
    "\x1b[2J", "\u202e", "h" * 5000, [], {}, [[]], {"a": 1}, ["uint8"], "refused", "item", "end", b"".hex(),
]  # fmt: skip
AT_A_TIME = 20


def told(chance):
    """An honest conversation with fields, shapes, an order or bytes that are not."""
    bodies = [json.loads(json.dumps(body)) for body in (SAMPLE, ITEM, END)]
    shapes = list(bodies[0]["arrays"])
    for _ in range(chance.choice([0, 1, 1, 2])):
        body = chance.choice(bodies)
        key = chance.choice([*body, "more", "unit", "reason"])
        if key == "arrays" and chance.random() < 0.5:
            chance.choice(shapes)[chance.randrange(3)] = chance.choice([*ODD, [2**30, 2**30], [1, 2, 2, 3], "float64"])
        else:
            body[key] = chance.choice(ODD)
    data = [message(body, *(ARRAYS if body.get("type") == "sample" else ())) for body in bodies]
    if chance.random() < 0.2:
        chance.shuffle(data)
    if chance.random() < 0.2:
        data.insert(chance.randrange(3), chance.choice(data))
    said = b"".join(data)
    return mutated(said, chance) if chance.random() < 0.5 else said


@contextmanager
def campaign(place):
    place.mkdir(parents=True)
    isolation = {"stall_s": 20.0, "memory_mb": 2048}
    scorer = ItemScorer(from_dict(ScoreConfig, {"expanders": {"text": "hostile:expand"}, "isolation": isolation}), {})

    def score(data, name):
        path = place / name
        path.write_bytes(data)
        os.utime(path, ns=(0, 0))  # it stands in the row of the item
        known = {"path": str(path), "offset": 0, "size": len(data), "item_id": "i" * 32, "uri": name}
        return scorer.score({**dict.fromkeys(PLAN.names), "unit": 0, "kind": "text", **known})

    honest = score(b"plain words", "honest")

    def attempt(chance):
        tried = Tried()
        for _ in range(AT_A_TIME):
            said = told(chance)
            row, rows = score(hostile.MARK + said, "item")
            tried.note(*wrong(row, rows, said))
        if score(b"plain words", "honest") != honest:
            tried.failures.append("the item after it came out otherwise")
        return tried

    def wrong(row, rows, said):
        if row["status"] not in ("refused", "done") or row["n_samples"] != len(rows):
            yield f"{row} of {said!r}"
        try:
            pa.Table.from_pylist([row], schema=ITEMS)
            pa.Table.from_pylist(rows, schema=scorer.samples_schema)
        except (pa.ArrowException, UnicodeError, OverflowError, TypeError) as error:
            yield f"{error!r} of {said!r}"

    try:
        yield attempt
    finally:
        scorer.close()
