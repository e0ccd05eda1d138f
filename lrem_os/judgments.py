"""Logs and judgments, put together: what ``lrem-os eval`` convert, queries, clicks, judge and pool call.

Like ``lrem_os.api``: every function takes the whole ``Settings`` and hands each part what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrem_os.api import ubi_pages
from lrem_os.config import Settings
from lrem_os.errors import DatasetError, InputError, ModelError
from lrem_os.eval.datasets import Qrels, parse_qrels, parse_queries, read_file, read_queries
from lrem_os.eval.judgments import judge as judging
from lrem_os.eval.judgments.agreement import Agreement, measure_agreement
from lrem_os.eval.judgments.candidates import parse_candidates, read_items, sample_pairs
from lrem_os.eval.judgments.click_log import CLICK, EVENT_FIELDS, QUERY_FIELDS, ClickLog
from lrem_os.eval.judgments.clicks import (
    DEFAULT_THRESHOLDS,
    ClickScore,
    Method,
    check_thresholds,
    grade_score,
    score_clicks,
)
from lrem_os.eval.judgments.judge import AnswerCache, Ask, JudgeReport, Pair
from lrem_os.eval.judgments.pool import PoolRow, build_pool
from lrem_os.eval.logs import EVENTS_INDEX, QUERIES_INDEX, TIME_FIELD, UBI, Pages, parse_window, read_source
from lrem_os.eval.runs import parse_run
from lrem_os.eval.specs import parse_run_specs
from lrem_os.model.openai_client import OpenAIClient, Refused
from lrem_os.types import Query, Ranking

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """The model that judges, behind an OpenAI-compatible server.

    Args:
        url: Up to ``/v1``.
        model: Its name there.
        api_key: Sent as bearer token, if any.
        max_tokens: Most tokens of an answer; a model that thinks first needs many.
        concurrency: Questions on their way at once.
        timeout_s: Until a question is given up, its retries included.
        structured: Whether the answer is held to a JSON schema, for servers that can.
    """

    url: str
    model: str
    api_key: str | None = None
    max_tokens: int = 16
    concurrency: int = 8
    timeout_s: float = 120.0
    structured: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its answers."""
        found = {"model": self.model, "temperature": 0, "max_tokens": self.max_tokens}
        return found | {"structured": True} if self.structured else found


@dataclass(frozen=True, slots=True)
class ClickJudgments:
    """What came of a click log.

    Args:
        scores: Of every pair with enough impressions, and its grade.
        texts: Query id → text, where the log has it.
        counts: Rows, impressions, clicks and what was left out.
        thresholds: From which score on a grade is 1, 2, ….
    """

    scores: tuple[tuple[ClickScore, int], ...]
    texts: dict[str, str]
    counts: dict[str, int]
    thresholds: tuple[float, ...]

    @property
    def qrels(self) -> dict[str, dict[str, int]]:
        """The grades as judgments."""
        found: dict[str, dict[str, int]] = {}
        for score, grade in self.scores:
            found.setdefault(score.query_id, {})[score.doc_id] = grade
        return found


def load_log(settings: Settings, source: str, columns: Mapping[str, str] | None = None) -> tuple[Query, ...]:
    """Return the queries of a file or of ``ubi:…``, each once, with its frequency.

    Raises:
        InputError: A line cannot be used, or the window of time cannot be understood.
        SearchError: OpenSearch could not answer.
    """
    return parse_queries(read_source(source, ubi_pages(settings)), columns)


