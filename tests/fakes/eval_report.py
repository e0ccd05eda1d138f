"""A report as ``lrem_os.eval.report.to_dict`` writes it, with everything in it that a page can show."""

from __future__ import annotations

import random
from typing import Any

SCRIPT = "<script>document.title='owned'</script>"
"""What must stay text wherever it comes from."""

MEASURES = ("ndcg@10", "hitrate@10", "violation@10")
TYPES = ("easy", "qa", "alternative", "negative", "knowledge")
TEXTS = ("something to keep soup warm on the train", "red handbag", "gift for a gardener who has everything")
_ROUTES = ("direct", "reasoned")


def estimate(values: list[float]) -> dict[str, Any]:
    """Return a mean with an interval that is as wide as the values vary, roughly."""
    mean = sum(values) / len(values)
    half = 2 * (sum((value - mean) ** 2 for value in values) / len(values) ** 2) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half, "num_queries": len(values)}


def eval_report(
    runs: tuple[str, ...] = ("bm25", "direct", "reasoned", "routed@30%"),
    *,
    num_queries: int = 120,
    baseline: str | None = "direct",
    measures: tuple[str, ...] = MEASURES,
    seed: int = 0,
    hostile: str = "",
) -> dict[str, Any]:
    """Return a report of made-up numbers.

    Args:
        runs: Their names.
        num_queries: How many queries.
        baseline: One of the runs, or none.
        measures: The first leads.
        seed: Other numbers for another one.
        hostile: Put into every text that comes from outside.
    """
    rng = random.Random(seed)
    queries = {
        f"q{idx:03}{hostile}": {
            "text": f"{rng.choice(TEXTS)} {idx}{hostile}",
            "type": TYPES[idx % len(TYPES)] + hostile,
            "frequency": float(1 + idx % 7),
        }
        for idx in range(num_queries)
    }
    names = [name + hostile for name in runs]
    base = baseline + hostile if baseline else None
    values = {name: _values(rng, queries, measures, lift=0.03 * at) for at, name in enumerate(names)}
    return {
        "schema": "lrem-os/eval/1",
        "card": _card(queries, measures, base, hostile),
        "runs": {name: _run(rng, name, values, base, queries, measures, hostile) for name in names},
        "queries": queries,
        "curve": _curve(measures[0]),
        "robustness": _robustness(names, measures[0]),
    }


def _values(rng: random.Random, queries: Any, measures: tuple[str, ...], lift: float) -> dict[str, dict[str, float]]:
    return {
        query_id: {
            measure: round(min(max(rng.choice([0.0, 0.3, 0.5, 1.0]) * 0.8 + lift + rng.gauss(0, 0.1), 0.0), 1.0), 6)
            for measure in measures
        }
        for query_id in queries
    }


def _run(
    rng: random.Random,
    name: str,
    values: dict[str, dict[str, dict[str, float]]],
    base: str | None,
    queries: dict[str, Any],
    measures: tuple[str, ...],
    hostile: str,
) -> dict[str, Any]:
    own = values[name]
    differences = (
        {m: {q: own[q][m] - values[base][q][m] for q in own} for m in measures} if base and base != name else {}
    )
    traces = {
        query_id: {
            "route": rng.choice(_ROUTES),
            "keywords": [f"thermos{hostile}", "insulated flask"],
            "degraded": [],
            "reasoning_tokens": 20,
            "latency_ms": rng.lognormvariate(4, 0.6),
            "reason_ms": 300.0,
            "score": 0.4,
        }
        for query_id in queries
    }
    return {
        "overall": {m: estimate([own[q][m] for q in own]) for m in measures},
        "weighted": {m: estimate([own[q][m] for q in own]) for m in measures},
        "slices": {
            dimension: {part: {m: estimate([own[q][m] for q in ids]) for m in measures} for part, ids in parts.items()}
            for dimension, parts in _parts(queries, traces).items()
        },
        "difference": {m: estimate(list(found.values())) for m, found in differences.items()},
        "comparison": {m: _comparison(list(found.values()), at) for at, (m, found) in enumerate(differences.items())},
        "movers": {m: _movers(found, own, values.get(base or "", {}), m) for m, found in differences.items()},
        "cost": _cost(rng),
        "missing": [],
        "num_extra": 0,
        "depth": 100,
        "per_query": own,
        "traces": traces,
    }


