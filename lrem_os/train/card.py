"""The model card of a run: what is known of it, and what the reader has to measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrem_os.model.prompts import REASON_TEMPLATE_VERSION, UNIFIED_TEMPLATE_VERSION
from lrem_os.train.backbone import Backbone
from lrem_os.train.recipes import recipe_text
from lrem_os.train.settings import Recipe

_TEMPLATES = {
    "reasoner": REASON_TEMPLATE_VERSION,
    "rl": REASON_TEMPLATE_VERSION,
    "lrem": UNIFIED_TEMPLATE_VERSION,
}


def model_card(
    recipe: Recipe, backbone: Backbone, data_card: Mapping[str, Any], steps: int, trained_parameters: int
) -> str:
    """Return the card in Markdown."""
    values = recipe.model_dump()
    what = "all weights" if recipe.lora is None else f"LoRA adapter, rank {recipe.lora.rank}"
    sets = "\n".join(f"| {name} | {_row(part)} |" for name, part in data_card["sets"].items())
    return f"""# {backbone.name}, stage {values["stage"]}

Trained with `lrem-os train {values["stage"]} recipe.yaml`; `recipe.yaml` and `data-card.json` lie beside this card.

- Base: {backbone.name}, revision {backbone.revision or "none: random weights"}
- Trained: {what}; {trained_parameters:,} numbers; {steps:,} steps; seed {recipe.optimisation.seed}
- Prompt template: {_TEMPLATES.get(values["stage"], "none")}

## Data

| set | queries | held out | easy | items | pairs |
|---|---|---|---|---|---|
{sets}

{_counts(data_card["stage"])}

## Recipe

```yaml
{recipe_text(recipe)}```

## Numbers

`metrics.csv` holds the training's own. How well it searches is not known until it is measured on judged queries that
it was not trained on (`lrem-os eval run`): write the table here, with intervals and seeds.

## Limits

Queries and items like those above; other languages, shops and kinds of product were not tried.
"""


def _row(part: Mapping[str, Any]) -> str:
    return " | ".join(f"{part[name]:,}" for name in ("queries", "held_out", "easy", "items", "pairs"))


def _counts(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{name.replace('_', ' ')}: {count:,}" for name, count in counts.items())
