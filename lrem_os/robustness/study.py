"""A robustness study from files to a report: perturbed queries, and products injected into a copy of the index.

What is tried and how it is counted is in ``lrem_os.eval.robustness``; here it meets models and cluster.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lrem_os.api import ubi_pages
from lrem_os.config import LoadedSettings, Settings
from lrem_os.errors import InputError, RunError
from lrem_os.eval.datasets import DataFile, Qrels, parse_qrels, parse_queries, read_file
from lrem_os.eval.evaluate import evaluate_runs
from lrem_os.eval.files import commit_here
from lrem_os.eval.logs import read_source
from lrem_os.eval.measures import parse_measure
from lrem_os.eval.redact import redact
from lrem_os.eval.result import EvalResult
from lrem_os.eval.robustness.drop import CUTOFFS
from lrem_os.eval.robustness.paraphrase import Ask, Paraphrases, build_prompt
from lrem_os.eval.robustness.perturb import (
    DROPPED,
    FAMILIES,
    MISSPELLING,
    ORDER,
    SEEDS,
    Way,
    perturb_queries,
    synonym_ways,
)
from lrem_os.eval.robustness.study import Kept, Plan, Progress, WaysFor, run_study, study_dict
from lrem_os.eval.robustness.words import read_synonyms
from lrem_os.eval.selection import select_queries
from lrem_os.eval.specs import RunSpec, parse_run_specs
from lrem_os.lines import claimed_folder
from lrem_os.query_plugin.served import ServedRuns
from lrem_os.robustness.attack import attack_runs
from lrem_os.robustness.paraphraser import Paraphraser
from lrem_os.types import Embedder, Query

DEFAULT_FAMILIES = ("misspelling", "order", "dropped")
DEFAULT_MEASURE = "ndcg@10"
MAX_POISON = 10_000

TO_ASK = "to ask"
"""In place of a way: the paraphrase is not kept yet."""


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """What is tried.

    Args:
        families: Of ``perturb.FAMILIES``; none: no query is perturbed.
        seeds: Of the perturbations; the first also of the injected products.
        measure: Whose loss is reported.
        min_grade: From which grade on a product is relevant.
        synonyms: Solr file or WordNet folder, for ``synonyms``.
        paraphraser: For ``paraphrase``.
        poison: Products to inject into a copy of the index; 0: none.
        limit: Take the first queries only, so many.
        work: Folder for answers and paraphrases; none: nothing is kept.
        fresh: Ask for all answers again.
        redact: Leave query texts, keywords and ids out of the result.
    """

    families: tuple[str, ...] = DEFAULT_FAMILIES
    seeds: tuple[int, ...] = SEEDS
    measure: str = DEFAULT_MEASURE
    min_grade: int = 1
    synonyms: Path | None = None
    paraphraser: Paraphraser | None = None
    poison: int = 0
    limit: int | None = None
    work: Path | None = Path("lrem-os-robustness")
    fresh: bool = False
    redact: bool = False


def study_robustness(
    settings: Settings,
    *,
    runs: Sequence[str],
    queries: str | Path,
    qrels: str | Path,
    options: StudyOptions | None = None,
    embedder: Embedder | None = None,
    on_progress: Progress | None = None,
) -> EvalResult:
    """Return the runs on the queries as they are, with what perturbed queries and injected products do to them.

    The index that is served is only read: products are injected into a copy, which is deleted at the end.

    Args:
        settings: The configuration.
        runs: As ``api.evaluate`` takes them, without files: those cannot be asked.
        queries: File with ids, texts and types.
        qrels: File with judgments.
        options: What is tried.
        embedder: Used in place of the configured model.
        on_progress: Told run, queries answered, queries in all.

    Raises:
        InputError: An option, a file or a run cannot be used; found before anything is asked.
        ModelError: A model failed.
        SearchError: OpenSearch failed.
    """
    options = options or StudyOptions()
    specs = {spec.name: spec for spec in _askable(parse_run_specs(runs, settings.eval.runs))}
    _check(options, specs)
    config_hash = LoadedSettings(settings, {}, None).settings_hash
    files = {"queries": read_source(queries, ubi_pages(settings)), "qrels": read_file(qrels)}
    asked, judged, counted = _read(files, options)
    plan = _plan(settings, options)
    settings = _deep_enough(settings, plan, options)
    kept_reasonings = None if options.work is None else options.work / "reasonings.jsonl"
    serve = partial(ServedRuns, embedder=embedder, kept=kept_reasonings, on_progress=on_progress)
    served = serve(settings)
    for spec in specs.values():
        served.check(spec)
    kept = Kept(options.work, lambda name: served.key(specs[name], counted), options.fresh)
    with nullcontext() if options.work is None else claimed_folder(options.work, hint="choose another --work"):
        study = run_study(
            tuple(specs),
            counted,
            judged,
            plan,
            open_retriever=lambda name: served.open(specs[name], counted),
            kept=kept,
            on_progress=on_progress,
        )
        found = study_dict(study, redact=options.redact)
        if options.poison:
            found["poisoning"], found["notes"] = attack_runs(
                settings,
                specs,
                counted,
                count=options.poison,
                seed=options.seeds[0],
                kept=kept,
                serve=serve,
                embedder=embedder,
                on_progress=on_progress,
            )
    result = evaluate_runs(
        study.clean,
        asked,
        judged,
        [plan.measure],
        settings=settings.eval,
        min_grade=options.min_grade,
        checksums={what: f"sha256:{file.sha256}" for what, file in files.items()},
        system=served.system(tuple(specs.values())),
        config_hash=config_hash,
        commit=commit_here(),
    )
    return replace(redact(result) if options.redact else result, robustness=found)


def _deep_enough(settings: Settings, plan: Plan, options: StudyOptions) -> Settings:
    """Return the configuration with the depth that the measure and the attack look at."""
    depth = max([plan.measure.cutoff, *(CUTOFFS if options.poison else ())])
    return settings.model_copy(update={"eval": settings.eval.model_copy(update={"top_k": depth})})


def preview_study(
    settings: Settings,
    *,
    runs: Sequence[str],
    queries: str | Path,
    qrels: str | Path,
    options: StudyOptions | None = None,
) -> dict[str, Any]:
    """Return what ``study_robustness`` would ask, without models, and without a cluster unless the queries are.

    ``searches`` counts what is sent, ``paraphrases_to_ask`` the paraphrases that are not kept yet; ``queries`` has
    every variant: ``family``, ``seed``, ``query_id``, ``query``, ``asked``, ``way``. That is empty where the query
    stays as it is, and ``TO_ASK`` where its paraphrase is not kept yet.

    Raises:
        InputError: An option, a file or a run cannot be used.
    """
    options = options or StudyOptions()
    specs = {spec.name: spec for spec in _askable(parse_run_specs(runs, settings.eval.runs))}
    _check(options, specs)
    *_, counted = _read({"queries": read_source(queries, ubi_pages(settings)), "qrels": read_file(qrels)}, options)
    to_ask: set[tuple[str, int]] = set()

    def ask_nobody(prompts: Sequence[str], seed: int) -> list[None]:
        to_ask.update((prompt, seed) for prompt in prompts)
        return [None] * len(prompts)

    plan = _plan(settings, options, ask_nobody)
    rows = []
    for family, ways_for in plan.families.items():
        for seed in plan.seeds:
            variants, ways = perturb_queries(counted, ways_for(counted, seed), family=family, seed=seed)
            rows += [
                {
                    "family": family,
                    "seed": seed,
                    "query_id": query.query_id,
                    "query": query.text,
                    "asked": variant.text,
                    "way": ways.get(query.query_id, TO_ASK if _is_open(family, query, seed, to_ask) else ""),
                }
                for query, variant in zip(counted, variants, strict=True)
            ]
    attacked = sum(spec.is_local for spec in specs.values()) if options.poison else 0
    searches = len(specs) * (len(counted) + len(rows)) + attacked * len(counted)
    return {
        "runs": list(specs),
        "searches": searches,
        "injected": options.poison,
        "paraphrases_to_ask": len(to_ask),
        "queries": rows,
    }


def _is_open(family: str, query: Query, seed: int, to_ask: Container[tuple[str, int]]) -> bool:
    return family == "paraphrase" and (build_prompt(query.text), seed) in to_ask


def _read(files: Mapping[str, DataFile], options: StudyOptions) -> tuple[Sequence[Query], Qrels, tuple[Query, ...]]:
    """Return the queries, their judgments, and the queries that count."""
    every = parse_queries(files["queries"])
    judged = parse_qrels(files["qrels"], every)
    asked = every[: options.limit]
    cut = {query.query_id for query in every[len(asked) :]}
    of_these = {query_id: grades for query_id, grades in judged.items() if query_id not in cut}
    return asked, of_these, select_queries(asked, of_these, options.min_grade).counted


def _plan(settings: Settings, options: StudyOptions, ask: Ask | None = None) -> Plan:
    return Plan(
        _families(options, ask),
        parse_measure(options.measure),
        options.seeds,
        options.min_grade,
        settings.eval.bootstrap,
        settings.eval.seed,
    )


def _askable(specs: Sequence[RunSpec]) -> Sequence[RunSpec]:
    for spec in specs:
        if spec.path:
            raise RunError(
                f"run {spec.name!r} is a file: it cannot be asked anything new",
                hint="name a mode, direct, reasoned, routed@30%, or NAME=http://… for a service",
            )
    return specs


def _check(options: StudyOptions, specs: Mapping[str, RunSpec]) -> None:
    if not options.families and not options.poison:
        raise InputError("nothing is to be tried", hint="name --families, or --poison 50")
    if not options.seeds or len(set(options.seeds)) < len(options.seeds):
        raise InputError(f"the seeds are {list(options.seeds)}: want one or more, each once")
    if not 0 <= options.poison <= MAX_POISON:
        raise InputError(f"{options.poison} products to inject: want 0 to {MAX_POISON}")
    if options.poison and not any(spec.is_local for spec in specs.values()):
        raise InputError(
            "every run is a service, which searches its own index, and products are injected into a copy only",
            hint="add a run that is retrieved from here, or leave --poison out",
        )


def _families(options: StudyOptions, ask: Ask | None) -> dict[str, WaysFor]:
    """Return the ways of the families that are asked for; paraphrases from ``ask``, else from the configured model.

    Raises:
        InputError: A family lacks what it needs.
    """
    found: dict[str, WaysFor] = {}
    for name in dict.fromkeys(options.families):
        if name not in FAMILIES:
            near = difflib.get_close_matches(name, FAMILIES, n=1)
            raise InputError(
                f"no family is called {name!r}{f': do you mean {near[0]!r}?' if near else ''}",
                hint=f"there are {', '.join(FAMILIES)}",
            )
        found[name] = _ways(name, options, ask)
    return found


def _ways(name: str, options: StudyOptions, ask: Ask | None) -> WaysFor:
    if name == "synonyms":
        if options.synonyms is None:
            raise InputError(
                "synonyms come from you: no file or folder was given",
                hint="--synonyms FILE, in the Solr format of OpenSearch's synonym filter, or a WordNet folder",
            )
        ways = synonym_ways(read_synonyms(options.synonyms))
        return lambda _queries, _seed: ways
    if name == "paraphrase":
        return _paraphrase_ways(options, ask)
    fixed = {"misspelling": MISSPELLING, "order": ORDER, "dropped": DROPPED}[name]
    return lambda _queries, _seed: fixed


def _paraphrase_ways(options: StudyOptions, ask: Ask | None) -> WaysFor:
    asked = options.paraphraser
    if asked is None:
        raise InputError("a language model writes the paraphrases: none was given", hint="--paraphrase-url and -model")
    identity = {"model": asked.model, "temperature": asked.temperature}
    path = None if options.work is None else options.work / "paraphrases.jsonl"
    paraphrases = Paraphrases(ask or asked.ask(), identity, path)

    def ways(queries: Sequence[Query], seed: int) -> Mapping[str, Way]:
        found = paraphrases.of([query.text for query in queries], seed)
        return {"paraphrase": lambda text, _dice: found.get(text)}

    return ways
