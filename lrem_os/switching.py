"""The alias goes to another version of the index, if that one is fit for it, and back.

A version is fit when its build ended, its model is one that is configured, it has the documents that the version before
has, and, where judged queries are given, it answers them no worse. The move itself is one request, so no search finds
neither version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from opensearchpy import OpenSearch

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.config_runs import CONFIGURED, NamedRun
from lrem_os.errors import GateFailed, RequestRejected
from lrem_os.model.load import Models
from lrem_os.query_plugin.served import ServedRuns
from lrem_os.search import index as indices
from lrem_os.search.client import translate_errors
from lrem_os.search.index import IndexState
from lrem_os.types import Embedder

Progress = Callable[[str, int, int], None]
RunName = Literal["direct", "reasoned", "routed"]
_BEFORE, _AFTER = "before", "after"
_RUNS: Mapping[RunName, NamedRun] = {
    "direct": NamedRun(),
    "reasoned": NamedRun(reason=True),
    "routed": NamedRun(route=CONFIGURED),
}


@dataclass(frozen=True, slots=True)
class Gate:
    """What both versions are asked before the alias moves.

    Args:
        queries: File, see ``lrem_os.eval.datasets.parse_queries``.
        qrels: File with judgments.
        measures: Such as ``ndcg@10``.
        max_loss: The paired difference to the version before may not be shown to be, or left possible to be, a greater
            loss than this: the lower end of its 95 % interval decides.
        run: How queries are answered.
    """

    queries: Path
    qrels: Path
    measures: tuple[str, ...] = ("ndcg@10",)
    max_loss: float = 0.01
    run: RunName = "direct"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: ``complete``, ``model``, ``documents``, ``health``, or a measure.
        ok: Whether it speaks for the switch.
        message: With its numbers.
    """

    what: str
    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """What was found, and what was done.

    Args:
        alias: The name that is searched.
        before: The version that it led to.
        after: The version that it was to lead to.
        findings: In the order of the checks.
        switched: Whether it does now.
    """

    alias: str
    before: str
    after: str
    findings: tuple[Finding, ...]
    switched: bool

    @property
    def is_fit(self) -> bool:
        """Whether nothing speaks against the switch."""
        return all(finding.ok for finding in self.findings)