def judge_clicks(
    settings: Settings,
    sources: Sequence[str],
    *,
    method: Method = "pbm",
    columns: Mapping[str, str] | None = None,
    min_impressions: int = 20,
    thresholds: Sequence[float] | None = None,
    lower_bound: bool = False,
    click_actions: Sequence[str] = CLICK,
    on_progress: Callable[[str], None] = lambda _what: None,
) -> ClickJudgments:
    """Return grades made from clicks.

    Args:
        settings: The configuration; its cluster is asked only for ``ubi:…``.
        sources: Files, or ``ubi:WINDOW`` (``@QUERIES,EVENTS`` names other indices).
        method: See ``lrem_os.eval.judgments.clicks``.
        columns: Names of columns that are none of the usual.
        min_impressions: Pairs that were shown less often get no grade.
        thresholds: From which score on a grade is 1, 2, …; none: the method's.
        lower_bound: Whether the lower end of the interval is graded in place of the score.
        click_actions: Names of the UBI events that are clicks.
        on_progress: Told what is being read.

    Raises:
        InputError: A file, row or threshold cannot be used, or nothing was clicked.
        SearchError: OpenSearch could not answer.
    """
    limits = tuple(DEFAULT_THRESHOLDS[method] if thresholds is None else thresholds)
    check_thresholds(limits)
    with ClickLog(click_actions) as log:
        for source in sources:
            on_progress(source)
            if source.startswith(UBI):
                _read_ubi(log, source, ubi_pages(settings))
            else:
                log.add_file(read_file(source), columns)
        on_progress("summing up")
        counts = log.sum_up()
        texts, seen = log.texts(), dict(log.counts)
    scores = score_clicks(counts, method)
    kept = [score for score in scores if score.impressions >= min_impressions]
    seen |= {"pairs": len(counts.pairs), "no_expected_clicks": len(counts.pairs) - len(scores)}
    seen |= {"too_few_impressions": len(scores) - len(kept), "judged": len(kept)}
    if not kept:
        raise InputError(
            f"no pair was shown {min_impressions} times; the most is {max(score.impressions for score in scores)}",
            hint="take a longer log, or lower --min-impressions and look at the intervals",
        )
    graded = tuple((score, grade_score(score.low if lower_bound else score.score, limits)) for score in kept)
    return ClickJudgments(graded, texts, seen, limits)


def collect_pairs(
    settings: Settings,
    *,
    queries: str,
    candidates: str,
    catalog: str | None,
    depth: int = 10,
    sample: int | None = None,
    seed: int = 0,
) -> tuple[list[Pair], int]:
    """Return the pairs that are put before a judge, and how many were left out: their product has no text.

    Args:
        settings: ``catalog.id`` and ``catalog.embed`` say what a product's text is.
        queries: File of the queries; others among the candidates are left out.
        candidates: TREC run, judging sheet or qrels.
        catalog: JSONL catalog; none: the titles of the sheet.
        depth: Results of a run.
        sample: Draw so many pairs; none: all.
        seed: Of the drawing.

    Raises:
        InputError: A file cannot be used, or no candidate is left.
    """
    asked = {query.query_id: query for query in read_queries(queries)}
    found = parse_candidates(read_file(candidates), depth=depth)
    found = {qid: docs for qid, docs in found.items() if qid in asked}
    if sample is not None:
        found = sample_pairs(found, sample, seed=seed)
    items: Mapping[str, str] = {}
    if catalog is not None:
        wanted = {doc_id for docs in found.values() for doc_id in docs}
        items = read_items(catalog, wanted, id_field=settings.catalog.id, fields=settings.catalog.embed)
    all_pairs = [
        Pair(qid, asked[qid].text, doc_id, items.get(doc_id) or title)
        for qid, docs in found.items()
        for doc_id, title in docs.items()
    ]
    judging.check_pairs(all_pairs)
    pairs = [pair for pair in all_pairs if pair.item]
    if not pairs:
        raise InputError(
            f"none of the {len(all_pairs)} candidates has a text",
            hint="give --catalog with their titles and descriptions",
        )
    return pairs, len(all_pairs) - len(pairs)


def judge_with_model(
    pairs: Sequence[Pair], model: JudgeModel, cache: Path, *, on_progress: Progress = lambda *_: None
) -> JudgeReport:
    """Return a model's grades; asks only what the cache does not know.

    Raises:
        DependencyMissing: The extra ``remote`` is not installed.
        InputError: The cache is damaged, or another run is writing it.
        ModelError: The server failed as a whole; start again to go on.
    """
    client = OpenAIClient(
        model.url,
        api_key=model.api_key,
        timeout_s=model.timeout_s,
        max_concurrency=model.concurrency,
        error=ModelError,
    )
    with AnswerCache(cache, model.identity) as answers:
        return judging.judge_pairs(pairs, _ask_with(client, model), answers, on_progress=on_progress)


