"""``lrem-os eval robustness``: options in, drop rates and attacks out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lrem_os.cli.options import config_options, json_option, print_json, split_list

if TYPE_CHECKING:
    from lrem_os.robustness.paraphraser import Paraphraser
    from lrem_os.robustness.study import StudyOptions

_PREVIEWED = 8  # queries a family
_OF_FAMILY = {"synonyms": "synonyms"} | {
    f"paraphrase_{name}": "paraphrase" for name in ("url", "model", "key", "temperature")
}


@click.command()
@click.option("--runs", required=True, metavar="RUN,…", help="As for lrem-os eval, without files.")
@click.option("--queries", required=True, type=click.Path(), help="Queries, as for lrem-os eval.")
@click.option("--qrels", required=True, type=click.Path(), help="Judgments, as for lrem-os eval.")
@click.option(
    "--families",
    default="misspelling,order,dropped",
    show_default=True,
    metavar="NAME,…",
    help="misspelling, order, synonyms, paraphrase, dropped; '' for none.",
)
@click.option("--seeds", default="1999,5,27,2016,2026", show_default=True, metavar="N,…", help="One variant each.")
@click.option("--measure", default="ndcg@10", show_default=True, metavar="NAME@K", help="Whose loss is reported.")
@click.option("--min-grade", type=click.IntRange(1), default=1, show_default=True, help="Relevant from this grade on.")
@click.option(
    "--synonyms",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="For synonyms: a file in the Solr format of OpenSearch's synonym filter, or a WordNet folder.",
)
@click.option("--paraphrase-url", metavar="URL", help="For paraphrase: an OpenAI-compatible server, up to /v1.")
@click.option("--paraphrase-model", metavar="NAME", help="The model's name there.")
@click.option("--paraphrase-key", envvar="LREM_OS_PARAPHRASE_KEY", show_envvar=True, help="Its API key.")
@click.option(
    "--paraphrase-temperature", type=click.FloatRange(0, 2), default=0.7, show_default=True, help="Of its sampling."
)
@click.option(
    "--poison",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Inject so many adversarial products into a copy of the index; the paper has 10 and 50.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Take the first N queries only.")
@click.option(
    "--work",
    type=click.Path(file_okay=False),
    default="lrem-os-robustness",
    show_default=True,
    help="Folder for answers and paraphrases, so that a study that is cut off goes on; '' keeps none.",
)
@click.option("--fresh", is_flag=True, help="Ask for all answers again.")
@click.option("--dry-run", is_flag=True, help="Show the perturbed queries; ask neither cluster nor models.")
@click.option("--redact", is_flag=True, help="Leave query texts, keywords and ids out.")
@click.option(
    "--report",
    "report_folder",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Also write report.json, report.md, report.html and robustness.md into this folder.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
@config_options
@click.pass_context
def robustness(
    context: click.Context,
    /,
    runs: str,
    queries: str,
    qrels: str,
    work: str,
    report_folder: str | None,
    dry_run: bool,
    markdown: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Show what runs lose on queries that are typed carelessly, and whether planted products reach the top.

    Every query is perturbed once per family and seed, the same way on any machine; the drop rate is the share of the
    measure that is lost. With a routed run it also says how often the router takes another route. --poison copies the
    index, injects products that copy queries, repeat their words or promise a dozen of them, counts the queries that
    find one, and deletes the copy: the index that is served is only read.

    \b
    lrem-os eval robustness --runs bm25,vector,hybrid --queries q.jsonl --qrels qrels.txt
    lrem-os eval robustness --runs direct,reasoned,routed@30% --poison 50 --queries q.jsonl --qrels qrels.txt
    lrem-os eval robustness --runs hybrid --families synonyms --synonyms synonyms.txt --queries … --qrels …
    """
    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    _check_used(context)
    from lrem_os.cli.eval_progress import eval_progress
    from lrem_os.config import load_settings
    from lrem_os.eval import report, report_files
    from lrem_os.eval.output import write_whole
    from lrem_os.eval.robustness import tables
    from lrem_os.robustness.study import preview_study, study_robustness

    study = _options(Path(work) if work else None, **options)
    settings = load_settings(config_path, overrides).settings
    if dry_run:
        _print_preview(
            preview_study(settings, runs=split_list(runs), queries=queries, qrels=qrels, options=study), as_json
        )
        return
    if report_folder:
        report_files.check_folder(report_folder)
    with eval_progress() as on_progress:
        result = study_robustness(
            settings, runs=split_list(runs), queries=queries, qrels=qrels, options=study, on_progress=on_progress
        )
    value = report.to_dict(result)
    if report_folder:
        *_, page = report_files.write_report(value, report_folder)
        write_whole(Path(report_folder) / "robustness.md", tables.to_markdown(value["robustness"]).encode())
        click.echo(f"report: {page}", err=True)
    if as_json:
        print_json(value)
    elif markdown:
        click.echo(tables.to_markdown(value["robustness"]), nl=False)
    else:
        from lrem_os.cli.tables import print_table

        for table in tables.tables(value["robustness"]):
            print_table(table.columns, table.rows, title=table.title)
        for note in tables.notes(value["robustness"]):
            click.echo(note)


def _check_used(context: click.Context) -> None:
    """Refuse options of a family that is not among those that are tried."""
    families = split_list(context.params["families"])
    for name, family in _OF_FAMILY.items():
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and family not in families:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} is for the family {family}, which --families does not name")


def _options(
    work: Path | None, *, families: str, seeds: str, poison: int, limit: int | None, **options: Any
) -> StudyOptions:
    from lrem_os.robustness.study import StudyOptions

    return StudyOptions(
        families=tuple(split_list(families)),
        seeds=_seeds(seeds),
        measure=options["measure"],
        min_grade=options["min_grade"],
        synonyms=options["synonyms"],
        paraphraser=_paraphraser(
            options["paraphrase_url"],
            options["paraphrase_model"],
            options["paraphrase_key"],
            options["paraphrase_temperature"],
        ),
        poison=poison,
        limit=limit,
        work=work,
        fresh=options["fresh"],
        redact=options["redact"],
    )


def _paraphraser(url: str | None, model: str | None, key: str | None, temperature: float) -> Paraphraser | None:
    if not url and not model:
        return None
    if not url or not model:
        raise click.UsageError("--paraphrase-url and --paraphrase-model go together")
    from lrem_os.robustness.paraphraser import Paraphraser

    return Paraphraser(url, model, api_key=key, temperature=temperature)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in split_list(text))
    except ValueError as exc:
        raise click.BadParameter(f"{text!r}: want whole numbers, separated by commas", param_hint="--seeds") from exc


def _print_preview(found: dict[str, Any], as_json: bool) -> None:
    """Print what would be asked: all of it as JSON, or some of each family."""
    if as_json:
        print_json(found)
        return
    from lrem_os.cli.tables import print_table

    shown: dict[str, list[tuple[str, ...]]] = {}
    for row in found["queries"]:
        rows = shown.setdefault(row["family"], [])
        if len(rows) < _PREVIEWED:
            rows.append((row["family"], row["query"], row["asked"], row["way"] or "as it is"))
    print_table(("family", "query", "asked as", "way"), [row for rows in shown.values() for row in rows])
    click.echo(f"{found['searches']:,} searches for {', '.join(found['runs'])}; nothing was asked (--dry-run)")
