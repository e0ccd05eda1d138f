"""Settings of a Ray cluster that ingests. Part of ``config.py``."""

from __future__ import annotations

from pydantic import Field, field_validator

from lrem_os.config_fields import Section


class RaySettings(Section):
    """The Ray cluster of ``ingest.engine: ray``: where it is, and how many work there."""

    address: str | None = Field(
        None, description="HOST:PORT of a running cluster, or auto; none: one is started here for the run."
    )
    embedders: int | None = Field(
        None, ge=1, le=4096, description="Actors that embed; none: one a GPU, or one for every ray.cpus CPUs."
    )
    cpus: int | None = Field(
        None, ge=1, le=256, description="Threads of an embedder; none: the CPUs of the smallest node, 8 at most."
    )
    gpus: float | None = Field(
        None, ge=0, le=16, description="GPUs of an embedder, also a part of one; none: 1 where the cluster has any."
    )
    writers: int = Field(1, ge=1, le=64, description="Actors that write; they share ingest.senders.")
    readers: int = Field(2, ge=1, le=64, description="Files read at once, on the machine of the command.")
    block_bytes: int = Field(
        1_000_000, ge=10_000, description="Rows travel in blocks of about this size: what is done again is small."
    )
    object_store_mb: int = Field(
        512, ge=80, description="Memory for blocks in a cluster that is started for the run, MiB."
    )

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise ValueError(
                f"ray.address is {value!r}, which is a Ray client's: run the command on a machine of the cluster"
                " (`ray job submit` does), with ray.address=auto"
            )
        return value
