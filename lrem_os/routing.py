"""Routing from end to end: explain a decision, learn a gate, reason ahead of time. What the command line calls.

Every function takes the whole ``Settings``; what OpenSearch is asked here is what it is asked when queries are served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.errors import DatasetError, TrainingError
from lrem_os.eval.measures import measure_queries, parse_measure
from lrem_os.ingest.sources import expand_sources, read_rows
from lrem_os.lines import cut_torn_line
from lrem_os.model.load import Models
from lrem_os.model.reasoning import combine_keywords
from lrem_os.query_plugin.retriever import DirectRetriever
from lrem_os.query_plugin.routing import gate as gates
from lrem_os.query_plugin.routing.features import AFTER, BEFORE, FEATURES_VERSION, NEEDS_CATALOG, Landmarks, Lexicon
from lrem_os.query_plugin.routing.features import build_lexicon as lexicon_of
from lrem_os.query_plugin.routing.labels import Label, label_features, read_labels
from lrem_os.query_plugin.routing.precomputed import precomputed_line, read_precomputed, reading_fingerprint
from lrem_os.query_plugin.routing.probe import ask_probe
from lrem_os.query_plugin.routing.router import Decision, build_router
from lrem_os.search.requests import as_sent
from lrem_os.text import normalise_query
from lrem_os.train.data import TrainingQuery, chunks, read_training_queries
from lrem_os.train.router import GateOptions, Labelled, fit_stage, landmark_vectors
from lrem_os.types import Query, ReasoningEmbedder

MEASURE = "ndcg@10"
"""What a gain is measured in."""

_BATCH = 16
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and what led to it.

    Args:
        decision: As the service would decide about this query, were it its first one.
        contributions: What each feature adds to the logit of the score, the greatest first.
        with_signals: Whether direct retrieval was asked.
    """

    decision: Decision
    contributions: Mapping[str, float] = field(default_factory=dict)
    with_signals: bool = False


def explain_route(settings: Settings, text: str, *, offline: bool = False) -> Explanation:
    """Return the decision about one query; the reasoner is not loaded for it.

    Args:
        settings: The configuration.
        text: What the shopper typed.
        offline: Decide as if the probe had failed, without OpenSearch.

    Raises:
        CheckpointError: The gate cannot be used.
        ModelError: The embedder cannot be loaded or run.
        SearchError: OpenSearch failed.
    """
    router = build_router(settings.route)
    ruled = router.rule(text)
    if ruled is not None:
        return Explanation(ruled)
    embedder = Models(settings.model, settings.reasoning).embedder
    asks = router.needs_signals and not offline
    retriever = api.open_retriever(settings, "vector", with_source=False, embedder=embedder) if asks else None
    vectors = embedder.embed_queries([text])
    signals = ask_probe(retriever.client, retriever.index, retriever.setup, [text], vectors)[0] if retriever else None
    contributions = router.explain(text, vectors[0], signals)
    return Explanation(router.decide(text, vectors[0], signals), contributions, asks)


def precompute(settings: Settings, queries: str | Path, out: str | Path, *, on_progress: Progress) -> dict[str, int]:
    """Reason about queries ahead of time; return how many were written and how many were there already.

    A file that is there is added to: a run that was killed goes on where it was.

    Args:
        settings: The configuration: the models, and how they work together.
        queries: JSONL with ``query``.
        out: JSONL for ``route.precomputed``.
        on_progress: Told queries done and queries in all.

    Raises:
        ConfigError: No reasoner is configured.
        DatasetError: A file cannot be read or written.
        ModelError: A model failed.
    """
    wanted = list(dict.fromkeys(filter(None, (normalise_query(row.query) for row in read_training_queries(queries)))))
    models = Models(settings.model, settings.reasoning)
    model = models.reasoning_embedder
    fingerprint = reading_fingerprint(model.identity, models.reasoner.identity, settings.reasoning)
    path = Path(out)
    _whole_lines(path)
    there = read_precomputed(path, fingerprint=fingerprint, dimension=model.dimension).queries if path.exists() else {}
    left = [text for text in wanted if text not in there]
    with _opened(path) as file:
        for part in chunks(left, _BATCH):
            found = model.embed_reasoned(part)
            for text, vector, samples in zip(part, found.vectors, found.reasonings, strict=True):
                keywords = list(combine_keywords(samples))
                file.write(precomputed_line(text, fingerprint, as_sent(vector[np.newaxis])[0], samples, keywords))
            file.flush()
            on_progress(len(wanted) - len(left) + len(part), len(wanted))
    return {"written": len(left), "kept": len(wanted) - len(left)}


