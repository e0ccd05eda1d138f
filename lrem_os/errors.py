"""Every error lrem-os raises on purpose, and nothing else.

::

    LremError
    ├ ConfigError              exit 2         wrong or unknown key: names key, value, source, allowed
    ├ InputError               exit 3
    │ ├ DatasetError                          a file, line or field that cannot be used
    │ ├ QueryError                            a query or filter that cannot be run
    │ └ RunError                              a ranking with NaN scores, duplicates or an unknown form
    ├ DependencyMissing        exit 5         also an ImportError: says which extra to install
    ├ ModelError               exit 4
    │ ├ CheckpointError                       files missing, corrupt, or not what the manifest says
    │ ├ EmbeddingError                        wrong dimension, NaN or infinity in a vector
    │ ├ GenerationError                       the reasoner failed, hung, or is not there
    │ └ ModelHung                             a call did not return within its limit; left behind
    ├ TrainingError            exit 8         a training run cannot start, or cannot go on
    │ └ NonFiniteLoss                         a step gave NaN or infinity
    ├ GateFailed               exit 9         an evaluation breaks its thresholds: names each with its number
    ├ NodeError                exit 10        the local OpenSearch node
    │ ├ JavaMissing                           no Java 21 or newer
    │ ├ PortInUse
    │ └ DownloadFailed
    ├ RayError                 exit 12        the Ray cluster of an ingest
    ├ ServiceError             exit 11        the running service cannot take a request
    │ ├ Overloaded             retryable      a queue is full
    │ └ ShuttingDown           retryable      it is about to end
    └ SearchError              exit 6         OpenSearch said no, or nothing
      ├ SearchUnavailable      retryable      no connection, 5xx
      ├ SearchTimeout          retryable
      ├ SearchRejected         retryable      429: the cluster pushes back
      ├ AccessDenied                          401, 403
      ├ IndexMissing
      ├ IndexMismatch                         the index was built by another model or mapping
      ├ RequestRejected                       400 and the like: our request is wrong
      ├ Unsupported                           the server's version lacks what was asked for
      ├ IngestIncomplete       exit 7         some documents failed; carries the report
      └ PublishIncomplete      exit 7         some documents of a report failed

Foreign exceptions are translated where they enter (``search/client.py`` for opensearch-py) and chained with
``from``. A message says what happened, to which value, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar


class LremError(Exception):
    """Root of the tree.

    Args:
        message: What happened, with the value at fault.
        hint: What to do about it; printed on a line of its own.
    """

    code: ClassVar[str] = "lrem_error"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ConfigError(LremError):
    """A configuration key is unknown, or its value cannot be used."""

    code = "config"
    exit_code = 2


class InputError(LremError):
    """What the user handed in cannot be used."""

    code = "input"
    exit_code = 3


class DatasetError(InputError):
    """A file, a line of it, or a field of that line cannot be used.

    Args:
        message: What is wrong, with the value.
        path: The file at fault.
        line: Line (or row) number, from 1; ``None`` when the whole file is at fault.
        hint: What to do about it.
    """

    code = "dataset"

    def __init__(
        self, message: str, *, path: str | Path | None = None, line: int | None = None, hint: str | None = None
    ) -> None:
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(where + message, hint=hint)
        self.path = None if path is None else str(path)
        self.line = line


class QueryError(InputError):
    """A query or a filter that cannot be run."""

    code = "query"


class RunError(InputError):
    """A ranking that no measure can be computed on: NaN scores, duplicates, an unknown form."""

    code = "run"


class DependencyMissing(LremError, ImportError):
    """A package that an optional feature needs is not installed."""

    code = "dependency_missing"
    exit_code = 5


class ModelError(LremError):
    """The model could not be found, loaded or run."""

    code = "model"
    exit_code = 4


class CheckpointError(ModelError):
    """Model files are missing, corrupt, or not what their manifest says."""

    code = "checkpoint"


class EmbeddingError(ModelError):
    """A vector has the wrong dimension, or holds NaN or infinity."""

    code = "embedding"


class GenerationError(ModelError):
    """The reasoner failed, did not answer in time, or cannot be reached."""

    code = "generation"


class ModelHung(ModelError):
    """A call of a model did not return within its limit, or too many hang for another to be made."""

    code = "model_hung"
    retryable = True


class TrainingError(LremError):
    """A training run cannot start, or cannot go on."""

    code = "training"
    exit_code = 8


class NonFiniteLoss(TrainingError):
    """A training step gave NaN or infinity.

    Args:
        step: The step, from 0.
        values: The metrics at fault.
    """

    code = "non_finite_loss"

    def __init__(self, step: int, values: Mapping[str, float]) -> None:
        super().__init__(
            f"step {step} gave {', '.join(f'{name} = {value}' for name, value in values.items())}",
            hint="lower the learning rate, or set dtype to float32; the last checkpoint is kept",
        )
        self.step = step


class GateFailed(LremError):
    """An evaluation does not reach its thresholds."""

    code = "gate_failed"
    exit_code = 9


class NodeError(LremError):
    """The local OpenSearch node could not be installed, started or stopped."""

    code = "node"
    exit_code = 10


class JavaMissing(NodeError):
    """No Java that can run the node was found."""

    code = "java_missing"


class PortInUse(NodeError):
    """The port the node was told to use belongs to another process."""

    code = "port_in_use"


class DownloadFailed(NodeError):
    """A part of the node could not be fetched, or its checksum is wrong."""

    code = "download_failed"


class RayError(LremError):
    """The Ray cluster of an ingest cannot be used, or has lost what the run needs."""

    code = "ray"
    exit_code = 12


class ServiceError(LremError):
    """The running service cannot take a request, which is not the request's fault."""

    code = "service"
    exit_code = 11


class Overloaded(ServiceError):
    """A queue is full."""

    code = "overloaded"
    retryable = True


class ShuttingDown(ServiceError):
    """The service is about to end, and takes nothing more."""

    code = "shutting_down"
    retryable = True


class SearchError(LremError):
    """OpenSearch answered with an error, or not at all."""

    code = "search"
    exit_code = 6


class SearchUnavailable(SearchError):
    """No connection, or a 5xx answer."""

    code = "search_unavailable"
    retryable = True


class SearchTimeout(SearchError):
    """OpenSearch did not answer in time."""

    code = "search_timeout"
    retryable = True


class SearchRejected(SearchError):
    """OpenSearch pushed back (429).

    Args:
        message: What was rejected.
        retry_after_s: What the ``Retry-After`` header asked for, in seconds, if it was there.
        hint: What to do about it.
    """

    code = "search_rejected"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class AccessDenied(SearchError):
    """The credentials are missing, wrong, or not allowed to do this (401, 403)."""

    code = "access_denied"


class IndexMissing(SearchError):
    """The index or alias does not exist."""

    code = "index_missing"


class IndexMismatch(SearchError):
    """The index was built by another model, another embedded text, or another mapping."""

    code = "index_mismatch"


class RequestRejected(SearchError):
    """OpenSearch refused the request as wrong (400 and the like)."""

    code = "request_rejected"


class Unsupported(SearchError):
    """The server's version or installed plugins lack what was asked for."""

    code = "unsupported"


class IngestIncomplete(SearchError):
    """Some documents could not be ingested; the rest were. The dead-letter file names each."""

    code = "ingest_incomplete"
    exit_code = 7


class PublishIncomplete(SearchError):
    """OpenSearch refused some documents of a report; the others are there."""

    code = "publish_incomplete"
    exit_code = 7
