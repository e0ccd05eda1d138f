"""What mkdocs does beside building docs/: pages elsewhere in the checkout take part under a name of their own.

The pages are written for the repository, where README.md is the front page and links lead to any file of it. On the
site links between pages stay links; a link to a file that is no page of the site becomes its path, as text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # in the checkout: on the site
    "README.md": "index.md",
    "CHANGELOG.md": "project/changes.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "SECURITY.md": "project/security.md",
}
_PATTERN = re.compile(r"(?<= )(\^\S+\$)(?= )")  # in a table of docs/config.md; [a-z] is no reference to a page
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for source, target in PAGES.items():
        if (ROOT / source).exists():
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Lead the links of a page, which are those of the repository, to pages of the site."""
    src = page.file.src_uri
    here = next((source for source, target in PAGES.items() if target == src), f"docs/{src}")
    return _LINK.sub(lambda link: _led(link, here, src, files), _PATTERN.sub(r"`\1`", markdown))


def _led(link: re.Match[str], here: str, src: str, files: Files) -> str:
    mark, text, path, anchor = link[1], link[2], link[3], link[4] or ""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
    on_site = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else "")
    if files.get_file_from_path(on_site):
        return f"{mark}[{text}]({posixpath.relpath(on_site, posixpath.dirname(src) or '.')}{anchor})"
    if (ROOT / target).exists():
        return f"{text} (`{target}`)"
    return link[0]  # leads nowhere: mkdocs says so
