"""Two tests of the router, trained on what is not scored: `python -m benchmarks.router --help`; results/router.json.

(a) The log: judged queries and head queries, weighted so that one in five is hard. (b) Where length misleads: long
queries that plain search answers, short ones that it does not. Gains are those of mode hybrid, by nDCG@10, with the
product's models, fusion and keywords; retrieval is exact and in this process (``exact.py``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson

from benchmarks.embedder.__main__ import default_catalog
from benchmarks.machine import write_result
from benchmarks.router import policies, work
from benchmarks.router.data import Asked, read_asked, read_catalog
from benchmarks.router.exact import ExactIndex
from lrem_os.config import Settings, load_settings
from lrem_os.model.load import Models
from lrem_os.query_plugin.routing.features import AFTER, BEFORE, NEEDS_CATALOG, Landmarks
from lrem_os.query_plugin.routing.gate import Gate, parse_gate
from lrem_os.query_plugin.routing.labels import Label, label_features, read_labels
from lrem_os.query_plugin.routing.router import build_router
from lrem_os.routing import fit_gate
from lrem_os.train.router import GateOptions, Labelled, fit_stage

PACKAGES = ("lrem-os", "scikit-learn", "torch", "transformers", "peft", "numpy", "snowballstemmer")
HARD_SHARE = 0.2

Floats = policies.Floats


def work_out(settings: Settings, root: Path, folder: Path, *, heads: bool) -> tuple[list[Asked], list[Label]]:
    """Return the queries with their labels; what the folder holds is not worked out again."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_catalog(root / "retail" / "catalog.jsonl.gz")
    asked = read_asked(root, rows, heads=heads)
    path = folder / "labels.jsonl"
    known = {one.query: one for one in read_labels(path)} if path.exists() else {}
    left = [one for one in asked if one.text not in known]
    if left:
        models = Models(settings.model, settings.reasoning)
        reasonings = work.reason([one.text for one in left], models, folder / "reasonings.jsonl", click.echo)
        direct, reasoned = work.embed(reasonings, models.embedder, settings, folder / "queries.npz", click.echo)
        items = work.embed_items(rows, models.embedder, settings, folder / "items.npy")
        index = ExactIndex(rows, items, settings.catalog.text)
        found = work.label(left, index, settings, reasonings, direct, reasoned)
        with path.open("ab") as file:
            file.writelines(one.line() for one in found)
        known |= {one.query: one for one in found}
    return asked, [known[one.text] for one in asked]


def samples_of(folder: Path, asked: Sequence[Asked]) -> dict[str, dict[str, int]]:
    """Return per part how many queries had how many samples of reasoning."""
    rows = [orjson.loads(line) for line in (folder / "reasonings.jsonl").read_bytes().split(b"\n") if line]
    samples = {row["query"]: str(len(row["samples"])) for row in rows}
    return {
        part: dict(Counter(samples[one.text] for one in asked if one.part == part))
        for part in ("train", "log", "misleading")
    }


def score_by(names: Sequence[str], train: Sequence[Label], test: Sequence[Label], options: GateOptions) -> Floats:
    """Return the scores of a gate that has only these features."""
    rows = [Labelled(one.query, one.type, one.gain, label_features(one, Landmarks())) for one in train]
    row = fit_stage(rows, names, options).row
    document = {"format": 1, "features_version": 1, "stages": {"before": row, "after": row}}
    if not set(names) <= set(BEFORE):
        document["stages"] = {"before": row | {"features": []} | _NOTHING, "after": row}
    return predict(parse_gate(orjson.dumps(document), "a gate of the benchmark"), test)


_NOTHING: dict[str, Any] = {name: [] for name in ("means", "scales", "weights", "gain_weights")} | {
    "covariance": [[1.0]]
}


def predict(gate: Gate, labels: Sequence[Label]) -> Floats:
    stage = gate.stage(with_signals=True)
    return np.array([stage.predict(label_features(label, gate.landmarks)).score for label in labels])


