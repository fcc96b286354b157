"""Records: JSON Lines, CSV and TSV, compared with Python's own readers and writers of them."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import read
from semsearch.corpus.walk import SourceFile
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

FEW = settings(max_examples=60, deadline=None)


def documents(path: Path, **options: Any) -> list[Document]:
    file = SourceFile(path, path.name, path.stat().st_size, 0)
    return list(read(file, ReadOptions(**options)))


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        documents(path, **options)
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson"])
def test_json_lines_find_the_usual_fields_in_any_case(tmp_path: Path, name: str) -> None:
    lines = [
        {"id": 7, "Headline": "One", "Body": "first\nsecond", "year": 2020},
        {"Abstract": ["a sentence.", "another."], "text": None, "n": None},
        {"content": "c", "description": "d", "name": None},
    ]
    path = written(tmp_path, name, "\n\n".join(map(json.dumps, lines)))
    found = documents(path)
    assert [(d.title, d.text, d.metadata) for d in found] == [
        ("One", "first\nsecond", {"id": 7, "_id": 7, "year": 2020}),
        ("", "", {"Abstract": ["a sentence.", "another."], "n": None}),
        ("", "c", {"description": "d"}),
    ]
    assert [list(d.line_numbers or ()) for d in found] == [[1, 1], [3], [5]]


def test_json_lines_take_the_fields_that_options_name(tmp_path: Path) -> None:
    path = written(tmp_path, "x.jsonl", json.dumps({"text": "no", "q": "yes", "t": 5, "key": "k"}))
    (document,) = documents(path, text_field="q", title_field="t", id_field="key")
    assert (document.text, document.title) == ("yes", "5")
    assert document.metadata == {"text": "no", "key": "k", "_id": "k"}
    assert refusal(path, text_field="w") == 'line 1 has no field "w", only "text", "q", "t", "key"'
    assert refusal(path, title_field="w").startswith('line 1 has no field "w"')
    assert refusal(path, id_field="w").startswith('line 1 has no field "w"')


def test_json_lines_say_what_is_wrong_and_where_before_the_first_document(tmp_path: Path) -> None:
    good = json.dumps({"text": "good"}).encode() + b"\n"
    cases = {
        b"{broken": "line 2 is not JSON in UTF-8",
        b'{"text": "\xff"}': "line 2 is not JSON in UTF-8",
        b"[1]": "line 2 is not a JSON object",
        b'{"foo": 1, "bar": 2}': 'line 2 has no text among its fields "foo", "bar": give --text-field',
        b'{"text": {"a": 1}}': 'line 2: the field "text" is no text but a JSON object: '
        "give --text-field or --title-field",
        b'{"text": "x", "deep": ' + b"[" * 200 + b"]" * 200 + b"}": "line 2 is nested more than 100 deep",
        b'{"text": "x", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "line 2 is nested more than 100 deep",
        b'{"text": "x", "n": ' + b"9" * 5000 + b"}": "line 2 is not JSON in UTF-8",
    }
    for line, reason in cases.items():
        path = written(tmp_path, "x.jsonl", good + line)
        file = SourceFile(path, path.name, path.stat().st_size, 0)
        with pytest.raises(UnreadableFileError) as caught:
            next(iter(read(file, ReadOptions())))
        assert str(caught.value) == reason
    assert refusal(written(tmp_path, "x.jsonl", '\n{"text": " "}\n')) == "empty"


def test_metadata_are_json_that_can_be_stored(tmp_path: Path) -> None:
    line = r'{"text": "a\ud800b", "x": [NaN, Infinity, -Infinity, 1e999, 1.5], "k\udfff": "\ud83d\ude42"}'
    (document,) = documents(written(tmp_path, "x.jsonl", "\ufeff" + line))
    assert document.text == "a\ufffdb"
    assert document.metadata == {"x": [None, None, None, None, 1.5], "k\ufffd": "🙂"}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def finite(value: Any) -> Any:
    """The value as JSON that has no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    return {key: finite(item) for key, item in value.items()} if isinstance(value, dict) else value


@FEW
@given(st.lists(st.tuples(st.text(min_size=1), st.text(), JSON_VALUES), min_size=1, max_size=5), st.booleans())
def test_json_lines_round_trip(folder: Path, rows: list[tuple[str, str, Any]], ascii_only: bool) -> None:
    rows[0] = ("some text", *rows[0][1:])
    lines = [json.dumps({"text": a, "title": b, "more": c}, ensure_ascii=ascii_only) for a, b, c in rows]
    found = documents(written(folder, "x.jsonl", "\r\n".join(lines)))
    assert [(d.text, d.title, d.metadata) for d in found] == [
        (a if a.strip() else b, b, {"more": finite(c)}) for a, b, c in rows
    ]
    for number, document in enumerate(found, 1):
        assert list(document.line_numbers or ()) == [number] * (document.text.count("\n") + 1)


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12) | st.sampled_from(
    ['say "hi"', "a,b", "a;b\tc|d", "two\nlines", "\n\nthree\n", "日本", "'", '"', " ", "=1+1"]
)


