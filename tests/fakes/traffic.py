"""A day in the life of a shop's search: made up from a seed, written as the service writes it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

from lrem_os.ingest.recording import RECORDS, ingest_documents
from lrem_os.ingest.report import IngestReport
from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.routing.router import Decision
from lrem_os.query_plugin.service.ubi_records import EVENTS, QUERIES, Found, event_record, query_record, request_text
from lrem_os.types import Reasoning

DAY = datetime(2026, 1, 5, tzinfo=UTC)
BUDGET = 0.3
EASY = ("red sofa", "usb-c cable 2m", "coffee grinder", "nike running shoes", "desk lamp")
HARD = {
    "what do I put under a hot pot": ("trivet", "pot holder"),
    "sofa without arms": ("armless sofa", "slipper chair"),
    "something like airpods but cheaper": ("true wireless earbuds",),
    "what keeps soup warm on the train?": ("thermos", "insulated flask"),
}
NOTHING = ("qwertz uiop", "left handed spoon oil")
FAULTS = ("reasoner_timeout", "reasoner_failed", "overloaded", "probe_timeout")


def day(seed: int = 0, *, num_searches: int = 600) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield index, id and document of every record of ``DAY``, in the order they come.

    Most searches are easy and go direct; hard ones are reasoned about while the budget lasts; some are from the cache,
    some find the reasoner down; every fifth ends with a click on one of the first products.
    """
    rng = random.Random(seed)
    for number in range(num_searches):
        when = DAY + timedelta(seconds=86_400 * (number + rng.random()) / num_searches)
        search = f"s{seed}-{number}"
        reading = _reading(rng)
        found = _found(rng, reading)
        record = query_record(
            [reading],
            rng.lognormvariate(3.2, 0.4) + sum(reading.timings_ms.values()),
            {"client_id": f"c{rng.randrange(80)}", "application": rng.choice(("web", "app"))},
            query_id=search,
            response_id=f"r{seed}-{number}",
            user_query=reading.text,
            found=found,
            budget=BUDGET,
            timestamp=_stamp(when),
        )
        yield QUERIES, search, record
        shown = found.ids[:3]
        for place, shown_id in enumerate(shown, 1):
            clicked = place == 1 and number % 5 == 0
            for action in ("impression", "click") if clicked else ("impression",):
                attributes = {"object": {"object_id": shown_id}, "position": {"ordinal": place}}
                event = {"action_name": action, "query_id": search, "event_attributes": attributes}
                stamp = _stamp(when + timedelta(seconds=1 + place))
                yield EVENTS, f"{search}-{place}-{action}", event_record(event, record["lrem"], timestamp=stamp)


def nights(seed: int = 0) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield index, id and document of the accounts of two catalogs' ingests, the three nights before ``DAY``."""
    rng = random.Random(seed)
    for night, alias in product(range(3, 0, -1), ("shop", "outlet")):
        failures = {"no_title": rng.randint(1, 5), "bad_price": rng.randint(1, 9)}
        num_failed, size = sum(failures.values()), 20_000 if alias == "shop" else 3_000
        report = IngestReport(
            alias=alias,
            index=f"{alias}-v{4 - night}",
            read=size,
            indexed=size // 10 - num_failed,
            unchanged=size - size // 10,
            superseded=0,
            failed=num_failed,
            deleted=rng.randrange(50),
            failures=failures,
            dead_letters="shop.dead.jsonl",
            notes=(),
            num_notes=0,
            seconds=size / rng.uniform(800, 1200),
            embed_s=size / 2000,
            embed_wait_s=1.5,
            send_wait_s=rng.uniform(0, 3),
            published=True,
            previous=None,
            dry_run=False,
        )
        meta = {"fingerprint": f"{night:016x}", "identity": {"model": "lrem:small"}}
        when = DAY - timedelta(days=night, hours=-3)
        rows = ingest_documents(report, meta, documents=size - num_failed, vectors=size - num_failed, when=when)
        yield from ((RECORDS, f"{alias}-{night}-{at}", row) for at, row in enumerate(rows))


def bulk_lines(rows: Iterator[tuple[str, str, dict[str, Any]]]) -> str:
    """Return the body of a bulk request that writes records as the service does: those that are there stay."""
    return "".join(
        f"{json.dumps({'create': {'_index': index, '_id': record_id}})}\n"
        f"{json.dumps({name: value for name, value in row.items() if value is not None})}\n"
        for index, record_id, row in rows
    )


def _reading(rng: random.Random) -> Reading:
    if rng.random() < 0.03:
        return Reading(rng.choice(NOTHING), "bm25", None, degraded=("embedder_timeout",), timings_ms={"embed": 1000.0})
    is_hard = rng.random() < 0.35
    text = rng.choice(list(HARD)) if is_hard else rng.choice(EASY)
    score = min(1.0, max(0.0, rng.gauss(0.75 if is_hard else 0.2, 0.1)))
    is_wanted = score >= 0.5
    decision = Decision(
        is_wanted,
        score,
        0.5,
        "above_threshold" if is_wanted else "below_threshold",
        gain=0.1 if is_wanted else math.nan,
    )
    timings = {"embed": rng.uniform(2, 6), "route": rng.uniform(1, 4)}
    if rng.random() < 0.25:  # from the cache
        keywords = HARD.get(text, ()) if is_wanted else ()
        return Reading(text, "reasoned" if keywords else "direct", (1.0,), keywords, decision=decision, cached=True)
    if not is_wanted or text not in HARD:
        return Reading(text, "direct", (1.0,), decision=decision, timings_ms=timings)
    if rng.random() < 0.1:
        fault = (rng.choice(FAULTS),)
        return Reading(
            text, "direct", (1.0,), degraded=fault, decision=decision, timings_ms=timings | {"reason": 150.0}
        )
    keywords = HARD[text]
    samples = tuple(Reasoning(keywords, ", ".join(keywords), num_tokens=rng.randint(6, 24)) for _ in range(3))
    timings |= {"reason": rng.uniform(60, 140), "queue": rng.uniform(0, 20)}
    return Reading(text, "reasoned", (1.0,), keywords, samples, decision=decision, timings_ms=timings)


def _found(rng: random.Random, reading: Reading) -> Found:
    body = json.dumps({"query": {"neural": {"lrem_vector": {"query_text": reading.text, "k": 100}}}}).encode()
    request = request_text("POST", "/products/_search", "", body)
    if reading.text in NOTHING or rng.random() < 0.02:
        return Found(0, (), 2.0, request)
    ids = tuple(f"p{rng.randrange(400)}" for _ in range(10))
    return Found(rng.randint(10, 300), ids, rng.uniform(4, 20), request)


def _stamp(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds")