def preview_judging(pairs: Sequence[Pair], model: JudgeModel, cache: Path) -> dict[str, Any]:
    """Return what would be asked: counts, estimated tokens, the first question. Nothing is asked or written."""
    if cache.exists():
        with AnswerCache(cache, model.identity) as answers:
            left = judging.count_open(pairs, answers)
    else:
        left = list({pair.prompt: pair for pair in pairs}.values())
    tokens = judging.estimate_tokens(left, max_tokens=model.max_tokens)
    counts = {"pairs": len(pairs), "queries": len({pair.query_id for pair in pairs}), "to_ask": len(left)}
    first = {"system": judging.SYSTEM, "user": left[0].prompt} if left else None
    return counts | {"prompt": judging.PROMPT_VERSION} | tokens | {"first_question": first}


def read_human(path: str, pairs: Sequence[Pair]) -> Qrels:
    """Return people's judgments, to be compared with a judge's of these pairs.

    Raises:
        InputError: The file cannot be used, or none of the pairs is judged in it.
    """
    asked = {pair.query_id: Query(pair.query_id, pair.query) for pair in pairs}
    human = parse_qrels(read_file(path), list(asked.values()))
    if not any(pair.doc_id in human.get(pair.query_id, {}) for pair in pairs):
        raise DatasetError(
            f"none of the {len(pairs)} pairs that are put before the judge is in it",
            path=path,
            hint="check that queries and products have the same ids, or leave --human out",
        )
    return human


def compare_judges(human: Qrels, grades: Qrels, *, min_grade: int = 1) -> Agreement:
    """Return how far a person's judgments and another judge's agree. Raises ``InputError``: no pair is in both."""
    return measure_agreement(human, grades, min_grade=min_grade)


def pool_runs(
    settings: Settings,
    runs: Sequence[str],
    *,
    queries: str,
    depth: int = 20,
    judged: str | None = None,
    catalog: str | None = None,
) -> list[PoolRow]:
    """Return what the first ``depth`` results of TREC runs hold that nobody has judged.

    Raises:
        InputError: A file cannot be used, or a run is none of a file.
    """
    specs = parse_run_specs(runs)
    for spec in specs:
        if not spec.path:
            raise InputError(
                f"{spec.name!r} is no run file", hint="`lrem-os eval --save-runs DIR` writes one of every run it asks"
            )
    asked = read_queries(queries)
    found: dict[str, Mapping[str, Ranking]] = {spec.name: parse_run(read_file(spec.path)) for spec in specs}
    known = None if judged is None else parse_qrels(read_file(judged), asked)
    titles: dict[str, str] = {}
    if catalog is not None:
        wanted = {hit.doc_id for run in found.values() for ranking in run.values() for hit in ranking.hits[:depth]}
        titles = read_items(catalog, wanted, id_field=settings.catalog.id, fields=(settings.catalog.title,))
    return build_pool(found, asked, depth=depth, judged=known, titles=titles)


def _read_ubi(log: ClickLog, source: str, pages: Pages) -> None:
    window = parse_window(source)
    queries_index, _, events_index = window.index.partition(",")
    found = pages(queries_index or QUERIES_INDEX, window.query(), QUERY_FIELDS, TIME_FIELD)
    for page in found:
        log.add_searches(page)
    log.add_events(pages(events_index or EVENTS_INDEX, window.query(), EVENT_FIELDS, TIME_FIELD), source)


def _ask_with(client: OpenAIClient, model: JudgeModel) -> Ask:
    options: dict[str, Any] = {"response_format": judging.ANSWER_SCHEMA} if model.structured else {}

    def ask(prompts: Sequence[str], answered: Callable[[str, str], None]) -> Mapping[str, str]:
        async def one(api: Any, texts: Sequence[str]) -> Sequence[str]:
            messages = [{"role": "system", "content": judging.SYSTEM}, {"role": "user", "content": texts[0]}]
            completion = await api.chat.completions.create(
                model=model.model, messages=messages, temperature=0, max_tokens=model.max_tokens, **options
            )
            if not completion.choices or completion.choices[0].message is None:
                raise ValueError("it holds no message")
            text = str(completion.choices[0].message.content or "")
            answered(texts[0], text)  # on the loop's thread: one at a time
            return [text]

        answers = client.ask_all(one, prompts, 1)
        return {
            prompt: str(answer) for prompt, answer in zip(prompts, answers, strict=True) if isinstance(answer, Refused)
        }

    return ask