def switch(
    settings: Settings,
    version: str | None = None,
    *,
    back: bool = False,
    gate: Gate | None = None,
    max_missing: float = 0.01,
    force: bool = False,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> SwitchReport:
    """Point the alias to another version, if that one is fit.

    Args:
        settings: The configuration, with the model of that version as ``model`` or among ``serve.models``.
        version: None: the newest, or with ``back`` the one that the live one replaced.
        back: Go back: fewer documents are told, and no obstacle.
        gate: Measured first; none: nothing is measured.
        max_missing: Share of the documents of the version before that may not be there.
        force: Switch whatever was found.
        dry_run: Look only.
        on_progress: Told version, queries done, queries in all.

    Raises:
        IndexMissing: Nothing has been ingested.
        InputError: Queries or judgments cannot be used.
        RequestRejected: There is no such version, it is live, or the alias moved meanwhile.
        SearchError: The cluster failed.
    """
    client = api.connect(settings)
    alias = settings.index.name
    live, versions = indices.survey(client, alias)
    if live is None:
        live = indices.require_index(client, alias)  # says what to do
    indices.check_alias(live, alias)
    target = _pick(live, versions, version, back=back)
    examination = _Examination(settings, client, live, target)
    findings = examination.findings(max_missing=1.0 if back else max_missing)
    if gate is not None and all(finding.ok for finding in findings):
        findings += examination.measured(gate, on_progress)
    report = SwitchReport(alias, live.name, target.name, tuple(findings), switched=False)
    if dry_run or not (report.is_fit or force):
        return report
    now = indices.require_index(client, alias)
    if now.name != live.name:  # measuring takes minutes
        raise RequestRejected(f"{alias} was switched to {now.name} meanwhile", hint="look at `lrem-os index list`")
    indices.publish(client, alias, target.name)
    return SwitchReport(alias, live.name, target.name, tuple(findings), switched=True)


def require_fit(report: SwitchReport) -> None:
    """Do nothing if nothing speaks against the switch, or it was made all the same.

    Raises:
        GateFailed: The alias was left where it is; the message holds what was found.
    """
    bad = [finding for finding in report.findings if not finding.ok]
    if bad and not report.switched:
        lines = "".join(f"\n  {finding.what}: {finding.message}" for finding in bad)
        raise GateFailed(
            f"{report.alias} still leads to {report.before}: {report.after} is not fit{lines}",
            hint="--force switches all the same",
        )


def _pick(live: IndexState, versions: Sequence[IndexState], version: str | None, *, back: bool) -> IndexState:
    by_name = {state.name: state for state in versions}
    wanted = version or (str(live.meta.get("replaced", "")) if back else versions[-1].name if versions else "")
    others = ", ".join(name for name in by_name if name != live.name) or "none"
    if not wanted:
        raise RequestRejected(
            f"{live.name} replaced no other version: there is no way back", hint=f"other versions: {others}"
        )
    if wanted not in by_name:
        raise RequestRejected(f"there is no version {wanted!r}", hint=f"other versions: {others}")
    if wanted == live.name:
        raise RequestRejected(
            f"{wanted} is live already",
            hint=f"other versions: {others}; `lrem-os ingest FILES --recreate --no-publish` builds one",
        )
    return by_name[wanted]


@dataclass(frozen=True)
class _Examination:
    """The check of one version against the live one."""

    settings: Settings
    client: OpenSearch
    live: IndexState
    target: IndexState

    @cached_property
    def known(self) -> Mapping[str, tuple[str, Settings, Embedder]]:
        """Fingerprint → where the model is configured, the configuration with it, the model."""
        each = [("model", self.settings)]
        each += [(f"serve.models.{name}", one) for name, one in self.settings.other_models().items()]
        found = {}
        for where, one in reversed(each):
            embedder = Models(one.model, one.reasoning).embedder
            found[indices.model_fingerprint(embedder.identity)] = (where, one, embedder)
        return found

    def findings(self, *, max_missing: float) -> list[Finding]:
        return [self._complete(), self._model(), self._documents(max_missing), self._health()]

    def _complete(self) -> Finding:
        target, account = self.target, self.target.built
        if target.is_loading:
            return Finding("complete", False, f"{target.name} is being loaded, or its load was killed: ingest again")
        if target.is_building and not account:
            return Finding("complete", False, f"the build of {target.name} has not ended: ingest --recreate again")
        read, failed = int(account.get("read", 0)), int(account.get("failed", 0))
        message = f"{failed:,} of {read:,} rows failed" if account else "was live before"
        return Finding("complete", failed <= self.settings.ingest.max_failed_share * read, message)

    def _model(self) -> Finding:
        model = self.target.meta.get("identity", {}).get("model", "unknown")
        if self.target.model in self.known:
            return Finding("model", True, f"{model}, as {self.known[self.target.model][0]}")
        configured = ", ".join(f"{where} ({one.model.name})" for where, one, _ in self.known.values())
        return Finding("model", False, f"{model} is not configured; there are {configured}")

    def _documents(self, max_missing: float) -> Finding:
        before, after = (indices.count_documents(self.client, state.name) for state in (self.live, self.target))
        return Finding(
            "documents", after >= (1 - max_missing) * before, f"{after:,}, and {before:,} in {self.live.name}"
        )

    def _health(self) -> Finding:
        with translate_errors():
            status = str(self.client.cluster.health(index=self.target.name)["status"])
        return Finding("health", status != "red", status)

    def measured(self, gate: Gate, on_progress: Progress | None) -> list[Finding]:
        """Return a finding for each measure, from answers of both versions to the same queries."""
        from lrem_os.eval.files import Source, evaluate_files

        if self.live.model not in self.known:
            name = self.live.meta.get("identity", {}).get("model", "unknown")
            message = f"{self.live.name} cannot be asked: its model {name} is not configured"
            return [Finding(measure, False, message) for measure in gate.measures]
        states = {_BEFORE: self.live, _AFTER: self.target}
        served = {name: self._served(state) for name, state in states.items()}
        settings = self.settings.eval.model_copy(update={"runs": dict.fromkeys(states, _RUNS[gate.run])})
        result = evaluate_files(
            list(states),
            Source(open=lambda spec, queries: served[spec.name].open(spec, queries)),
            queries=gate.queries,
            qrels=gate.qrels,
            settings=settings,
            measures=gate.measures,
            baseline=_BEFORE,
            on_progress=on_progress,
        )
        before, after = result.runs[_BEFORE], result.runs[_AFTER]
        found = []
        for measure in gate.measures:
            difference = after.difference[measure]
            message = (
                f"{before.overall[measure].mean:.4f} before, {after.overall[measure].mean:.4f} after: difference"
                f" {difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] over"
                f" {difference.num_queries:,} queries, -{gate.max_loss:g} allowed"
            )
            found.append(Finding(measure, difference.low >= -gate.max_loss, message))
        return found

    def _served(self, state: IndexState) -> ServedRuns:
        _, settings, embedder = self.known[state.model]
        index = settings.index.model_copy(update={"name": state.name})
        return ServedRuns(settings.model_copy(update={"index": index}), embedder=embedder)
