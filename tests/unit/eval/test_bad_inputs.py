"""Forty-odd broken files, each through the real command line: its exit code and its words are in docs/errors-eval.md.

``LREM_OS_REGEN=1`` writes the page anew; the test compares what is printed now with what the page says.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lrem_os.cli import main

PAGE = Path(__file__).parents[3] / "docs" / "errors-eval.md"

QUERIES = '{"qid": "q1", "query": "red bag"}\n{"qid": "q2", "query": "sofa"}\n'
QRELS = "q1 0 a 2\nq2 0 b 1\n"
RUN = "q1 Q0 a 1 9.0 x\nq2 Q0 b 1 8.0 x\n"
CLICKS = "query,doc_id,position,clicked\nbag,a,1,1\n"
EVAL = "eval --runs run.trec --queries q.jsonl --qrels qrels.txt"
CLICK = "eval clicks clicks.csv --out out.txt"
CONVERT = "eval convert export.json --out out.txt"
JUDGE = (
    "eval judge --queries q.jsonl --candidates run.trec --catalog c.jsonl --url http://127.0.0.1:9/v1 --model m"
    " --out judged.txt --dry-run"
)
POOL = "eval pool --runs run.trec --queries q.jsonl --out sheet.csv"
BOMB = '<!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n<topics><topic id="1">&b;</topic></topics>\n'


@dataclass(frozen=True)
class Case:
    """A command that must fail: what is broken, the command, the files that differ from sound ones."""

    what: str
    command: str = EVAL
    files: dict[str, str | bytes] = field(default_factory=dict)


def run(text: str) -> dict[str, str | bytes]:
    return {"run.trec": text}


CASES = (
    # runs
    Case("a run file that is not there", EVAL.replace("run.trec", "runs/none.trec")),
    Case("an empty run file", files=run("")),
    Case("a run line of five columns", files=run("q1 Q0 a 1 9.0\n")),
    Case("a score that is no number", files=run("q1 Q0 a 1 9.0 x\nq1 Q0 b 2 high x\n")),
    Case("a score that is NaN", files=run("q1 Q0 a 1 nan x\n")),
    Case("a document twice in one ranking", files=run(RUN + "q1 Q0 a 3 7.0 x\n")),
    Case("a run that is not UTF-8", files=run(b"q1 Q0 caf\xe9 1 9.0 x\n")),  # type: ignore[arg-type]
    Case("a run whose gzip is cut off", files=run(gzip.compress(RUN.encode() * 99, mtime=0)[:-20])),  # type: ignore[arg-type]
    Case("a run of other queries", files=run("other Q0 a 1 9.0 x\n")),
    Case("a name that is no run", EVAL.replace("run.trec", "bm52")),
    Case("two runs of one name", EVAL.replace("run.trec", "run.trec,old/run.trec")),
    Case("a baseline that is none of the runs", EVAL + " --baseline direct"),
    Case("a measure that does not exist", EVAL + " --measures ndgc@10"),
    # judgments
    Case("a qrels line of three columns", files={"qrels.txt": "q1 0 a 2\nq1 b 1\n"}),
    Case("a negative grade", files={"qrels.txt": "q1 0 a -1\n"}),
    Case("a grade with a fraction", files={"qrels.txt": '{"qid": "q1", "doc_id": "a", "grade": 0.5}\n'}),
    Case("a pair judged twice", files={"qrels.txt": QRELS + "q1 0 a 0\n"}),
    Case("no relevant document for any query", files={"qrels.txt": "q1 0 a 0\nq2 0 b 0\n"}),
    Case("judgments of other queries", files={"qrels.txt": "x 0 a 1\n"}),
    Case("a judging sheet that nobody filled in", files={"qrels.txt": "qid,query,doc_id,grade\nq1,red bag,a,\n"}),
    Case("a CSV with an open quote", files={"qrels.txt": 'query,docid,rating\n"red bag,a,2\n'}),
    Case("a CSV row with too many cells", files={"qrels.txt": "query,docid,rating\nbag, red,a,2\n"}),
    Case("a JSON document of another tool", CONVERT, {"export.json": '{"queries": 7}'}),
    Case(
        "a Workbench rating that is no number",
        CONVERT,
        {"export.json": '{"judgmentRatings": [{"query": "x", "ratings": [{"docId": "a", "rating": "good"}]}]}'},
    ),
    Case(
        "ratings from 0 to 1 taken for grades",
        CONVERT,
        {"export.json": '{"judgmentRatings": [{"query": "x", "ratings": [{"docId": "a", "rating": "0.7"}]}]}'},
    ),
    # queries and logs
    Case("a queries file that is a folder", EVAL.replace("q.jsonl", ".")),
    Case("broken JSON", files={"q.jsonl": '{"qid": "q1", "query": \n'}),
    Case("a query without a text", files={"q.jsonl": '{"qid": "q1", "query": " "}\n'}),
    Case("ids under another name", files={"q.jsonl": '{"id": "q1", "query": "bag"}\n'}),
    Case("one id for two texts", files={"q.jsonl": QUERIES + '{"qid": "q1", "query": "chair"}\n'}),
    Case("a frequency of none", files={"q.jsonl": '{"qid": "q1", "query": "bag", "frequency": 0}\n'}),
    Case("a TSV line without a tab", files={"q.jsonl": "q1\tred bag\nsofa\n"}),
    Case("a column that is not there", EVAL + " --columns qid=id", {"q.jsonl": "qid,query\nq1,bag\n"}),
    Case("a mapping of a name we do not have", EVAL + " --columns id=qid"),
    Case("a topic without a title", files={"q.jsonl": "<top>\n<num> Number: 301\n</top>\n"}),
    Case("topics with entities of their own", files={"q.jsonl": BOMB}),
    Case("XML that is not well-formed", files={"q.jsonl": "<topics>\n<topic number='1'><query>a</topic>\n</topics>\n"}),
    Case("a window of time that is none", "eval queries ubi:lately --out out.jsonl"),
    Case("hashed ids without a key", "eval queries q.jsonl --hash-ids --out out.jsonl"),
    # clicks
    Case("a click log without a header", CLICK, {"clicks.csv": "bag,a,1,1\n"}),
    Case("a position of 0", CLICK, {"clicks.csv": CLICKS + "bag,b,0,0\n"}),
    Case(
        "more clicks than impressions", CLICK, {"clicks.csv": "query,doc_id,position,impressions,clicks\nb,a,1,2,3\n"}
    ),
    Case("a click log without clicks", CLICK, {"clicks.csv": "query,doc_id,position,clicked\nbag,a,1,0\n"}),
    Case("too few impressions for any judgment", CLICK),
    Case("thresholds that fall", CLICK + " --thresholds 2,1"),
    # judging and pooling
    Case("a catalog that is no JSONL", JUDGE, {"c.jsonl": "id,title\na,Bag\n"}),
    Case("candidates that the catalog lacks", JUDGE, {"c.jsonl": '{"id": "z", "title": "Bag"}\n'}),
    Case("candidates of other queries", JUDGE, run("x Q0 a 1 9.0 x\n")),
    Case("a damaged cache of the judge", JUDGE, {"judged.txt.answers.jsonl": "not JSON\n"}),
    Case("a judge that does not answer", JUDGE.removesuffix(" --dry-run")),
    Case("a mode in the place of a run file", POOL.replace("run.trec", "bm25")),
    Case("an output in a folder that cannot be made", POOL.replace("sheet.csv", "q.jsonl/sheet.csv")),
    # configuration
    Case("a configuration that is no YAML", EVAL + " -c bad.yaml", {"bad.yaml": "eval:\n  top_k: [1\n"}),
    Case("a key that does not exist", EVAL + " -c bad.yaml", {"bad.yaml": "eval:\n  topk: 10\n"}),
    Case("a value of another kind", EVAL + " --set eval.top_k=many"),
    Case("a configuration that is not there", EVAL + " -c none.yaml"),
)


def invoke(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return exit code and standard error of the command, run as the installed program is."""
    sound: dict[str, str | bytes] = {"q.jsonl": QUERIES, "qrels.txt": QRELS, "run.trec": RUN, "clicks.csv": CLICKS}
    sound |= {"c.jsonl": '{"id": "a", "title": "Red bag"}\n', "export.json": "{}"}
    for name, data in (sound | case.files).items():
        Path(name).write_bytes(data.encode() if isinstance(data, str) else data)
    monkeypatch.setattr(sys, "argv", ["lrem-os", *case.command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert captured.out == ""
    said = [line for line in captured.err.split("\n") if line.startswith(("error:", "Error:", "  →"))]
    return int(ended.value.code or 0), "\n".join(said)


@pytest.fixture(scope="module")
def seen() -> dict[str, tuple[int, str]]:
    return {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_broken_input_is_told_in_the_words_of_the_page(
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seen: dict[str, tuple[int, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LREM_OS_") and name != "LREM_OS_REGEN"]:
        monkeypatch.delenv(name)
    code, said = invoke(case, monkeypatch, capsys)
    assert code not in (0, 1), said
    assert "Traceback" not in said
    assert "a bug in lrem-os" not in said
    assert not [path.name for path in tmp_path.rglob("*.part")]
    seen[case.what] = (code, said)
    if not os.environ.get("LREM_OS_REGEN"):
        assert masked(section(case, code, said)) in masked(PAGE.read_text(encoding="utf-8"))


def test_the_page_holds_these_cases_and_no_others(seen: dict[str, tuple[int, str]]) -> None:
    if len(seen) < len(CASES):
        pytest.skip("some of the cases did not run")
    page = to_page(seen)
    if os.environ.get("LREM_OS_REGEN"):
        PAGE.write_text(page, encoding="utf-8")
    assert masked(PAGE.read_text(encoding="utf-8")) == masked(page)


def masked(text: str) -> str:
    """Return the page without the words of parsers and of the network: other versions have others."""
    return re.sub(
        r"(broken \w+|not valid YAML|cannot be reached|eval\.top_k is 'many'|keys of eval): .*", r"\1: …", text
    )


def section(case: Case, code: int, said: str) -> str:
    text = "\n".join("    " + line for line in said.split("\n"))
    return f"### {case.what[0].upper()}{case.what[1:]}\n\n`lrem-os {case.command}` → {code}\n\n{text}\n"


def to_page(seen: dict[str, tuple[int, str]]) -> str:
    rows = "".join(f"| [{case.what}](#{anchor(case.what)}) | {seen[case.what][0]} |\n" for case in CASES)
    return (
        "<!-- Generated by LREM_OS_REGEN=1 pytest tests/unit/eval/test_bad_inputs.py: edit the cases there. -->\n\n"
        "# When an evaluation's input is broken\n\n"
        "What the command line prints, word for word, for each of these inputs: a test runs them all. Messages name the"
        " file, the line, the value and what to do; nothing is written, no traceback is shown.\n\n"
        "| exit code | means |\n|---|---|\n"
        "| 2 | the command line or the configuration |\n"
        "| 3 | a file, a line of it, or a value in it |\n"
        "| 4 | a model: the judge did not answer |\n"
        "| 6 | OpenSearch |\n"
        "| others | [errors.md](errors.md) |\n\n"
        f"| input | exit code |\n|---|---|\n{rows}\n" + "\n".join(section(case, *seen[case.what]) for case in CASES)
    )


def anchor(text: str) -> str:
    return "".join(char for char in text.lower().replace(" ", "-") if char.isalnum() or char == "-")
