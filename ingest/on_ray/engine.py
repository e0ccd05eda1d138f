"""The run on a Ray cluster: files → rows → vectors → verdicts, counted here as they come out.

Ray Data streams blocks through the three stages, holds the stages before a slow one back, and computes anew what a lost
node held.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import lrem_os
from lrem_os.config import SearchSettings, Settings
from lrem_os.errors import ConfigError, LremError, RayError
from lrem_os.extras import require
from lrem_os.ingest.engine import Engine, Load
from lrem_os.ingest.on_ray.cluster import Pool, alive_nodes, joined, plan_pool, this_machine
from lrem_os.ingest.prefetch import Prefetch
from lrem_os.model.load import load_embedder
from lrem_os.node.cluster import local_hosts
from lrem_os.types import Embedder

_TICK_S = 1.0
_SILENCE_S = 10.0  # then the user is told that nothing comes


@contextmanager
def open_ray(settings: Settings, embedder: Embedder | None) -> Iterator[Engine]:
    """Join or start the cluster for a run.

    Args:
        settings: The configuration.
        embedder: In place of the configured model; it is sent to the nodes.

    Raises:
        ConfigError: The embedder cannot be sent.
        DependencyMissing: The extra ``ray`` is not installed.
        RayError: The cluster cannot be used, or has no room.
        ModelError: The model cannot be loaded there.
    """
    with joined(settings.ray):
        on_gpu = settings.model.device != "cpu" and settings.model.backend != "openai"
        pool = plan_pool(settings.ray, alive_nodes(), on_gpu=on_gpu)
        if embedder is None:
            make: Callable[[], Embedder] = partial(load_embedder, settings.model)
            dimension, identity = _describe(make, pool)
        else:
            make, dimension, identity = _sendable(embedder), embedder.dimension, dict(embedder.identity)
        yield RayEngine(settings, pool, make, dimension, identity)


@dataclass(frozen=True, slots=True)
class RayEngine:
    """A cluster that is joined.

    Args:
        settings: The configuration.
        pool: The actors that embed.
        make: Returns the model, there.
        dimension: Length D of its vectors.
        identity: What makes two of its vectors comparable.
    """

    settings: Settings
    pool: Pool
    make: Callable[[], Embedder]
    dimension: int
    identity: Mapping[str, Any]

    def load(self, load: Load) -> None:
        """Take every row to its end. Raises what a stage raised, or ``RayError``."""
        from lrem_os.ingest.on_ray import tables

        num_nodes, quiet_since = len(alive_nodes()), time.monotonic()
        with _ours(), Prefetch(self._verdicts(load), ahead=2) as tables_done:
            for rows in tables_done.ticking(_TICK_S):
                if rows is None:
                    self._watch(load, num_nodes, time.monotonic() - quiet_since)
                    continue
                quiet_since, load.tally.waiting = time.monotonic(), ""
                load.tally.add(embed_s=tables.total(rows, "embed_s"), embed_wait_s=tables.total(rows, "idle_s"))
                for verdict in tables.verdicts(rows):
                    _settle(verdict, load)
                load.on_progress(load.tally)

    def _verdicts(self, load: Load) -> Iterator[Any]:
        """Yield the tables of the last stage as they are ready."""
        from lrem_os.ingest.on_ray.stages import EmbedRows, Job, WriteRows, read_files

        ray: Any = require("ray", extra="ray")
        data: Any = require("ray.data", extra="ray")
        settings, how = self.settings, self.settings.ray
        superseded = {number: load.manifest.superseded_by(number, 0, 2**40 - 1) for number in range(len(load.sources))}
        job = Job(
            _reachable(settings),
            load.index,
            settings.catalog,
            settings.ingest,
            settings.index.vector_field,
            [replace(source, path=source.path.absolute()) for source in load.sources],  # a worker has its own folder
            ray.put(superseded),
            load.lookup,
            lrem_os.__version__,
        )
        files = [{"source": number} for number in range(len(load.sources))]
        pool = self.pool
        writers = min(how.writers, settings.ingest.senders)
        senders = -(-settings.ingest.senders // writers)
        with _context(data, how.block_bytes):
            rows = (
                data.from_items(files, override_num_blocks=len(files))
                .map_batches(
                    read_files,
                    batch_size=1,
                    fn_args=[job],
                    compute=data.TaskPoolStrategy(size=min(how.readers, len(files))),
                    num_cpus=0,
                    resources=this_machine(),
                    batch_format="pyarrow",
                )
                .map_batches(
                    EmbedRows,
                    batch_size=settings.ingest.window,
                    fn_constructor_args=[self.make, self.identity, pool, job],
                    compute=data.ActorPoolStrategy(min_size=1, max_size=pool.size, initial_size=pool.size),
                    batch_format="pyarrow",
                    ray_remote_args_fn=_InTurn(pool.places),
                    **pool.resources,
                )
                .map_batches(
                    WriteRows,
                    batch_size=settings.ingest.window,
                    fn_constructor_args=[job, senders],
                    compute=data.ActorPoolStrategy(min_size=1, max_size=writers, initial_size=writers),
                    num_cpus=0,
                    batch_format="pyarrow",
                )
            )
        yield from rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)

    def _watch(self, load: Load, num_nodes: int, silence_s: float) -> None:
        """Tell the user of silence; end a run whose work waits for a node that is gone."""
        if silence_s > _SILENCE_S:
            load.tally.waiting = f"nothing came back from the Ray cluster for {silence_s:.0f} s"
        load.on_progress(load.tally)
        lost = num_nodes - len(alive_nodes())
        if lost > 0 and silence_s > self.settings.ingest.max_wait_s:
            raise RayError(
                f"the Ray cluster lost {lost} of {num_nodes} nodes, and nothing came back for {silence_s:.0f} s:"
                " the others may have no room for its actors",
                hint="add a node, or lower ray.embedders, ray.cpus or ray.gpus; run it again: what is indexed already"
                " is not embedded again",
            )


@dataclass(slots=True)
class _InTurn:
    """Says where to start an actor: Ray's own spreading may put all on one node, and threads then fight there.

    Args:
        places: Ids of nodes; one that is gone by then is not insisted on.
    """

    places: tuple[str, ...]
    turn: int = 0

    def __call__(self) -> dict[str, Any]:
        strategies: Any = require("ray.util.scheduling_strategies", extra="ray")
        place = self.places[self.turn % len(self.places)]
        self.turn += 1
        return {"scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(place, soft=True)}


def _settle(verdict: Any, load: Load) -> None:
    from lrem_os.ingest.on_ray.tables import INDEXED, SUPERSEDED, UNCHANGED

    tally = load.tally
    tally.add(read=1, indexed=verdict.state == INDEXED, unchanged=verdict.state == UNCHANGED)
    if verdict.letter is not None:
        tally.give_up(verdict.code, superseded=verdict.state == SUPERSEDED)
        load.dead_letters.write(verdict.letter)
    for note in verdict.notes:
        tally.note(note)


def _describe(make: Callable[[], Embedder], pool: Pool) -> tuple[int, dict[str, Any]]:
    """Load the model once where it will run, and ask what it is; this machine may lack the GPU, or the memory."""
    from lrem_os.ingest.on_ray.stages import describe_model

    ray: Any = require("ray", extra="ray")
    with _ours():
        # max_calls: the process ends, and with it the model in its memory
        ask = ray.remote(max_calls=1, **pool.resources)(describe_model)
        dimension, identity = ray.get(ask.remote(make, pool, lrem_os.__version__))
    return dimension, identity


def _sendable(embedder: Embedder) -> Callable[[], Embedder]:
    ray: Any = require("ray", extra="ray")
    try:
        data = ray.cloudpickle.dumps(embedder)
    except (TypeError, ValueError, AttributeError) as exc:
        raise ConfigError(
            f"the embedder {type(embedder).__name__} cannot be sent to the nodes of a Ray cluster: {exc}",
            hint="configure it as `model` and pass none, or use ingest.engine: local",
        ) from exc
    return partial(ray.cloudpickle.loads, data)


def _reachable(settings: Settings) -> SearchSettings:
    """Return how the nodes connect: they know nothing of this machine's local node."""
    if settings.search.hosts:
        return settings.search
    return settings.search.model_copy(update={"hosts": local_hosts(settings.node)})


@contextmanager
def _context(data: Any, block_bytes: int) -> Iterator[None]:
    """Small blocks and no output while a data set is defined; it remembers what it was defined with."""
    context = data.DataContext.get_current()
    ours = {
        "target_max_block_size": block_bytes,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "raise_original_map_exception": True,  # in Ray Data's own wrapping only its text would arrive
    }
    before = {name: getattr(context, name) for name in ours}
    try:
        for name, value in ours.items():
            setattr(context, name, value)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")  # gone in 2.64, which we exclude
            yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


@contextmanager
def _ours() -> Iterator[None]:
    """Raise what a stage raised, as it raised it; anything else as ``RayError``."""
    ray: Any = require("ray", extra="ray")
    try:
        yield
    except ray.exceptions.RayError as exc:
        if (cause := _cause(exc)) is not None:
            raise cause from exc
        raise RayError(f"the Ray cluster failed: {_last_line(exc)}", hint="see the logs of the cluster") from exc


def _cause(exc: BaseException) -> LremError | None:
    found: object = exc
    while (found := getattr(found, "cause", None)) is not None:
        if isinstance(found, LremError):
            return found
    return None


def _last_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[-1].strip()
