"""``lrem-os train``: the stages of training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrem_os.cli.options import config_options, json_option, print_json
from lrem_os.cli.train_data import data
from lrem_os.cli.train_router import router

if TYPE_CHECKING:
    from lrem_os.train.run import TrainReport


@click.group()
def train() -> None:
    """Train a reasoner, an embedder and a router on a catalog and its queries.

    A recipe is one YAML file; recipes/ holds some. A run that was killed goes on where it was; metrics.csv and
    TensorBoard events are written on the way. On several GPUs: accelerate launch -m lrem_os train …

    \b
    lrem-os train reasoner recipes/small-reasoner.yaml --data-root ../shared/data
    lrem-os train reasoner recipes/small-reasoner.yaml --dry-run
    tensorboard --logdir runs
    """


def _stage(name: str, text: str) -> click.Command:
    """Return the command of a stage: all take the same options."""

    @click.command(name, help=text)
    @click.argument("recipe_path", metavar="RECIPE", type=click.Path(dir_okay=False, path_type=Path))
    @click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override one value; repeatable.")
    @click.option(
        "-o",
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Where to write [default: runs/NAME-OF-THE-RECIPE].",
    )
    @click.option(
        "--data-root",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Folder of the data, instead of data.root.",
    )
    @click.option("--dry-run", is_flag=True, help="Two steps with tiny random models; nothing is fetched or kept.")
    @click.option("--restart", is_flag=True, help="Forget an earlier run in the output folder.")
    @json_option
    def command(
        recipe_path: Path,
        overrides: tuple[str, ...],
        output: Path | None,
        data_root: Path | None,
        dry_run: bool,
        restart: bool,
        as_json: bool,
    ) -> None:
        from lrem_os.cli.train_progress import train_progress
        from lrem_os.extras import require

        for package in ("torch", "transformers", "peft", "accelerate"):
            require(package, extra="train")
        from lrem_os.train.recipes import load_recipe
        from lrem_os.train.run import train as run

        if data_root:
            overrides = (*overrides, f"data.root={data_root}")
        recipe = load_recipe(recipe_path, overrides, stage=name)
        with train_progress(name) as on_progress:
            report = run(
                recipe,
                output or Path("runs", recipe_path.stem),
                dry_run=dry_run,
                restart=restart,
                on_progress=on_progress,
            )
        if report is not None:  # the first of several processes
            _show(report, as_json)

    return command


@train.command()
@click.argument("recipe_path", metavar="RECIPE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="FILE.jsonl",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The labels; what is there already is kept.",
)
@click.option("--data-root", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER", help="For data.root.")
@click.option("--distractors", type=click.IntRange(0), metavar="N", help="Unnamed items a catalog  [default: all].")
@click.option("--restart", is_flag=True, help="Forget an earlier run with the same output.")
@json_option
@config_options
def gains(
    recipe_path: Path,
    out: Path,
    data_root: Path | None,
    distractors: int | None,
    restart: bool,
    as_json: bool,
    config_path: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Label every query of a recipe's data with what reasoning changes for it: ranks, gain, RI.

    The configured model is asked (model.name, reasoning.*); a line of JSON a query, for a router to learn from.

    \b
    lrem-os train gains recipes/small-rl.yaml --data-root ../shared/data --out gains.jsonl
    """
    from lrem_os.cli.train_progress import count_progress
    from lrem_os.config import load_settings
    from lrem_os.extras import require

    for package in ("torch", "transformers", "peft", "accelerate"):
        require(package, extra="train")
    from lrem_os.model.load import Models
    from lrem_os.train.label import write_gains
    from lrem_os.train.recipes import load_recipe
    from lrem_os.train.sets import read_sets

    settings = load_settings(config_path, overrides).settings
    recipe = load_recipe(recipe_path, [f"data.root={data_root}"] if data_root else [])
    model = Models(settings.model, settings.reasoning).reasoning_embedder
    if restart:
        out.unlink(missing_ok=True)
    with count_progress("gains") as on_progress:
        counts = write_gains(
            model,
            read_sets(recipe.data),
            out,
            reasoning=settings.reasoning.model_dump(mode="json", exclude={"api_key"}),
            distractors=distractors,
            on_progress=on_progress,
        )
    if as_json:
        print_json({**counts, "out": out})
    else:
        click.echo(", ".join(f"{name} {count:,}" for name, count in counts.items()))


@train.command()
@click.option("--name", required=True, metavar="NAME", help="The package's name: lower case letters, digits, - and _.")
@click.option("--embedder", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="Its training run.")
@click.option("--reasoner", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="Its training run.")
@click.option("-o", "--output", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="Where to.")
@json_option
def package(name: str, embedder: Path, reasoner: Path, output: Path, as_json: bool) -> None:
    """Put a trained embedder and a trained reasoner together as one model, for model.name.

    The folder holds the adapters in float16 and lrem.json, which names their bases and has a checksum of every file.

    \b
    lrem-os train package --name shop --embedder runs/small-embedder --reasoner runs/small-rl -o models/shop
    lrem-os search "la mer dupe" --reason --set model.name=models/shop
    """
    from lrem_os.extras import require

    for needed in ("torch", "peft"):
        require(needed, extra="train")
    from lrem_os.train.ship import ship_runs

    made = ship_runs(output, name, embedder=embedder, reasoner=reasoner)
    if as_json:
        print_json({"name": made.name, "folder": made.folder, "dimension": made.dimension})
    else:
        click.echo(f"{made.name}: {made.folder}, {made.dimension} dimensions, {len(made.checksums)} files")


def _show(report: TrainReport, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        print_json(asdict(report))
        return
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in report.metrics.items())
    click.echo(f"{report.steps:,} steps; {report.trained_parameters:,} numbers trained; {report.seconds:,.0f} s")
    if metrics:
        click.echo(f"last step: {metrics}")
    click.echo(f"written: {report.weights}" if report.weights else "dry run: nothing was kept")


_EXAMPLE = """

\b
lrem-os train {0} recipes/small-{0}.yaml --data-root ../shared/data
lrem-os train {0} recipes/gpu-{0}.yaml --dry-run"""

for _name, _text in (
    ("reasoner", "Teach a language model to write keywords about a query (LREM § 3.3, the part L_SFT)."),
    ("embedder", "Teach an embedder both views of a query: as typed, and with its reasoning."),
    ("lrem", "Teach one language model to reason and to embed (LREM § 3.3, cold start)."),
    ("rl", "Let a reasoner learn from the rank that its keywords give to the right products (LREM § 3.4)."),
):
    train.add_command(_stage(_name, _text + _EXAMPLE.format(_name)))

train.add_command(data)
train.add_command(router)