@dataclass(frozen=True, slots=True)
class RouterPlan:
    """What a gate is learnt from, and where it goes.

    Args:
        out: The gate, JSON.
        queries: Training queries with positives, JSONL; ``None``: the labels are all there is.
        labels: Labels, JSONL: those that are there are kept, those that are missing are measured and added.
        gains: Lines with ``query`` and ``gain``, for queries whose gain is known and need not be measured.
        catalog: Files whose words the gate remembers; none: it does without those features, and suits any catalog.
        num_landmarks: Typical training queries whose vectors it remembers.
        options: How it is fitted.
    """

    out: Path
    queries: Path | None
    labels: Path
    gains: Path | None = None
    catalog: tuple[str, ...] = ()
    num_landmarks: int = 32
    options: GateOptions = field(default_factory=GateOptions)


def train_router(settings: Settings, plan: RouterPlan, *, on_progress: Progress) -> dict[str, Any]:
    """Learn a gate from what reasoning gains on the real index, write it, and return how good it is.

    Args:
        settings: The configuration: model, reasoner, index, search.mode.
        plan: What from, where to.
        on_progress: Told labels done and in all.

    Raises:
        DatasetError: A file cannot be read or written.
        ModelError: A model failed.
        SearchError: OpenSearch failed.
        TrainingError: There is too little to learn from.
    """
    if plan.queries is not None:
        _measure(settings, plan, on_progress)
    labels = read_labels(plan.labels)
    document = fit_gate(labels, plan.options, _lexicon(settings, plan.catalog), num_landmarks=plan.num_landmarks)
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    gates.parse_gate(data, str(plan.out))  # what is written can be read
    try:
        plan.out.parent.mkdir(parents=True, exist_ok=True)
        plan.out.write_bytes(data)
    except OSError as exc:
        raise DatasetError(f"cannot be written: {exc.strerror}", path=plan.out) from exc
    card: dict[str, Any] = document["card"]
    return card


def fit_gate(
    labels: Sequence[Label], options: GateOptions, lexicon: Lexicon | None = None, *, num_landmarks: int = 32
) -> dict[str, Any]:
    """Return a gate as JSON values, for ``query_plugin.gate``.

    Raises:
        TrainingError: Too few labels, or all alike.
    """
    if len({len(label.vector) for label in labels}) > 1:
        raise TrainingError("the labels have vectors of different lengths: they are of different models")
    vectors = np.stack([label.vector for label in labels]) if labels else np.zeros((0, 0), np.float32)
    near = landmark_vectors(vectors, num_landmarks, seed=options.seed)
    landmarks = Landmarks(lexicon or Lexicon(), np.array(near, np.float32).reshape(len(near), vectors.shape[1]))
    rows = [Labelled(label.query, label.type, label.gain, label_features(label, landmarks)) for label in labels]
    left_out = frozenset() if lexicon else NEEDS_CATALOG
    stages = {
        name: fit_stage(rows, [feature for feature in names if feature not in left_out], options)
        for name, names in (("before", BEFORE), ("after", BEFORE + AFTER))
    }
    words = {} if lexicon is None else _lexicon_row(lexicon)
    return {
        "format": gates.FORMAT,
        "features_version": FEATURES_VERSION,
        "card": {
            "measure": MEASURE,
            "min_gain": options.min_gain,
            "hard_share": options.hard_share,
            "held_out": {name: stage.report for name, stage in stages.items()},
        },
        "stages": {name: stage.row for name, stage in stages.items()},
        "landmarks": {"lexicon": words, "vectors": near},
    }


