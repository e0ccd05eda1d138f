"""What a machine was measured to do: the JSON file of ``lrem-os plan --calibrate``, which ``lrem-os plan`` reads."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from lrem_os.config_fields import Section
from lrem_os.errors import DatasetError, InputError

Positive = Annotated[float, Field(gt=0)]


class Calls(Section):
    """What calls of a model take, by the number of texts in one.

    Between two measured sizes it is interpolated; above the largest it goes on as between the last two, and with one
    point alone in proportion to the size.
    """

    points: tuple[tuple[Annotated[int, Field(ge=1)], Positive], ...] = Field(
        min_length=1, description="Texts in one call, and seconds; by size."
    )

    @model_validator(mode="after")
    def _check(self) -> Calls:
        sizes = [size for size, _ in self.points]
        if sizes != sorted(set(sizes)):
            raise ValueError(f"points: the sizes are {sizes}: each once, in rising order")
        return self

    def scaled(self, factor: float) -> Calls:
        """Return calls that take so many times as long."""
        return Calls(points=tuple((size, seconds * factor) for size, seconds in self.points))

    def seconds(self, size: int) -> float:
        """Return what a call with so many texts takes.

        >>> Calls(points=((1, 0.1), (5, 0.3))).seconds(3)
        0.2
        """
        if len(self.points) == 1:
            known, seconds = self.points[0]
            return seconds * size / known
        smallest, least = self.points[0]
        if size <= smallest:
            return least
        last = len(self.points) - 1
        high = next((idx for idx, (known, _) in enumerate(self.points) if known >= size), last)
        (x0, y0), (x1, y1) = self.points[high - 1], self.points[high]
        return max(least, y0 + (y1 - y0) * (size - x0) / (x1 - x0))


class Cluster(Section):
    """What OpenSearch did on that machine.

    Sizes are those of its own statistics, after a merge into one segment a shard.
    """

    items: Annotated[int, Field(ge=1)] = Field(description="Products in the index that was measured.")
    bulk_per_s: Positive = Field(description="Products a second that it indexed, vectors given.")
    cores: Annotated[int, Field(ge=1)] = Field(description="Of its nodes together.")
    search_ms: tuple[Positive, ...] = Field(min_length=1, description="Times of one search at a time, drawn evenly.")
    search_cpu_ms: Positive = Field(description="CPU of all nodes for one search.")
    probe: Calls = Field(description="The router's requests, by the queries in one.")
    vector_bytes: Positive = Field(description="Disk for one vector and its part of the graph.")
    other_bytes: Positive = Field(description="Disk for all else of one product: text index, fields, source.")


class Calibration(Section):
    """Measured values. What was not measured is absent."""

    format: Literal[1] = 1
    machine: str = Field(description="Processor, cores, memory, GPU.")
    date: str = Field(description="When, in UTC.")
    version: str = Field(description="Of lrem-os.")
    load_before: Annotated[float, Field(ge=0)] = Field(description="Of the machine, per core, by others: 0 is calm.")
    device: Literal["cpu", "gpu", "elsewhere"] = Field(description="Where the models ran.")
    cores: Annotated[int, Field(ge=1)] = Field(description="Of the machine.")
    model: str = Field(description="model.name.")
    reasoner: str | None = Field(None, description="What reasoned.")
    dimension: Annotated[int, Field(ge=1)] = Field(description="Of its vectors.")
    embed_queries: Calls = Field(description="Calls of the embedder, with queries.")
    embed_items_per_s: Positive = Field(description="Products a second that the embedder does alone.")
    reason: Calls | None = Field(None, description="Calls of the reasoner, its keywords embedded too.")
    reason_tokens_per_s: tuple[tuple[int, Positive], ...] = Field(
        (), description="Tokens a second that were generated, by the queries in one call."
    )
    service_cpu_ms: Positive | None = Field(None, description="CPU of the service for a request that asks no model.")
    cluster: Cluster | None = Field(None, description="OpenSearch.")


def read_calibration(path: Path) -> Calibration:
    """Return what a file says.

    Raises:
        DatasetError: It cannot be read, or is no calibration.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise DatasetError(f"cannot be read: {exc}", path=path) from exc
    try:
        return Calibration.model_validate_json(text)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        where = ".".join(map(str, error["loc"])) or "the file"
        raise DatasetError(
            f"{where}: {str(error['msg']).removeprefix('Value error, ')}",
            path=path,
            hint="it is no calibration of this version: write one with `lrem-os plan --calibrate FILE`",
        ) from None


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a file. Raises ``InputError`` where there is no writing."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(calibration.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc}") from exc


def reference() -> Calibration:
    """Return the calibration that ships: of the machine on which lrem-os is developed."""
    text = files("lrem_os.planning").joinpath("reference.json").read_text(encoding="utf-8")
    return Calibration.model_validate_json(text)
