"""From a recipe to the stage that it describes: models loaded, data handed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lrem_os.errors import TrainingError
from lrem_os.model.contract import TokenContract
from lrem_os.model.hf import HfEmbedder
from lrem_os.model.hf_load import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS
from lrem_os.model.prompts import UNIFIED_TOKENS
from lrem_os.model.quiet import quiet
from lrem_os.model.recipe import Recipe as ModelRecipe
from lrem_os.model.recipe import read_recipe
from lrem_os.model.unified import add_special_tokens
from lrem_os.train.backbone import Backbone, Kind, load_backbone, random_backbone, with_adapter
from lrem_os.train.data import EASY, TrainingQuery
from lrem_os.train.embedder import EmbedderStage, Shelf
from lrem_os.train.encoder import TextEncoder
from lrem_os.train.loop import ALONE, Share, Stage
from lrem_os.train.reasoner import ReasonerStage
from lrem_os.train.rl import RlStage
from lrem_os.train.sets import TrainingSet, fold_of, read_rows, teacher_lines, with_distractors
from lrem_os.train.settings import Base, EmbedderRecipe, ReasonerRecipe, Recipe, RlRecipe, UnifiedRecipe
from lrem_os.train.unified import UnifiedStage
from lrem_os.types import Embedder


@dataclass(frozen=True, slots=True)
class Built:
    """A stage that is ready to run.

    Args:
        stage: For the loop.
        backbone: What is trained and saved.
        new_tokens: Whether the tokenizer has tokens that the base has not.
        counts: What the stage made of the data, for the data card.
    """

    stage: Stage
    backbone: Backbone
    counts: Mapping[str, int]
    new_tokens: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a stage is built.

    Args:
        device: Where models go.
        bfloat16: Whether the forward pass runs in bfloat16.
        share: Which part of each batch this process takes.
        is_dry: Whether models are narrow ones with random weights.
    """

    device: torch.device
    bfloat16: bool = False
    share: Share = ALONE
    is_dry: bool = False

    def backbone(self, base: Base, kind: Kind, sets: Sequence[TrainingSet], *, frozen: bool) -> Backbone:
        """Return a model without adapter. Frozen weights may be bfloat16, trained ones are float32."""
        if self.is_dry:
            texts = [text for part in sets for text in (*(query.query for query in part.train), *part.texts.values())]
            return random_backbone(base, kind, texts, device=self.device)
        dtype = torch.bfloat16 if frozen and self.bfloat16 else torch.float32
        return load_backbone(base, kind, device=self.device, dtype=dtype)


def build(recipe: Recipe, sets: Sequence[TrainingSet], machine: Machine) -> Built:
    """Return the stage of a recipe.

    Raises:
        CheckpointError: A model or an adapter cannot be loaded.
        ConfigError: The recipe does not fit the model.
        ModelError: A model could not be fetched.
        TrainingError: There is nothing to learn from.
    """
    torch.manual_seed(recipe.optimisation.seed)  # adapters and new embeddings start at random
    builders: Mapping[type[Recipe], Any] = {
        ReasonerRecipe: _reasoner,
        EmbedderRecipe: _embedder,
        UnifiedRecipe: _unified,
        RlRecipe: _rl,
    }
    built: Built = builders[type(recipe)](recipe, sets, machine)
    return built


def build_shelves(
    sets: Sequence[TrainingSet], embedder: Embedder, distractors: int | None, device: torch.device
) -> dict[str, Shelf]:
    """Return the catalogs with their vectors, as an index would hold them.

    Args:
        sets: The data.
        embedder: Embeds the items.
        distractors: Items of each catalog that no query names; none: all.
        device: Where the vectors go.
    """
    shelves = {}
    for part in sets:
        if part.rows:
            texts = with_distractors(part, distractors)
            vectors = torch.from_numpy(embedder.embed_items(list(texts.values()))).to(device)
            shelves[part.name] = Shelf(
                part.name, {key: row for row, key in enumerate(texts)}, vectors, list(texts.values())
            )
    return shelves


def _reasoner(recipe: ReasonerRecipe, sets: Sequence[TrainingSet], machine: Machine) -> Built:
    backbone = machine.backbone(recipe.base, "causal", sets, frozen=recipe.lora is not None)
    model = with_adapter(backbone.model, "causal", recipe.lora, None if machine.is_dry else recipe.base.adapter)
    lines = teacher_lines(sets, recipe.options.head_queries)
    stage = ReasonerStage(
        model,
        backbone.tokenizer,
        lines,
        batch_size=recipe.optimisation.batch_size,
        micro_batch_size=recipe.optimisation.micro_batch_size,
        share=machine.share,
        max_reasoning_tokens=recipe.options.max_reasoning_tokens,
    )
    counts = {"lines": len(lines), "lines_without_reasoning": sum(not line.reasoning for line in lines)}
    return Built(stage, replace(backbone, model=model), counts)


def _embedder(recipe: EmbedderRecipe, sets: Sequence[TrainingSet], machine: Machine) -> Built:
    backbone = machine.backbone(recipe.base, "encoder", sets, frozen=recipe.lora is not None)
    usage = _usage(backbone)
    shelves = build_shelves(sets, _frozen(backbone, usage), recipe.options.distractors, machine.device)
    model = with_adapter(backbone.model, "encoder", recipe.lora, None if machine.is_dry else recipe.base.adapter)
    encoder = TextEncoder(
        model,
        backbone.tokenizer,
        pooling=usage.pooling,
        max_tokens=min(recipe.options.max_tokens, usage.max_tokens),
        lowercase=usage.lowercase,
    )
    before = usage.query_prompt if recipe.options.combine == "mean" else ""  # keywords: a text of their own, or not
    queries: dict[str, list[TrainingQuery]] = {}
    for part in sets:
        name = part.name if part.rows else ""
        found = [query for query in part.train if not name or query.positives.keys() & shelves[name].ids.keys()]
        queries.setdefault(name, []).extend(_prefixed(query, usage.query_prompt, before) for query in found)
    stage = EmbedderStage(
        encoder,
        queries,
        {
            name: replace(shelf, texts=[usage.item_prompt + text for text in shelf.texts])
            for name, shelf in shelves.items()
        },
        batch_size=recipe.optimisation.batch_size,
        generated=_generated(None if machine.is_dry else recipe.options.generated, before),
        options=recipe.options,
        seed=recipe.optimisation.seed,
    )
    counts = {"queries": sum(map(len, queries.values())), "items": sum(len(shelf.ids) for shelf in shelves.values())}
    return Built(stage, replace(backbone, model=model), counts)