@FEW
@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_round_trips_and_knows_its_lines(
    folder: Path, rows: list[list[str]], delimiter: str, line_end: str, quoting: Any
) -> None:
    # A row of white space alone has nothing to find.
    rows = [["x" + row[0], row[1], row[2]] for row in rows]
    rows = [[cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row] for row in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(["key", "text", "some name"])
    spans, done = [], 2
    for row in rows:
        writer.writerow(row)
        end = out.getvalue().replace("\r\n", "\n").count("\n")
        spans.append((done, end))
        done = end + 1
    path = written(folder, "x.csv", out.getvalue())
    found = documents(path, id_field="key", title_field="some name")
    title = [" ".join(row[2].split()) for row in rows]
    assert [d.text for d in found] == [row[1] if row[1].strip() else t for row, t in zip(rows, title, strict=True)]
    assert [d.title for d in found] == title
    assert [d.metadata["_id"] for d in found] == [row[0] for row in rows]
    lines = out.getvalue().replace("\r\n", "\n").split("\n")
    for document, row, (first, last) in zip(found, rows, spans, strict=True):
        numbers = list(document.line_numbers or ())
        assert len(numbers) == document.text.count("\n") + 1
        assert first <= numbers[0] <= numbers[-1] <= last
        if row[1].strip():
            for number, line in zip(numbers, row[1].split("\n"), strict=True):
                assert line.replace('"', '""') in lines[number - 1] or line in lines[number - 1]


def test_a_csv_without_a_text_column_is_searchable_by_all_of_it(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "x.csv",
        'Name,price,,price\nChair,9.5,"oak\nwood",\n\nDesk,10,,7,extra\nLamp,,,\n,,,\n'.encode("utf-16"),
    )
    found = documents(path)
    assert [(d.title, d.text) for d in found] == [
        ("Chair", "Name: Chair\nprice: 9.5\ncolumn 3: oak\nwood"),
        ("Desk", "Name: Desk\nprice: 10\nprice 2: 7\ncolumn 5: extra"),
        ("Lamp", "Name: Lamp"),
    ]
    assert [list(d.line_numbers or ()) for d in found] == [[2, 2, 2, 3], [5, 5, 5, 5], [6]]
    assert found[0].metadata == {"Name": "Chair", "price": 9.5, "column 3": "oak\nwood", "price 2": None}
    assert found[1].metadata == {"Name": "Desk", "price": 10, "column 3": "", "price 2": 7, "column 5": "extra"}
    assert found[2].metadata["price"] is None


def test_csv_options_name_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", "text;b;c\nno;yes;007\n")
    (document,) = documents(path, text_field="b", id_field="c")
    assert (document.text, document.title) == ("yes", "")
    assert document.metadata == {"text": "no", "c": "007", "_id": "007"}
    assert refusal(path, text_field="B") == 'the header has no field "B", only "text", "b", "c"'


@pytest.mark.parametrize(
    ("name", "content", "cells"),
    [
        ("x.csv", "a;b,c;d\n1;2,5;3\n2;3,5;4\n", ["1", "2,5", "3"]),
        ("x.csv", "a,b\n1,x; y; z\n", ["1", "x; y; z"]),
        ("x.csv", "a|b\n1|x, y\n2|z, y, w\n", ["1", "x, y"]),
        ("x.tsv", "a,b,c\td\n1,2,3\t4\n", ["1,2,3", "4"]),
        ("x.csv", "a\nx, y; z\n", ["x, y; z"]),
        ("x.tsv", 'a\tb\n1\t"quote\n2\tof" two\n', ["1", '"quote']),
        ("x.tsv", 'a\tb\n1\t"quote\n2\tnever closed\n', ["1", '"quote']),
        ("x.tsv", 'a\tb\n1\t"two\nlines"\n2\t3\n', ["1", "two\nlines"]),
        ("x.tsv", 'a\tb\n1\t"said ""so"""\n', ["1", 'said "so"']),
    ],
)
def test_delimiters_and_quotes_are_told(tmp_path: Path, name: str, content: str, cells: list[str]) -> None:
    (document, *_) = documents(written(tmp_path, name, content))
    assert [str(value) for value in document.metadata.values()] == cells


def test_broken_csv_says_what_is_wrong(tmp_path: Path) -> None:
    cases = {
        'a,b\n1,2\n3,"open\n4,5\n': "line 3: a quote opens in this row and never closes",
        "a,b\n\n": "a header without a row under it",
        " \n": "empty",
        ",,\n": "empty",
    }
    for content, reason in cases.items():
        assert refusal(written(tmp_path, "x.csv", content)) == reason


def test_giant_tables_are_read(tmp_path: Path) -> None:
    giant = "word " * 1_000_000
    (document,) = documents(written(tmp_path, "x.csv", f'id,text\n1,"{giant}"\n'))
    assert document.text == giant
    wide = [f"column{i}" for i in range(100_000)]
    found = documents(written(tmp_path, "x.csv", "\n".join([",".join(wide), ",".join(wide), "," * 99_999 + "x"])))
    assert [len(d.metadata) for d in found] == [100_000] * 2
    assert found[1].text == "column99999: x"
    (document,) = documents(written(tmp_path, "x.jsonl", json.dumps({"text": giant, "x": list(range(100_000))})))
    assert document.text == giant
