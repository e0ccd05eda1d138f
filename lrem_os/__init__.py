"""lrem-os: reasoning-then-embedding search for OpenSearch.

``ingest``, ``query_plugin`` and ``eval`` lie beside this folder in a checkout and inside it in a wheel; both are
imported as ``lrem_os.ingest`` and so on. Nothing heavy is imported here: the public names load when first used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if not (Path(__file__).parent / "ingest").exists() and (Path(__file__).parents[1] / "ingest" / "__init__.py").exists():
    __path__.append(str(Path(__file__).parents[1]))  # a checkout: find the folders beside this one

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lrem_os.api import connect as connect
    from lrem_os.api import evaluate as evaluate
    from lrem_os.api import ingest_catalog as ingest_catalog
    from lrem_os.api import open_retriever as open_retriever
    from lrem_os.api import search as search_products
    from lrem_os.config import Settings as Settings
    from lrem_os.config import load_settings as load_settings
    from lrem_os.errors import LremError as LremError
    from lrem_os.model.load import load_embedder as load_embedder

_EXPORTS = {
    "LremError": ("lrem_os.errors", "LremError"),
    "Settings": ("lrem_os.config", "Settings"),
    "connect": ("lrem_os.api", "connect"),
    "evaluate": ("lrem_os.api", "evaluate"),
    "ingest_catalog": ("lrem_os.api", "ingest_catalog"),
    "load_embedder": ("lrem_os.model.load", "load_embedder"),
    "load_settings": ("lrem_os.config", "load_settings"),
    "open_retriever": ("lrem_os.api", "open_retriever"),
    "search_products": ("lrem_os.api", "search"),
}
__all__ = ["__version__", *sorted(_EXPORTS)]  # noqa: PLE0604 - names are checked by tests/test_public_api.py


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'lrem_os' has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