def _unified(recipe: UnifiedRecipe, sets: Sequence[TrainingSet], machine: Machine) -> Built:
    backbone = machine.backbone(recipe.base, "causal", sets, frozen=recipe.lora is not None)
    with quiet():
        add_special_tokens(backbone.model, backbone.tokenizer)
    tokens = backbone.tokenizer.convert_tokens_to_ids(list(UNIFIED_TOKENS))
    adapter = None if machine.is_dry else recipe.base.adapter
    model = with_adapter(backbone.model, "causal", recipe.lora, adapter, tokens)
    with_catalog = [part for part in sets if part.rows]
    lines = teacher_lines([part for part in sets if not part.rows], 0)
    heads = teacher_lines([replace(part, train=()) for part in with_catalog], recipe.options.head_queries)
    stage = UnifiedStage(
        model,
        backbone.tokenizer,
        {part.name: part.train for part in with_catalog},
        {part.name: part.texts for part in with_catalog},
        [*lines, *heads],
        batch_size=recipe.optimisation.batch_size,
        micro_batch_size=recipe.optimisation.micro_batch_size,
        share=machine.share,
        **recipe.options.model_dump(exclude={"head_queries"}),
    )
    counts = {"lines": len(lines), "head_queries": len(heads)}
    return Built(stage, replace(backbone, model=model), counts, new_tokens=True)


def _rl(recipe: RlRecipe, sets: Sequence[TrainingSet], machine: Machine) -> Built:
    options = recipe.options
    backbone = machine.backbone(recipe.base, "causal", sets, frozen=recipe.lora is not None)
    model = with_adapter(backbone.model, "causal", recipe.lora, None if machine.is_dry else recipe.base.adapter)
    model.eval()  # the update must see the policy that was sampled from
    judges = [_judge(base, sets, machine) for base in recipe.embedders]
    if options.items == "frozen":
        bare = _judge(recipe.embedders[0].model_copy(update={"adapter": None}), sets, machine)
    else:
        bare = judges[0]
    shelves = build_shelves(sets, bare, options.distractors, torch.device("cpu"))
    queries = [
        (part.name, query)
        for part in sets
        for query in part.train
        if part.rows and query.type != EASY and query.positives.keys() & shelves[part.name].ids.keys()
    ]
    if not queries:
        raise TrainingError("no query has a positive in its catalog", hint="check data.catalogs")
    lines = teacher_lines(sets, options.head_queries)
    stage = RlStage(
        model,
        backbone.tokenizer,
        judges,
        lambda query_id: fold_of(query_id, len(judges)),
        queries,
        lines,
        shelves,
        batch_size=recipe.optimisation.batch_size,
        options=options,
        seed=recipe.optimisation.seed,
    )
    num_items = sum(len(shelf.ids) for shelf in shelves.values())
    counts = {"queries": len(queries), "items": num_items, "lines": len(lines)}
    return Built(stage, replace(backbone, model=model), counts)


def _judge(base: Base, sets: Sequence[TrainingSet], machine: Machine) -> HfEmbedder:
    """Return an embedder with its adapter merged."""
    backbone = machine.backbone(base, "encoder", sets, frozen=True)
    model = with_adapter(backbone.model, "encoder", None, None if machine.is_dry else base.adapter)
    return _frozen(replace(backbone, model=model.requires_grad_(False)), _usage(backbone))


def _frozen(backbone: Backbone, usage: ModelRecipe) -> HfEmbedder:
    contract = TokenContract(
        model=backbone.name,
        revision=backbone.revision,
        dimension=backbone.model.config.hidden_size,
        pooling=usage.pooling,
        max_tokens=usage.max_tokens,
        special_tokens=(),
        query_prefix=usage.query_prompt,
        item_prefix=usage.item_prompt,
        lowercase=usage.lowercase,
    )
    on_cpu = backbone.model.device.type == "cpu"
    return HfEmbedder(
        backbone.model.eval(),
        backbone.tokenizer,
        contract,
        batch_tokens=CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS,
        num_workers=1,
    )


def _usage(backbone: Backbone) -> ModelRecipe:
    """Return what the model's own files say; random weights have none."""
    if backbone.path is None:
        return ModelRecipe(type(backbone.model).__name__, "mean", max_tokens=256, max_positions=512)
    return read_recipe(backbone.path)


def _generated(path: Path | None, prefix: str) -> dict[str, tuple[str, ...]]:
    """Return the samples in a file of gain labels by query id, as the embedder reads them; empty ones stay empty."""
    if path is None:
        return {}
    found = {}
    for row in read_rows(path, "query_id"):
        found[str(row["query_id"])] = tuple(text and prefix + text for text in row.get("keywords") or ())
    return found


def _prefixed(query: TrainingQuery, prefix: str, before: str) -> TrainingQuery:
    """Return the query and its keywords as the embedder reads them."""
    return replace(query, query=prefix + query.query, reasoning=query.reasoning and before + query.reasoning)
