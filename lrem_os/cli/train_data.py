"""``lrem-os train data``: options in, a training file with its data card out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lrem_os.cli.options import config_options, json_option, print_json

if TYPE_CHECKING:
    from lrem_os.config import Settings
    from lrem_os.train.construct.card import Card
    from lrem_os.train.construct.difference import ItemText
    from lrem_os.train.construct.endpoint import Endpoint
    from lrem_os.train.construct.judge import Judge, Scale
    from lrem_os.train.construct.lines import Unusable
    from lrem_os.train.construct.run import Files, Process
    from lrem_os.types import Document, Retriever

F = TypeVar("F", bound=Callable[..., Any])

_PROGRESS_EVERY_S = 5.0


@click.group(name="data")
def data() -> None:
    """Make training data: from queries, from a catalog, from clicks.

    Every command writes a JSONL file that `lrem-os train` reads, with a data card beside it. What fails is counted and
    named in NAME.failed.jsonl. A run that was killed goes on where it was when it is started again.

    \b
    lrem-os train data lrem queries.jsonl --out lrem.jsonl --judge none
    lrem-os train data clicks --queries ubi_queries.jsonl --events ubi_events.jsonl --out clicks.jsonl
    """


def _output_options(command: F) -> F:
    options = (
        click.option(
            "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FILE.jsonl", help="What is written."
        ),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Read only the first N lines."),
        click.option(
            "--dry-run", is_flag=True, help="Read and check the input, show what would be asked; write nothing."
        ),
        click.option("--restart", is_flag=True, help="Forget an earlier run with the same output."),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def _endpoint_options(role: str, temperature: float, text: str) -> Callable[[F], F]:
    """Add the options of a model behind an OpenAI-compatible server."""

    def add(command: F) -> F:
        options = (
            click.option(f"--{role}-url", metavar="URL", help=f"{text} Address of its server, up to /v1."),
            click.option(f"--{role}-model", metavar="NAME", help="Its name there."),
            click.option(f"--{role}-key", envvar=f"LREM_OS_{role.upper()}_KEY", show_envvar=True, help="Its API key."),
            click.option(
                f"--{role}-temperature",
                type=click.FloatRange(0, 2),
                default=temperature,
                show_default=True,
                help="0 is greedy.",
            ),
        )
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _run_options(command: F) -> F:
    options = (
        click.option(
            "--judge-revision", metavar="COMMIT", help="Hub commit or tag of a cross-encoder  [default: the newest]."
        ),
        click.option(
            "--thresholds",
            type=(float, float),
            default=(0.5, 0.9),
            show_default=True,
            metavar="LOW HIGH",
            help="Probabilities from which a cross-encoder's grade is 1 and 2.",
        ),
        click.option(
            "--mode",
            type=click.Choice(["bm25", "vector", "hybrid"]),
            default="vector",
            show_default=True,
            help="How the index is asked.",
        ),
        click.option(
            "--concurrency", type=click.IntRange(1, 512), default=8, show_default=True, help="Questions at once."
        ),
        click.option(
            "--timeout-s", type=click.FloatRange(1), default=120.0, show_default=True, help="A question's limit."
        ),
        click.option("--retries", type=click.IntRange(0, 20), default=5, show_default=True, help="Further tries."),
        click.option("--max-tokens", type=click.IntRange(16), default=2048, show_default=True, help="Of an answer."),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sampling."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@data.command(name="lrem")
@click.argument("queries", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["auto", "jsonl", "tsv", "plain"]),
    default="auto",
    show_default=True,
    help="JSONL (qid, query, type, cot), qid<TAB>query, or one query a line; auto goes by the first line.",
)
@_endpoint_options("teacher", 0.7, "Writes the reasoning of queries without 'cot'.")
@click.option(
    "--judge", type=click.Choice(["endpoint", "cross-encoder", "none"]), required=True, help="Who grades the products."
)
@_endpoint_options("judge", 0.0, "Grades products.")
@click.option("-n", "--top-k", type=click.IntRange(1), default=50, show_default=True, help="Depth of both rankings.")
@click.option("--ban", multiple=True, metavar="PHRASE", help="Remove keywords that hold this; repeatable.")
@click.option("--keep-negatives", is_flag=True, help="Write products judged not relevant under 'violates'.")
@_run_options
@_output_options
@config_options
def lrem_data(
    queries: Path,
    file_format: Any,
    judge: str,
    top_k: int,
    ban: tuple[str, ...],
    keep_negatives: bool,
    out: Path,
    as_json: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Reasoning by a teacher, the products that only it finds, graded by a judge (LREM § 3.2).

    QUERIES may be .gz. A line that brings its own keywords under 'cot' needs no teacher.

    \b
    lrem-os train data lrem log.jsonl.gz -o lrem.jsonl --teacher-url http://gpu:8000/v1 \\
        --teacher-model Qwen/Qwen3-30B-A3B-Instruct-2507 \\
        --judge endpoint --judge-url http://gpu:8001/v1 --judge-model google/gemma-3-27b-it
    lrem-os train data lrem teacher-lines.jsonl -o lrem.jsonl --judge none
    """
    from lrem_os.train.construct import lines, lrem, prompts
    from lrem_os.train.construct.card import Card, checksums
    from lrem_os.train.construct.run import Files
    from lrem_os.train.construct.teacher import Teacher

    entries = lines.read_queries(queries, file_format)
    if dry_run:
        _preview(entries, options["limit"], lambda one: prompts.REASON.fill(query=one.text), as_json)
        return
    files, inputs = Files(out), checksums([queries])
    with ExitStack() as stack:
        teacher = Teacher(_open_endpoint(stack, "teacher", options), ban)
        chosen = _open_judge(stack, judge, None, options)
        retriever, item_text, asked = _open_index(options)
        recipe = lrem.LremRecipe(teacher, retriever, chosen, item_text, top_k, keep_negatives)
        header = {"inputs": inputs, **recipe.header, "retriever": asked}
        counts = _run(entries, recipe.process, header, files, options)
    asked_prompts = teacher.prompts + (chosen.prompts if chosen is not None else ())
    notes = () if chosen is not None else ("Unjudged: every product that only the reasoning finds counts as relevant.",)
    title = "Queries with reasoning and the products that it finds"
    _finish(Card(title, lrem.SOURCE, header, lrem.STEPS, counts, asked_prompts, inputs, notes), files, as_json)


