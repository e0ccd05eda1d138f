"""Settings of ReMixer: which queries are written, as a YAML file; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lrem_os.errors import ConfigError

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
S = TypeVar("S", bound=BaseModel)


class RemixSettings(BaseModel):
    """What ReMixer writes and mines (ReasonEmbed § 3.1). Weights need not sum to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    types: dict[str, str] = Field(
        {
            "qa": "Write a question of a shopper that this product answers; the shopper does not know that it exists.",
            "alternative": "Write the query of a shopper who wants something like a better known or dearer product; "
            "name that product, and let this one be the alternative.",
            "negative": "Write the query of a shopper who excludes something (a material, a feature, a kind), "
            "where this product is what remains.",
            "knowledge": "Write the query of a shopper who describes an occasion, a problem or a taste, so that one "
            "has to know something to see that this product fits.",
        },
        min_length=1,
        description="Type → instruction. Each is as likely as the others.",
    )
    lengths: dict[str, Weight] = Field(
        {
            "less than 100": 1,
            "100 to 200": 2,
            "200 to 300": 3,
            "300 to 400": 3,
            "400 to 500": 2,
            "at least 500": 1,
        },  # ReasonEmbed § 3.1
        description="Words of the query → weight. The paper's are for technical posts: a shop wants shorter ones.",
    )
    education: dict[str, Weight] = Field(
        {"high school": 1, "college": 2, "phd": 2},  # ReasonEmbed § 3.1
        description="Education of who writes → weight.",
    )
    min_chars: int = Field(200, ge=1, description="Shorter items are left out.")  # ReasonEmbed § 3.1
    max_chars: int = Field(5000, ge=1, description="Longer items are left out.")  # ReasonEmbed § 3.1
    candidates: int = Field(100, ge=1, description="Products mined for a query, its source left out.")
    seed: int = Field(0, ge=0, description="Of types, lengths and education.")

    @model_validator(mode="after")
    def _check(self) -> RemixSettings:
        for name in ("lengths", "education"):
            if not sum(getattr(self, name).values()) > 0:
                raise ValueError(f"{name} has no weight above 0: nothing can be drawn")
        if self.max_chars < self.min_chars:
            raise ValueError(f"max_chars is {self.max_chars}, less than min_chars {self.min_chars}")
        return self


def read_settings(path: str | Path | None, kind: type[S]) -> S:
    """Return the settings of a YAML file, or the defaults where there is none.

    Raises:
        ConfigError: It cannot be read, or a key or value is wrong.
    """
    if path is None:
        return kind()
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(exc).split())}") from exc
    try:
        return kind.model_validate(values)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{path}: {where}: {first['msg']}", hint=f"keys: {', '.join(kind.model_fields)}") from exc
