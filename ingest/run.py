"""One ingest from files to a published index: opens the index, runs the pipeline, restores the settings, accounts."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from opensearchpy import OpenSearch

from lrem_os.config import Settings
from lrem_os.errors import DatasetError, InputError, RequestRejected, SearchError
from lrem_os.ingest.deadletter import DeadLetters
from lrem_os.ingest.engine import Engine, Load, Model, open_engine
from lrem_os.ingest.manifest import Manifest, Scan
from lrem_os.ingest.pipeline import Pipeline
from lrem_os.ingest.port import OpenSearchPort
from lrem_os.ingest.report import IngestReport, Note, Tally
from lrem_os.ingest.sources import Source, expand_sources
from lrem_os.ingest.throttle import patiently
from lrem_os.search import index as indices
from lrem_os.search.bulk import delete_ids, list_ids
from lrem_os.search.mappings import build_index_body, build_mapping
from lrem_os.types import Embedder

T = TypeVar("T")
Progress = Callable[[Tally], None]
_COPIES_S = 30.0
_Version = list[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What the user asked for beside the files.

    Args:
        recreate: Build a new version of the index and switch the alias to it at the end.
        sync: Afterwards delete documents that the input does not have.
        dry_run: Check the input; touch nothing.
        no_publish: With ``recreate``: leave the alias where it is, for ``lrem-os index switch``.
        file_format: Overrides what the file names say.
        dead_letters: File for rows that cannot be indexed; none: a new one in the working directory.
    """

    recreate: bool = False
    sync: bool = False
    dry_run: bool = False
    file_format: str | None = None
    dead_letters: Path | None = None
    no_publish: bool = False


@dataclass(frozen=True, slots=True)
class _Target:
    name: str
    is_building: bool
    has_documents: bool


def ingest(
    client: OpenSearch | None,
    settings: Settings,
    embedder: Embedder | None,
    patterns: Sequence[str],
    options: IngestOptions,
    *,
    on_progress: Progress = lambda _tally: None,
) -> IngestReport:
    """Load catalogs into the index; return the account.

    Only a dry run goes without client. One that has an engine whose workers load the model goes without embedder too.

    Raises:
        ConfigError: There is neither an embedder nor an engine that loads it.
        InputError: The files as a whole cannot be used, or a sync would not be safe.
        IndexMismatch: The index was built by another model or mapping.
        SearchError: OpenSearch refuses, or stays away for longer than ``ingest.max_wait_s``.
    """
    tally = Tally()
    letters = DeadLetters(options.dead_letters or _default_letters(settings.index.name))
    with contextlib.ExitStack() as stack, contextlib.closing(letters):

        def spool() -> Path:
            return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lrem-os-spool-")))

        sources = expand_sources(patterns, file_format=options.file_format, spool=spool)
        with Manifest(sources, settings.catalog) as manifest:
            version = _version(sources)
            scan = manifest.build()
            _check_input(sources, scan, options, tally)
            tally.total = scan.num_rows
            run = _Run(settings, options, sources, version, manifest, tally, letters, on_progress)
            if client is None or options.dry_run:
                return run.dry()
            with open_engine(settings, embedder) as engine:
                return run.real(client, engine)


