"""Optional packages: imported where first needed, with an error that says what to install."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lrem_os.errors import DependencyMissing


def require(module: str, *, extra: str) -> ModuleType:
    """Return the imported module.

    Args:
        module: Import name, for example ``torch``.
        extra: The extra of lrem-os that installs it, for example ``model``.

    Raises:
        DependencyMissing: The package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or module.split(".")[0] != exc.name.split(".")[0]:
            raise  # the package is there, one of its own needs is not: its message says more than ours
        raise DependencyMissing(
            f"the package {module.split('.')[0]!r} is not installed", hint=f"pip install 'lrem-os[{extra}]'"
        ) from exc