@data.command(name="remix")
@click.argument("catalog", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--settings", "settings_path", type=click.Path(dir_okay=False), help="YAML: types, lengths, education, …")
@_endpoint_options("writer", 0.7, "Writes the queries.")
@click.option(
    "--judge",
    type=click.Choice(["endpoint", "cross-encoder"]),
    default="endpoint",
    show_default=True,
    help="Who grades.",
)
@_endpoint_options("judge", 0.0, "Grades products, 1 to 5.")
@_run_options
@_output_options
@config_options
def remix_data(
    catalog: tuple[Path, ...],
    settings_path: str | None,
    judge: str,
    out: Path,
    as_json: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Queries written for items, answers mined without the item itself, all graded (ReasonEmbed § 3.1, ReMixer).

    CATALOG files are what `lrem-os ingest` reads, and must have been ingested.

    \b
    lrem-os train data remix catalog.jsonl -o remix.jsonl --writer-url http://gpu:8000/v1 --writer-model qwen \\
        --judge-url http://gpu:8001/v1 --judge-model gemma
    """
    from lrem_os.train.construct import judge as judges
    from lrem_os.train.construct import remixer
    from lrem_os.train.construct.card import Card, checksums
    from lrem_os.train.construct.run import Files
    from lrem_os.train.construct.settings import RemixSettings, read_settings

    remix = read_settings(settings_path, RemixSettings)
    entries = remixer.fitting(_items(catalog, _settings(options)), remix)
    if dry_run:
        _preview(entries, options["limit"], lambda one: remixer.query_messages(one, remix), as_json)
        return
    files, inputs = Files(out), checksums(catalog)
    with ExitStack() as stack:
        writer, chosen = _open_endpoint(stack, "writer", options), _open_judge(stack, judge, judges.ANNOTATED, options)
        if writer is None or chosen is None:
            raise click.UsageError("--writer-url and --writer-model are needed")
        retriever, item_text, asked = _open_index(options)
        recipe = remixer.RemixRecipe(writer, retriever, chosen, item_text, remix)
        header = {"inputs": inputs, **recipe.header, "retriever": asked}
        counts = _run(entries, recipe.process, header, files, options)
    title = "Queries written for items, and the products that answer them"
    _finish(Card(title, remixer.SOURCE, header, remixer.STEPS, counts, recipe.prompts, inputs), files, as_json)


@data.command(name="clicks")
@click.option(
    "--queries", multiple=True, type=click.Path(dir_okay=False), help="Export of ubi_queries, JSONL; repeatable."
)
@click.option(
    "--events", multiple=True, type=click.Path(dir_okay=False), help="Export of ubi_events, JSONL; repeatable."
)
@click.option(
    "--table",
    multiple=True,
    type=click.Path(dir_okay=False),
    help="Table with tabs and a header: query, doc_id, and maybe clicks, impressions, conversions, position.",
)
@click.option("--min-clicks", type=click.IntRange(1), default=2, show_default=True, help="Searches with a click.")
@click.option(
    "--min-impressions", type=click.IntRange(1), default=5, show_default=True, help="Searches it was shown in."
)
@click.option(
    "--min-coec", type=click.FloatRange(0), default=1.0, show_default=True, help="Clicks over what positions explain."
)
@click.option(
    "--click-action",
    "clicks",
    multiple=True,
    default=("click",),
    show_default=True,
    help="Name of a click in the events; repeatable.",
)
@click.option(
    "--convert-action",
    "converts",
    multiple=True,
    default=("add_to_cart", "purchase"),
    show_default=True,
    help="Name of what says more than a click; repeatable.",
)
@_output_options
def clicks_data(
    queries: tuple[str, ...],
    events: tuple[str, ...],
    table: tuple[str, ...],
    min_clicks: int,
    min_impressions: int,
    min_coec: float,
    clicks: tuple[str, ...],
    converts: tuple[str, ...],
    out: Path,
    limit: int | None,
    dry_run: bool,
    restart: bool,
    as_json: bool,
) -> None:
    """Pairs from what was clicked more often than its positions explain (UBI exports, or a table).

    Files may be .gz. Nothing becomes a positive that was not clicked; nothing becomes a negative.

    \b
    lrem-os train data clicks --queries ubi_queries.jsonl --events ubi_events.jsonl -o clicks.jsonl
    lrem-os train data clicks --table clicks.tsv --min-clicks 3 -o clicks.jsonl
    """
    if not (events or table):
        raise click.UsageError("name what holds clicks: --events (with --queries), or --table")
    from lrem_os.train.construct import clicks as rules
    from lrem_os.train.construct.card import Card, checksums
    from lrem_os.train.construct.click_log import ClickLog
    from lrem_os.train.construct.run import Files

    files, rule = Files(out), rules.ClickRule(min_clicks, min_impressions, min_coec)
    settings: dict[str, Any] = {"min_clicks": min_clicks, "min_impressions": min_impressions, "min_coec": min_coec}
    settings |= {"click_actions": clicks, "convert_actions": converts, "limit": limit}
    with ClickLog(click_actions=clicks, convert_actions=converts, limit=limit, on_progress=_progress()) as log:
        log.load(queries=queries, events=events, tables=table)
        if dry_run:
            counts = rules.count_pairs(log, rule)
            _show({name: counts.get(name, 0) for name in rules.STEPS}, rules.STEPS, as_json)
            return
        counts = rules.write_pairs(log, rule, files, restart=restart)
    inputs = checksums([*queries, *events, *table])
    _finish(
        Card("Queries and the products clicked for them", rules.SOURCE, settings, rules.STEPS, counts, (), inputs),
        files,
        as_json,
    )


def _run(
    entries: Iterable[Any], process: Process[Any], header: Mapping[str, Any], files: Files, options: Mapping[str, Any]
) -> dict[str, int]:
    from lrem_os.train.construct.run import Run

    run = Run(entries, process, header, options["limit"], _progress())
    return run.write(files, restart=options["restart"])


def _settings(options: Mapping[str, Any]) -> Settings:
    from lrem_os.config import load_settings

    return load_settings(options["config_path"], options["overrides"]).settings


def _open_endpoint(stack: ExitStack, role: str, options: Mapping[str, Any]) -> Endpoint | None:
    from lrem_os.train.construct.endpoint import Endpoint, EndpointSettings

    url, model = options[f"{role}_url"], options[f"{role}_model"]
    if not url and not model:
        return None
    if not url or not model:
        raise click.UsageError(f"--{role}-url and --{role}-model go together")
    settings = EndpointSettings(
        url=url,
        model=model,
        api_key=options[f"{role}_key"],
        timeout_s=options["timeout_s"],
        retries=options["retries"],
        concurrency=options["concurrency"],
        temperature=options[f"{role}_temperature"],
        max_tokens=options["max_tokens"],
        seed=options["seed"],
    )
    return stack.enter_context(Endpoint(settings))


def _open_judge(stack: ExitStack, kind: str, scale: Scale | None, options: Mapping[str, Any]) -> Judge | None:
    if kind == "none":
        return None
    if kind == "endpoint":
        from lrem_os.train.construct.judge import GRADED, EndpointJudge

        endpoint = _open_endpoint(stack, "judge", options)
        if endpoint is None:
            raise click.UsageError("--judge endpoint needs --judge-url and --judge-model")
        return EndpointJudge(endpoint, scale or GRADED)
    if not options["judge_model"]:
        raise click.UsageError("--judge cross-encoder needs --judge-model, a hub id or a folder")
    from lrem_os.extras import require

    require("torch", extra="model")
    require("transformers", extra="model")
    from lrem_os.train.construct.cross_encoder import CrossEncoderJudge, CrossEncoderSettings

    low, high = options["thresholds"]
    return CrossEncoderJudge(CrossEncoderSettings(options["judge_model"], options["judge_revision"], low, high))


def _open_index(options: Mapping[str, Any]) -> tuple[Retriever, ItemText, dict[str, str]]:
    """Return what finds products, what renders a found one, and what names both in the data card."""
    from lrem_os import api
    from lrem_os.text import embedded_text

    settings = _settings(options)
    retriever = api.open_retriever(settings, options["mode"])
    asked = {"index": settings.index.name, "mode": options["mode"], "model": settings.model.name}
    return retriever, lambda hit: embedded_text(hit.source, settings.catalog.embed), asked


def _items(catalog: Sequence[Path], settings: Settings) -> Iterator[Document | Unusable]:
    from lrem_os.ingest.documents import BadRow, build_document
    from lrem_os.ingest.sources import expand_sources, read_rows
    from lrem_os.train.construct.lines import Unusable

    for source in expand_sources([str(path) for path in catalog]):
        for row in read_rows(source):
            try:
                yield build_document(row, source.label, settings.catalog, max_chars=settings.ingest.max_text_chars)[0]
            except BadRow as exc:
                yield Unusable(row.line, str(exc), row.raw or "")


def _progress() -> Callable[[Mapping[str, int]], None]:
    """Return what prints the counts now and then."""
    last = time.monotonic()

    def update(counts: Mapping[str, int]) -> None:
        nonlocal last
        if time.monotonic() - last < _PROGRESS_EVERY_S:
            return
        last = time.monotonic()
        shown = (("read", "read"), ("written", "written"), ("answers", "answers"), ("failed", "failed"))
        click.echo(", ".join(f"{counts[key]:,} {name}" for key, name in shown if counts.get(key)), err=True)

    return update


def _preview(
    entries: Iterator[Any], limit: int | None, ask: Callable[[Any], list[dict[str, str]]], as_json: bool
) -> None:
    """Print what a run would read, and the first thing it would ask."""
    from lrem_os.train.construct.preview import preview

    counts, messages, problems = preview(entries, limit, ask)
    if as_json:
        print_json({"counts": counts, "first_question": messages, "unusable": problems})
        return
    click.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    for problem in problems:
        click.echo(f"  {problem}")
    for message in messages:
        click.echo(f"\n--- {message['role']} ---\n{message['content']}")


def _finish(card: Card, files: Files, as_json: bool) -> None:
    from lrem_os.train.construct.card import write_card

    value = write_card(card, files)
    if as_json:
        print_json(value)
        return
    _show(value["counts"], card.steps, as_json=False)
    click.echo(f"written: {files.out}, {files.out.with_suffix('.card.md')}")


def _show(counts: Mapping[str, int], steps: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        print_json(dict(counts))
        return
    width = max(len(f"{count:,}") for count in counts.values())
    for name, count in counts.items():
        click.echo(f"{count:>{width},}  {steps[name]}")
