"""Writing a report: ``report.json``, ``report.md`` and ``report.html`` in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.eval.html.render import render_report
from lrem_os.eval.output import write_whole
from lrem_os.eval.report_file import FILE_NAME
from lrem_os.eval.report_markdown import to_markdown
from lrem_os.extras import require


def check_folder(folder: str | Path) -> None:
    """Make the folder, and find out before an evaluation what would be missing after it.

    Raises:
        DatasetError: The folder cannot be made or written to.
        DependencyMissing: jinja2 is not installed.
    """
    require("jinja2", extra="eval")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise DatasetError(
            f"no report can be written there: {exc.strerror or exc}",
            path=folder,
            hint="name another folder: --report DIR",
        ) from exc


def write_report(report: Mapping[str, Any], folder: str | Path) -> tuple[Path, ...]:
    """Write a report in all its forms and return the files.

    Args:
        report: See ``lrem_os.eval.report.to_dict``.
        folder: Made if it is not there; a report in it is replaced.

    Raises:
        DatasetError: A file cannot be written.
        DependencyMissing: jinja2 is not installed.
    """
    page = render_report(report)
    files = {
        FILE_NAME: orjson.dumps(dict(report), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        "report.md": to_markdown(report).encode(),
        "report.html": page.encode(),
    }
    for name, data in files.items():
        write_whole(Path(folder) / name, data)
    return tuple(Path(folder) / name for name in files)
