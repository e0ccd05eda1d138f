"""Read the commands out of the documentation: what is run by the tests, how, and what is not run and why.

A fenced block of bash, sh, console or python is a command. In front of it, invisible on the page, may stand::

    <!-- not run: why -->          it is not; this program prints all of these, and CI does too
    <!-- ends with 3 -->           its exit code is 3
    <!-- file: shop.yaml -->       of a block in any language: it is written to this file
    <!-- prints -->                of a text block: the command before printed these lines; … stands for anything
    <!-- first                     commands that the page needs and does not show
    lrem-os ingest catalog.jsonl
    -->

``python scripts/doc_blocks.py [PAGE…]`` lists what is not run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("bash", "sh", "console", "python")
# What a test of their own runs, or what is made of what ran: the help of the commands, the errors of evaluation.
ELSEWHERE = ("docs/cli.md", "docs/errors-eval.md", "docs/config.md", "docs/errors.md")

_PART = re.compile(
    r"^<!--[ ](?P<comment>.*?)[ \n]?-->[ ]*$"
    r"|^(?P<fence>`{3,})(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ ]*$"
    r"|^(?P<prose>\S)",
    flags=re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"(not run|ends with|file|prints|first)\b:?\s*(.*)", flags=re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Args:
        page: Path from the root of the checkout.
        line: Of the fence.
        language: As the fence says; of what the page does not show: bash.
        text: What is inside.
        not_run: Why it is not run; empty: it is.
        exit_code: That it ends with.
        file: To write it to.
        is_output: Whether it is what the block before printed.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    exit_code: int = 0
    file: str = ""
    is_output: bool = False

    @property
    def is_command(self) -> bool:
        """Whether it is run, or would be."""
        return self.language in COMMANDS and not self.file and not self.is_output


def pages() -> list[Path]:
    """Return the pages whose commands are read."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page.relative_to(ROOT).as_posix() not in ELSEWHERE]


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order; a mark counts for the fence that follows it.

    Raises:
        ValueError: A mark stands before no fence, or an unclosed fence.
    """
    return list(_blocks(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")))


def _blocks(page: str, text: str) -> Iterator[Block]:
    marks: dict[str, str] = {}
    for part in _PART.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        if part["comment"] is not None:
            mark = _MARK.fullmatch(part["comment"])
            if mark and mark[1] == "first":
                yield Block(page, line, "bash", mark[2] + "\n")
            elif mark:
                marks[mark[1]] = mark[2].strip()
        elif part["fence"]:
            yield _block(page, line, part["language"], part["text"], marks)
            marks = {}
        elif marks:
            raise ValueError(f"{page}:{line}: a mark ({', '.join(marks)}) stands before no fenced block")


def _block(page: str, line: int, language: str, text: str, marks: dict[str, str]) -> Block:
    return Block(
        page,
        line,
        language,
        text,
        not_run=marks.get("not run", ""),
        exit_code=int(marks.get("ends with", 0)),
        file=marks.get("file", ""),
        is_output="prints" in marks,
    )


def report(chosen: list[Path]) -> str:
    """Return what is not run and why, and how much is."""
    blocks = [block for page in chosen for block in read_blocks(page) if block.is_command]
    left = [block for block in blocks if block.not_run]
    lines = [f"{block.page}:{block.line}: {block.text.splitlines()[0].strip()}\n    {block.not_run}" for block in left]
    return "\n".join([*lines, f"{len(blocks) - len(left)} blocks of commands are run, {len(left)} are not"])


if __name__ == "__main__":
    print(report([Path(name).resolve() for name in sys.argv[1:]] or pages()))
