from __future__ import annotations

import pytest

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import DataFile, parse_queries
from lrem_os.types import Query


def read(text: str) -> tuple[Query, ...]:
    numbered = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return parse_queries(DataFile("topics", "", tuple(numbered)))


CLASSIC = """<top>

<num> Number: 301
<title> International Organized
Crime &amp; Law

<desc> Description:
Identify organizations that participate in crime.
<narr> Narrative:
A relevant document must name <b>one</b>.
</top>
<top>
<head> Tipster Topic Description
<num> Number:  002
<title> Topic:  Acquisitions
<desc> x
</top>
"""


def test_classic_topics() -> None:
    assert read(CLASSIC) == (Query("301", "International Organized Crime & Law"), Query("002", "Acquisitions"))


@pytest.mark.parametrize(
    "text",
    [
        "<top><num>7</num><title>red bag</title></top>",
        '<?xml version="1.0"?>\n<topics>\n<topic number="7">\n<query>red bag</query>\n<q>no</q></topic>\n</topics>',
        '<topics task="x"><topic id="7">\n  red\n  bag\n</topic></topics>',
        "<topics><topic><num>Number: 7</num><title>red bag</title></topic></topics>",
        "<queries><query><id>7</id><text>red <![CDATA[bag]]></text></query></queries>",
    ],
)
def test_xml_topics(text: str) -> None:
    assert read(text) == (Query("7", "red bag"),)


BOMB = '<?xml version="1.0"?>\n<!DOCTYPE t [<!ENTITY a "x"><!ENTITY b "&a;&a;">]>\n<t><topic id="1">&b;</topic></t>'


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        (BOMB, "topics:2", "has a document type (DTD), which is refused"),
        ('<top>\n<!ENTITY x SYSTEM "file:///etc/passwd">\n<num> 1 <title> &x;\n</top>', "topics:2", "(DTD)"),
        ('<topics>\n\n<topic id="1"><title>a</topic></topics>', "topics:3", "broken XML: mismatched tag"),
        ('<topics><topic id="1">&x;</topic></topics>', "topics:1", "broken XML: undefined entity"),
        ('<topics>\n<topic id="1"><summary>a</summary></topic>\n</topics>', "topics:2", "no title; it has id, summary"),
        ("<top>\n<title> a\n</top>", "topics:1", "no number; it has title"),
        ("<topics></topics>", "topics", "no topic in the file"),
        ("<top>\n<num> 1 <title> a\n</top>\n<top>\n<num> 1 <title> b\n</top>", "topics:4", "query id '1' is already"),
    ],
)
def test_a_topic_that_cannot_be_used_is_named(text: str, where: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{where}: ")
    assert message in str(caught.value)