def all_scores(gate: Gate, train: Sequence[Label], test: Sequence[Label], options: GateOptions) -> dict[str, Floats]:
    """Return per way of choosing the score of each query."""
    before = [name for name in BEFORE if name not in NEEDS_CATALOG]
    return {
        "router": predict(gate, test),
        "before retrieval only": score_by(before, train, test, options),
        "after retrieval only": score_by(AFTER, train, test, options),
        "query length": np.array([float(len(one.query.split())) for one in test]),
        "random": np.zeros(len(test)),  # all alike: each is reasoned about in part
        "oracle": np.array([one.gain for one in test]),
    }


def test_log(
    asked: Sequence[Asked], labels: Sequence[Label], scores: Mapping[str, Floats], gate: Gate, options: GateOptions
) -> dict[str, Any]:
    """Return the tables of test (a)."""
    gains, direct = np.array([one.gain for one in labels]), np.array([one.direct for one in labels])
    hard = np.array([one.hard for one in asked])
    log = policies.make_log(gains, direct, hard, HARD_SHARE)
    helped, decided = gains > options.min_gain, np.abs(gains) > options.min_gain
    return {
        "queries": _counts(asked),
        "hard_share": HARD_SHARE,
        "direct": {"hard": _mean(direct[hard]), "easy_and_head": _mean(direct[~hard])},
        "reasoned": {"hard": _mean((direct + gains)[hard]), "easy_and_head": _mean((direct + gains)[~hard])},
        "always": policies.outcome(log, np.ones(len(gains))),
        "budgets": {name: policies.curve(log, one) for name, one in scores.items()},
        "auc_helped": {name: policies.auc(one, helped) for name, one in scores.items()},
        "auc_sign_of_gain": {name: policies.auc(one[decided], helped[decided]) for name, one in scores.items()},
        "auc_hard": {name: policies.auc(one, hard) for name, one in scores.items()},
        "reliability": policies.reliability(scores["router"], helped, log.weights),
        "stream": {f"{share:.0%}": policies.stream(log, _decider(gate, labels, share)) for share in (0.1, 0.2, 0.3)},
    }


def test_misleading(
    asked: Sequence[Asked], labels: Sequence[Label], scores: Mapping[str, Floats], options: GateOptions
) -> dict[str, Any]:
    """Return the tables of test (b)."""
    gains, direct = np.array([one.gain for one in labels]), np.array([one.direct for one in labels])
    hard, helped = np.array([one.hard for one in asked]), gains > options.min_gain
    decided = np.abs(gains) > options.min_gain
    return {
        "queries": _counts(asked),
        "direct": {"short-hard": _mean(direct[hard]), "long-easy": _mean(direct[~hard])},
        "reasoned": {"short-hard": _mean((direct + gains)[hard]), "long-easy": _mean((direct + gains)[~hard])},
        "auc_needed": {name: policies.auc(one, hard) for name, one in scores.items()},
        "auc_helped": {name: policies.auc(one, helped) for name, one in scores.items()},
        "auc_sign_of_gain": {name: policies.auc(one[decided], helped[decided]) for name, one in scores.items()},
    }


def _decider(gate: Gate, labels: Sequence[Label], share: float) -> Callable[[int], dict[str, float]]:
    """Return the product's router with its budget, fed with the queries' kept vectors and signals."""
    settings = load_settings(overrides=[f"route.share={share}"]).settings
    router = build_router(settings.route, gate=gate)

    def decide(row: int) -> dict[str, float]:
        one = labels[row]
        decision = router.decide(one.query, one.vector, one.signals)
        return {"reasoned": float(decision.reasoned), "threshold": decision.threshold}

    return decide


def decision_time_ms(gate: Gate, labels: Sequence[Label]) -> dict[str, float]:
    """Return how long a decision takes, features included, embedding and probe not."""
    router = build_router(load_settings().settings.route, gate=gate)
    took = []
    for one in labels:
        started = time.perf_counter()
        router.decide(one.query, one.vector, one.signals)
        took.append((time.perf_counter() - started) * 1000)
    return {f"p{at}": round(float(np.percentile(took, at)), 4) for at in (50, 95, 99)}


