"""Settings in, embedder out: the only place that picks a backend."""

from __future__ import annotations

from lrem_os.config import ModelSettings
from lrem_os.errors import ConfigError
from lrem_os.extras import require
from lrem_os.types import Embedder

_FAKE = "fake:"
_MAX_DIMENSION = 16_000  # what a k-NN field takes, OpenSearch 3.6


def load_embedder(settings: ModelSettings) -> Embedder:
    """Return the configured embedder; its files are fetched first if they are not here.

    Raises:
        ConfigError: The name is none of the forms, or a setting does not fit the model.
        DependencyMissing: The extra ``model`` is not installed.
        ModelError: The model could not be fetched or loaded.
    """
    if settings.name.startswith(_FAKE):
        from lrem_os.model.fake import FakeEmbedder

        return FakeEmbedder(_fake_dimension(settings.name))
    for package in ("torch", "transformers"):
        require(package, extra="model")
    from lrem_os.model import hf_load, store

    return hf_load.load_hf(store.resolve(settings.name, settings.revision), settings)


def _fake_dimension(name: str) -> int:
    digits = name.removeprefix(_FAKE)
    if not digits.isdecimal() or not 1 <= int(digits) <= _MAX_DIMENSION:
        raise ConfigError(
            f"model.name is {name!r}: after 'fake:' comes the dimension, 1 to {_MAX_DIMENSION}",
            hint="for example fake:64",
        )
    return int(digits)