def _measure(settings: Settings, plan: RouterPlan, on_progress: Progress) -> None:
    """Add to the file of labels what it lacks."""
    queries = [query for query in read_training_queries(plan.queries or "") if query.positives]
    known = {} if plan.gains is None else _read_gains(plan.gains)
    _whole_lines(plan.labels)
    done = {label.query_id for label in read_labels(plan.labels)} if plan.labels.exists() else set()
    left = [query for query in queries if query.query_id not in done]
    if not left:
        return
    models = Models(settings.model, settings.reasoning)
    model = models.reasoning_embedder
    direct, reasoned = (
        api.open_retriever(settings, with_source=False, reason=reason, embedder=model) for reason in (False, True)
    )
    with _opened(plan.labels) as file:
        for part in chunks(left, _BATCH):
            for label in _label(model, direct, reasoned, part, known):
                file.write(label.line())
            file.flush()
            done |= {query.query_id for query in part}
            on_progress(len(done), len(queries))


def _label(
    model: ReasoningEmbedder,
    direct: DirectRetriever,
    reasoned: DirectRetriever,
    queries: Sequence[TrainingQuery],
    known: Mapping[str, float],
) -> list[Label]:
    """Return what reasoning gains on some queries; one whose gain is known is only probed."""
    texts = [query.query for query in queries]
    vectors = model.embed_queries(texts)
    signals = ask_probe(direct.client, direct.index, direct.setup, texts, vectors)
    asked = [query for query in queries if normalise_query(query.query) not in known]
    before, after = _measured(direct, asked), _measured(reasoned, asked)
    labels = []
    for query, vector, found in zip(queries, vectors, signals, strict=True):
        first = before.get(query.query_id, float("nan"))
        gain = after[query.query_id] - first if query.query_id in after else known[normalise_query(query.query)]
        labels.append(Label(query.query_id, query.query, query.type, gain, vector, found, first))
    return labels


def _measured(retriever: DirectRetriever, queries: Sequence[TrainingQuery]) -> dict[str, float]:
    measure = parse_measure(MEASURE)
    found = retriever.retrieve([Query(query.query_id, query.query) for query in queries], top_k=measure.cutoff)
    ranked = [[hit.doc_id for hit in ranking.hits] for ranking in found]
    values = measure_queries([measure], ranked, [query.positives for query in queries])[measure]
    return dict(zip((query.query_id for query in queries), values.tolist(), strict=True))


def _read_gains(path: Path) -> dict[str, float]:
    try:
        lines = path.read_bytes().split(b"\n")
        rows = [orjson.loads(line) for line in lines if line.strip()]
        return {normalise_query(str(row["query"])): float(row["gain"]) for row in rows}
    except OSError as exc:
        raise DatasetError(f"cannot be read: {exc.strerror}", path=path) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise DatasetError(f"is no file of gains: {exc!r}", path=path, hint="lines need 'query' and 'gain'") from exc


def _lexicon(settings: Settings, files: Iterable[str]) -> Lexicon | None:
    names = tuple(files)
    if not names:
        return None
    found = (row.value for source in expand_sources(names) for row in read_rows(source))
    return lexicon_of((value for value in found if value is not None), tuple(settings.catalog.text))


def _lexicon_row(lexicon: Lexicon) -> dict[str, Any]:
    return {
        "num_documents": lexicon.num_documents,
        "counts": dict(sorted(lexicon.counts.items())),
        "brands": sorted(lexicon.brands),
    }


def _whole_lines(path: Path) -> None:
    """Cut a torn last line. Raises ``DatasetError``."""
    try:
        cut_torn_line(path)
    except OSError as exc:
        raise DatasetError(f"cannot be written: {exc.strerror}", path=path) from exc


def _opened(path: Path) -> IO[bytes]:
    """Return a file to add to.

    Raises:
        DatasetError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as exc:
        raise DatasetError(f"cannot be written: {exc.strerror}", path=path) from exc