def _counts(asked: Sequence[Asked]) -> dict[str, int]:
    kinds = [one.type for one in asked]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _mean(values: Floats) -> float:
    return round(float(values.mean()), 4)


def show(payload: Mapping[str, Any]) -> None:
    log, misleading = payload["log"], payload["misleading"]
    click.echo(
        f"\n(a) the log {log['queries']}, {HARD_SHARE:.0%} hard; always reasoning gains {log['always']['gain']:+.4f}"
    )
    for what in ("share_of_gain", "loss_avoided", "easy_and_head_change"):
        click.echo(f"\n{what:24} " + " ".join(f"{budget:>21}" for budget in log["budgets"]["router"]))
        for name, budgets in log["budgets"].items():
            cells = (f"{one[what][0]:.3f} [{one[what][1]:.2f},{one[what][2]:.2f}]" for one in budgets.values())
            click.echo(f"{name:24} " + " ".join(f"{cell:>21}" for cell in cells))
    for part, table in (("a", log), ("b", misleading)):
        click.echo(f"\n({part}) {table['queries']}")
        for what in ("auc_needed", "auc_hard", "auc_helped", "auc_sign_of_gain"):
            told = (f"{name} {one[0]:.3f} [{one[1]:.2f},{one[2]:.2f}]" for name, one in table.get(what, {}).items())
            if what in table:
                click.echo(f"{what:18} {'; '.join(told)}")
    click.echo(f"\nreliability {log['reliability']}\nstream {log['stream']}\ndecision {payload['decision_ms']} ms")


@click.command(context_settings={"show_default": True})
@click.option(
    "--work", "folder", default="runs/router", help="Folder for reasonings and vectors, kept for the next run."
)
@click.option("--heads/--no-heads", default=True, help="Head queries from the catalog, in training and in the log.")
@click.option("--gate", "gate_path", default=None, help="Write the gate here, too.")
@click.option("-c", "--config", "config_path", default=None)
@click.option("--set", "overrides", multiple=True)
def main(folder: str, heads: bool, gate_path: str | None, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Measure how well the router chooses what to reason about."""
    settings = load_settings(config_path, ["reasoning.timeout_s=3000", *overrides]).settings
    asked, labels = work_out(settings, default_catalog().parents[1], Path(folder), heads=heads)
    by_part = {
        part: [at for at, one in enumerate(asked) if one.part == part] for part in ("train", "log", "misleading")
    }
    parts = {part: [labels[at] for at in rows] for part, rows in by_part.items()}
    options = GateOptions(hard_share=HARD_SHARE)
    document = fit_gate(parts["train"], options, num_landmarks=0)
    near = fit_gate(parts["train"], options, num_landmarks=32)
    gate = parse_gate(orjson.dumps(document), "the gate of the benchmark")
    if gate_path:
        Path(gate_path).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    scores = {part: all_scores(gate, parts["train"], parts[part], options) for part in ("log", "misleading")}
    for part, found in scores.items():
        found["router with distance"] = predict(parse_gate(orjson.dumps(near), "near"), parts[part])
    chosen = {part: [asked[at] for at in by_part[part]] for part in by_part}
    payload = {
        "model": settings.model.name,
        "samples": samples_of(Path(folder), asked),
        "train": _counts(chosen["train"])
        | {"held_out": document["card"]["held_out"], "held_out_with_distance": near["card"]["held_out"]},
        "log": test_log(chosen["log"], parts["log"], scores["log"], gate, options),
        "misleading": test_misleading(chosen["misleading"], parts["misleading"], scores["misleading"], options),
        "decision_ms": decision_time_ms(gate, parts["log"]),
    }
    show(payload)
    click.echo(write_result("router", payload, PACKAGES))


if __name__ == "__main__":
    main()