def _parts(queries: dict[str, Any], traces: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    by_type: dict[str, list[str]] = {}
    by_route: dict[str, list[str]] = {}
    for query_id, query in queries.items():
        by_type.setdefault(query["type"], []).append(query_id)
        by_route.setdefault(traces[query_id]["route"], []).append(query_id)
    return {"type": by_type, "route": by_route}


def _comparison(differences: list[float], at: int) -> dict[str, Any]:
    p_value = (0.0004, 0.03, 0.4)[at % 3]
    return {
        "p_value": p_value / 2,
        "p_adjusted": p_value,
        "effect_size": 0.21,
        "wins": sum(value > 0 for value in differences),
        "ties": sum(value == 0 for value in differences),
        "losses": sum(value < 0 for value in differences),
        "minimum_detectable": 0.045,
        "underpowered": p_value > 0.05,
    }


def _movers(found: dict[str, float], own: Any, other: Any, measure: str) -> list[dict[str, Any]]:
    ordered = sorted(found, key=lambda query_id: -found[query_id])
    return [
        {
            "query_id": query_id,
            "value": own[query_id][measure],
            "baseline": other[query_id][measure],
            "difference": found[query_id],
        }
        for query_id in [*ordered[:10], *ordered[-10:]]
    ]


def _cost(rng: random.Random) -> dict[str, Any]:
    p50 = rng.uniform(20, 60)
    times = {"p50": p50, "p95": 3 * p50, "p99": 5 * p50}
    slow = {part: 12 * value for part, value in times.items()}
    return {
        "latency_ms": {**times, "mean": 1.2 * p50},
        "by_route": {
            "direct": {"queries": 84, "share": 0.7, **times},
            "reasoned": {"queries": 36, "share": 0.3, **slow},
        },
        "reasoned_share": 0.3,
        "reasoning_tokens_per_query": 6.1,
        "reason_ms_per_query": 88.0,
        "price_per_1000": {"value": 0.0123, "currency": "EUR", "per_gpu_hour": 1.2},
    }


def _curve(measure: str) -> dict[str, Any]:
    shares = [idx / 20 for idx in range(21)]

    def line(bend: float) -> list[dict[str, float]]:
        means = [0.38 + 0.05 * share + bend * share * (1 - share) for share in shares]
        return [
            {"share": share, "mean": mean, "low": mean - 0.02, "high": mean + 0.02}
            for share, mean in zip(shares, means, strict=True)
        ]

    return {
        "measure": measure,
        "points": {"router": line(0.08), "random": line(0.0), "length": line(0.02), "oracle": line(0.3)},
        "area": {"router": 0.418, "random": 0.405, "length": 0.408, "oracle": 0.455},
        "direct": 0.38,
        "reasoned": 0.43,
    }


def _robustness(names: list[str], measure: str) -> dict[str, Any]:
    def drops(at: float) -> dict[str, Any]:
        return {
            name: {
                "clean": 0.4,
                "perturbed": 0.4 * (1 - at - 0.03 * idx),
                "drop_rate": at + 0.03 * idx,
                "drop_std": 0.01,
                "low": at + 0.03 * idx - 0.04,
                "high": at + 0.03 * idx + 0.04,
            }
            for idx, name in enumerate(names)
        }

    return {
        "measure": measure,
        "seeds": [0, 1, 2, 3, 4],
        "families": {"misspelling": drops(0.1), "word_order": drops(0.01), "dropped_words": drops(0.2)},
        "route_changes": {"misspelling": 0.12, "word_order": 0.03, "dropped_words": 0.2},
        "worst": {
            "misspelling": {
                name: [{"query": f"soup {name}", "asked": f"suop {name}", "clean": 0.9, "perturbed": 0.1}]
                for name in names
            }
        },
        "poisoning": {"injected": 20, "attack_success": {name: {"@10": 0.12, "@1": 0.05} for name in names}},
    }


def _card(queries: dict[str, Any], measures: tuple[str, ...], baseline: str | None, hostile: str) -> dict[str, Any]:
    return {
        "date": "2026-11-21T20:00:00+00:00",
        "version": "0.6.0",
        "commit": "0123abc",
        "config_hash": "89abcdef",
        "num_queries": len(queries) + 2,
        "num_evaluated": len(queries),
        "unjudged": [f"u1{hostile}"],
        "without_relevant": ["w1"],
        "num_extra_judged": 3,
        "measures": list(measures),
        "min_grade": 1,
        "less_is_better": [measure for measure in measures if measure.startswith("violation")],
        "baseline": baseline,
        "interval": {"method": "percentile bootstrap over queries", "confidence": 0.95, "resamples": 1000, "seed": 0},
        "test": {"method": "randomisation", "resamples": 10_000, "seed": 0, "correction": "holm"},
        "checksums": {"queries": "sha256:aa", "qrels": "sha256:bb", f"run old{hostile}": "sha256:cc"},
        "system": {"index": f"products-1{hostile}", "fingerprint": "f" * 16},
        "notes": [f"left out: 1 query (u1{hostile}), not judged"],
    }