@dataclass(frozen=True, slots=True)
class _Run:
    settings: Settings
    options: IngestOptions
    sources: Sequence[Source]
    version: _Version
    manifest: Manifest
    tally: Tally
    letters: DeadLetters
    on_progress: Progress

    def dry(self) -> IngestReport:
        pipeline = Pipeline(
            self.settings.catalog,
            self.settings.ingest,
            self.settings.index.vector_field,
            embedder=None,
            index=None,
            tally=self.tally,
            dead_letters=self.letters,
            lookup=False,
            on_progress=self.on_progress,
        )
        pipeline.run(self.sources, self.manifest)
        return self._report(index="", published=False, previous=None)

    def real(self, client: OpenSearch, engine: Engine) -> IngestReport:
        target = self._patiently(lambda: open_target(client, self.settings, engine, recreate=self.options.recreate))
        with self._loading(client, target):
            engine.load(
                Load(
                    OpenSearchPort(client, target.name, self.settings.ingest.max_wait_s, self._on_wait),
                    target.name,
                    self.sources,
                    self.manifest,
                    self.tally,
                    self.letters,
                    lookup=target.has_documents,
                    on_progress=self.on_progress,
                )
            )
            self._check_same_input()
        # a rebuild that is taken up again may hold products that the input has lost meanwhile
        if self.options.sync or (target.is_building and target.has_documents):
            self._patiently(lambda: self._sync(client, target.name))
        published, previous = not target.is_building, None
        self._await_copies(client, target.name)
        if target.is_building:
            self._patiently(lambda: self._note_built(client, target.name))
        if target.is_building and self._may_publish() and not self.options.no_publish:
            previous = self._patiently(lambda: indices.publish(client, self.settings.index.name, target.name))
            published = True
        return self._report(index=target.name, published=published, previous=previous)

    @contextlib.contextmanager
    def _loading(self, client: OpenSearch, target: _Target) -> Iterator[None]:
        """Bulk-load settings inside, the old ones afterwards, also after an error."""
        name, is_unseen = target.name, target.is_building or not target.has_documents
        drop = self.settings.ingest.drop_replicas and is_unseen
        restore = self._patiently(lambda: indices.begin_load(client, name, drop_replicas=drop))
        try:
            yield
        except BaseException:
            with contextlib.suppress(SearchError):  # the first error matters; the next run restores
                indices.end_load(client, name, restore)
            raise
        self._patiently(lambda: indices.end_load(client, name, restore))

    def _patiently(self, call: Callable[[], T]) -> T:
        return patiently(call, max_wait_s=self.settings.ingest.max_wait_s, on_wait=self._on_wait, sleep=time.sleep)

    def _check_same_input(self) -> None:
        """Refuse to go on where the files are not those that the manifest knows: it decides what is deleted."""
        if self.tally.read != self.tally.total or _version(self.sources) != self.version:
            raise DatasetError(
                "the input changed while it was read",
                hint="run it again: what is indexed already is not embedded again",
            )

    def _await_copies(self, client: OpenSearch, name: str) -> None:
        """Wait while replicas are being made: searches must not depend on an index that one lost node would break."""
        while left := self._patiently(lambda: indices.copies_under_way(client, name, timeout_s=_COPIES_S)):
            self._on_wait(_COPIES_S, f"{left} copies of shards are being made")

    def _note_built(self, client: OpenSearch, name: str) -> None:
        """Write down that the new version is whole: a switch that comes later must be able to tell."""
        account = {"documents": indices.count_documents(client, name), "read": self.tally.read}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        indices.note_built(client, name, account | {"failed": self.tally.failed, "at": at})

    def _may_publish(self) -> bool:
        return self.tally.failed <= self.settings.ingest.max_failed_share * self.tally.read

    def _sync(self, client: OpenSearch, name: str) -> None:
        for ids in list_ids(client, name):
            if absent := self.manifest.absent(ids):
                self.tally.add(deleted=delete_ids(client, name, absent))
        if self.tally.deleted:
            indices.refresh(client, name)

    def _on_wait(self, seconds: float, why: str) -> None:
        self.tally.waiting = f"{why}; trying again in {seconds:.1f} s"
        self.on_progress(self.tally)

    def _report(self, *, index: str, published: bool, previous: str | None) -> IngestReport:
        return self.tally.report(
            alias=self.settings.index.name,
            index=index,
            dead_letters=str(self.letters.path) if self.letters.count else None,
            published=published,
            previous=previous,
            dry_run=not index,
        )


def open_target(client: OpenSearch, settings: Settings, model: Model, *, recreate: bool) -> _Target:
    """Return the index to write, created if need be; refuse one built by another model or mapping.

    A rebuild that was interrupted is taken up again when it was for the same model and mapping.
    """
    alias = settings.index.name
    identity = indices.index_identity(model.identity, settings.catalog.embed)
    mapping = build_mapping(settings.catalog, settings.index, model.dimension, engine=settings.search.engine)
    current, versions = indices.survey(client, alias)
    if current is not None and not recreate:
        indices.check_fingerprint(current, identity)
        indices.check_mapping(current, mapping)
        return _existing(client, current)
    if current is not None:
        indices.check_alias(current, alias)
        if current.is_loading:  # a killed run left it so, and it goes on answering while the new one is built
            indices.end_load(client, current.name)
        for version in reversed(versions):
            if version.is_building and _fits(version, identity, mapping):
                return _existing(client, version)
    meta = indices.build_meta(identity, mapping, building=current is not None)
    name = indices.next_name(alias, versions)
    engine = settings.search.engine
    body = build_index_body(settings.catalog, settings.index, model.dimension, meta, engine=engine)
    try:
        indices.create_index(client, name, body, alias=None if current is not None else alias)
    except RequestRejected as exc:
        if "resource_already_exists" not in exc.message:
            raise
        return open_target(client, settings, model, recreate=recreate)  # another ingest was faster: use its index
    return _Target(name, is_building=current is not None, has_documents=False)


def _existing(client: OpenSearch, state: indices.IndexState) -> _Target:
    indices.refresh(client, state.name)  # a killed run's writes become visible to the look-up
    return _Target(state.name, state.is_building, indices.count_documents(client, state.name) > 0)


def _fits(state: indices.IndexState, identity: dict[str, object], mapping: dict[str, object]) -> bool:
    return state.meta.get("fingerprint") == indices.fingerprint(identity) and state.meta.get(
        "mapping_hash"
    ) == indices.mapping_hash(mapping)


def _check_input(sources: Sequence[Source], scan: Scan, options: IngestOptions, tally: Tally) -> None:
    for source, num_rows in zip(sources, scan.rows_per_source, strict=True):
        if num_rows == 0:
            tally.note(Note(source.label, 0, "", "holds no rows"))
    if scan.num_rows == 0:
        raise DatasetError("the input holds no rows", path=", ".join(source.label for source in sources))
    if options.sync and scan.num_without_id:
        raise InputError(
            f"--sync would delete products whose rows cannot be read: {scan.num_without_id} rows have no usable id",
            hint="run without --sync, mend the rows in the dead-letter file, and sync then",
        )


def _version(sources: Sequence[Source]) -> _Version:
    """Return what changes when a file is written to or replaced. Raises ``DatasetError`` when one is gone."""
    version = []
    for source in sources:
        try:
            stat = source.path.stat()
        except OSError as exc:
            raise DatasetError(f"cannot be read: {exc.strerror or exc}", path=source.label) from exc
        version.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return version


def _default_letters(alias: str) -> Path:
    return Path(f"{alias}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.dead.jsonl")
