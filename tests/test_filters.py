"""The filter language: what it selects by oracles of the tests' own and by git, and its SQL by what it selects."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from semsearch.errors import InvalidInputError
from semsearch.store.filter_syntax import parse_filter
from semsearch.store.filters import DocumentFields, Filter, register


def nanoseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def local(*parts: int) -> int:
    """A local time, by way of the C library instead of datetime's arithmetic."""
    padded = (*parts, *(1, 1, 1, 0, 0, 0)[len(parts) :])
    return int(time.mktime((*padded, 0, 0, -1))) * 10**9


def database(documents: Sequence[DocumentFields]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        "CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT, mtime_ns INTEGER);"
        "CREATE TABLE documents (id INTEGER PRIMARY KEY, file_id INTEGER, metadata TEXT);"
    )
    register(connection)
    for i, fields in enumerate(documents):
        connection.execute("INSERT INTO files VALUES (?, ?, ?)", (i, fields.path, fields.mtime_ns))
        connection.execute("INSERT INTO documents VALUES (?, ?, ?)", (i, i, json.dumps(fields.metadata)))
    return connection


def by_sql(wanted: Filter, documents: Sequence[DocumentFields]) -> list[bool]:
    condition, values = wanted.where()
    connection = database(documents)
    statement = f"SELECT {condition} FROM documents d JOIN files f ON f.id = d.file_id ORDER BY d.id"
    rows = connection.execute(statement, values).fetchall()
    statement = f"SELECT d.id FROM documents d JOIN files f ON f.id = d.file_id WHERE d.id >= 0 AND {condition}"
    ids = {row[0] for row in connection.execute(statement, values)}
    connection.close()
    assert all(row in ((0,), (1,)) for row in rows), rows
    assert ids == {i for i, row in enumerate(rows) if row[0]}
    return [bool(row[0]) for row in rows]


def selected(text: str, documents: Sequence[DocumentFields]) -> list[bool]:
    wanted = parse_filter(text)
    found = [wanted.matches(fields) for fields in documents]
    assert by_sql(wanted, documents) == found, text
    return found


# --- Examples --------------------------------------------------------------------------------------------------------

DOCUMENTS = {
    "readme": DocumentFields("README.md", local(2025, 12, 31, 23, 59, 59), {}),
    "guide": DocumentFields(
        "docs/guide.md",
        local(2026, 3, 1, 12),
        {
            "author": "Jane Doe",
            "year": 2026,
            "draft": True,
            "tags": ["Python", "c*"],
            "book": {"isbn": "0-19", "of": 3},
        },
    ),
    "api": DocumentFields(
        "docs/api/v1.MD",
        local(2026, 3, 1, 12) - 1,
        {
            "author": "jane doe",
            "year": "2026",
            "draft": False,
            "tags": [],
            "version": 1.2,
            "path": "x",
            "a b": {'"': 1},
        },
    ),
    "paper": DocumentFields(
        "papers/öl [1].tar.gz",
        local(2026, 1, 1),
        {
            "author": None,
            "date": "2026-02-11",
            "city": "Straße",
            "people": [{"name": "Ann"}, {"name": "Bo"}],
            "big": 10**400,
            "x.y": 1,
        },
    ),
    "makefile": DocumentFields(
        "src/Makefile", local(1971, 1, 1), {"year": math.nan, "score": math.inf, "tags": [None]}
    ),
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("path:*.md", "readme guide"),
        ("path:*", "readme guide api paper makefile"),
        ("path:guide.md", "guide"),
        ("path:/guide.md", ""),
        ("path:/README.md", "readme"),
        ("path:docs/", "guide api"),
        ("path:docs/**", "guide api"),
        ("path:docs/*", "guide"),
        ("path:docs/**/*.[mM][dD]", "guide api"),
        ("path:**/v?.MD", "api"),
        ("path:v?.MD", "api"),
        ("path:docs", ""),
        ("path:api/", ""),
        ("path:**/api/", "api"),
        ("path:?l*", "paper"),
        (r"path:'öl \[1\].*'", "paper"),
        ("path='papers/öl [1].tar.gz'", "paper"),
        ("path:'papers/öl [1].tar.gz'", ""),
        ("path!=README.md", "guide api paper makefile"),
        ("type:md", "readme guide api"),
        ("type:.MD", "readme guide api"),
        ("type=md,gz", "readme guide api paper"),
        ("type:tar.gz", "paper"),
        ("type!=md,gz", "makefile"),
        ("type:makefile", ""),
        ("modified>=2026-01-01", "guide api paper"),
        ("modified > 2026-01-01", "guide api"),
        ("modified<2026", "readme makefile"),
        ("modified<=2026-01-01", "readme paper makefile"),
        ("modified<2026-03-01T12:00", "readme api paper makefile"),
        ("modified:2026", "guide api paper"),
        ("modified=2026-03", "guide api"),
        ("modified:2026-03-01", "guide api"),
        ("modified:2026-03-01T12", "guide"),
        ("modified:'2026-03-01 11:59:59.999999'", "api"),
        ("modified:2026-03-01T11:59:59.9", "api"),
        ("modified!=2026", "readme makefile"),
        ("author:'JANE doe'", "guide api"),
        ('author="Jane Doe"', "guide"),
        ('author!="Jane Doe"', "api"),
        ('not author:"Jane Doe"', "readme paper makefile"),
        ("author:*", "guide api"),
        ("not author:*", "readme paper makefile"),
        ("author:null", ""),
        ("year:2026", "guide api"),
        ("year=2026.0", "guide"),
        ("year>=2025.5", "guide api"),
        ("year<10000", "guide"),  # "2026" is text, and after "10000"
        ("year!=7", "guide api makefile"),
        ("year:NaN", "makefile"),
        ("score>1e308", "makefile"),
        ("big>1e300", "paper"),
        (f"big:1{'0' * 400}", "paper"),
        (f"big<{'9' * 401}", "paper"),
        (f"big<{'9' * 5000}", "paper"),
        ("version<1.2.3", "api"),
        ("version<10", "api"),
        ("date>=2026-02 date<2026-03", "paper"),
        ("city:STRASSE", "paper"),
        ("draft:True", "guide"),
        ("draft=True", "guide"),
        ("draft=false", "api"),
        ("draft:1", ""),
        ("tags:python", "guide"),
        ("tags=python", ""),
        ("tags!=Python", "api makefile"),
        ("tags:'c*'", "guide"),
        ("tags:*", "guide api makefile"),
        ("tags<Q", "guide"),
        ("book.isbn:0-19", "guide"),
        ("book.of>2", "guide"),
        ("book:*", "guide"),
        ("book!=x", "guide"),
        ("book:x", ""),
        ("author.name:x", ""),
        ("people.name:bo", "paper"),
        ("people.name!=Bo", ""),
        ("metadata.path:x", "api"),
        ("metadata.author:*", "guide api"),
        ("metadata:x", ""),
        ('"a b".\'"\':1', "api"),
        (r'"a b"."\"":1', "api"),
        ('"x.y":1', "paper"),
        ("x.y:1", ""),
        ("type:md path:docs/", "guide api"),
        ("type:md AND path:docs/", "guide api"),
        ("type:md or path:src/ year:*", "readme guide api makefile"),
        ("(type:md or path:src/) year:*", "guide api makefile"),
        ("not type:md or draft:true", "guide paper makefile"),
        ("not(type:md or path:src/)", "paper"),
        ("not Not type:md", "readme guide api"),
        ("  ( ( type:md ) )  ", "readme guide api"),
    ],
)
def test_examples(text: str, names: str) -> None:
    found = selected(text, list(DOCUMENTS.values()))
    assert [name for name, yes in zip(DOCUMENTS, found, strict=True) if yes] == names.split()


def test_types_fold_the_letters_that_sqlite_folds() -> None:
    names = ["a.k", "a.K", "a.\N{KELVIN SIGN}", "a.é", "a.É", ".k", "d/.k", "k", "a.kk", "a]k", "d.k/a"]
    documents = [DocumentFields(name, 0, {}) for name in names]
    assert selected("type:K", documents) == [True, True] + 9 * [False]
    assert selected("type:é", documents) == [name == "a.é" for name in names]
    assert not any(selected("type:]k", documents))


def test_days_are_those_of_the_local_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = ZoneInfo("Europe/Berlin")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for day, hours in (((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 7, 1), 24)):
            start = nanoseconds(datetime(*day, tzinfo=zone))
            end = start + hours * 3600 * 10**9
            documents = [DocumentFields("a", at, {}) for at in (start - 1, start, end - 1, end)]
            assert selected(f"modified:{day[0]}-{day[1]:02}-{day[2]:02}", documents) == [False, True, True, False]
        noon = DocumentFields("a", nanoseconds(datetime(2026, 7, 1, 12, tzinfo=zone)), {})
        for text in ("12:00", "12", "10:00Z", "12:00+02:00", "12:00:00+0200"):
            assert selected(f"modified:2026-07-01T{text}", [noon]) == [True]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_metadata_that_is_null_or_no_object_is_missing() -> None:
    connection = database([])
    condition, values = parse_filter("a!=x").where()
    for stored in (None, "null", "[]", "3", '{"a": null}', '{"a": "y", "a": "x"}'):
        row = connection.execute(f"SELECT {condition} FROM (SELECT ? AS metadata) d", (*values, stored))
        assert row.fetchone() == (0,), stored
    connection.close()


# --- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the filter is empty: ''; give a term such as"),
        (" \n", "the filter is empty"),
        ("type:", "the filter 'type:' ends where a value is expected"),
        ("type: md", "the filter 'type: md' has ' ' at character 6 where a value with no space before it is expected"),
        ("draft", "the filter 'draft' ends where one of : = != < <= > >= after the field 'draft' is expected"),
        ("draft x:1", "has ' ' at character 6 where one of : ="),
        ("a :b", "has ' ' at character 2 where one of : ="),
        ("a:b and", "ends where a term such as"),
        ("a:b or )", "has ')' at character 8 where a term such as"),
        ("or a:b", "has 'or' at character 1 where a term such as"),
        ("a:b && c:d", "has ' ' at character 7 where one of : = != < <= > >= after the field '&&' is expected"),
        ("a:b)", "has ')' at character 4 where another term or the end is expected"),
        ("x:1 (a:b", "ends where a ')' to the '(' at character 5 is expected"),
        ("a:and", "has 'and' at character 3 where a value (in quotes, if it is this) is expected"),
        ("a==b", "has '=b' at character 3 where a value (in quotes, if it is this) is expected"),
        ("a=>b", "has '>b' at character 3 where a value"),
        ("a:'b", "ends where the ' that closes the one at character 3 is expected"),
        ("a:'b'c", "has 'c' at character 6 where a space (or quotes around all of the value) is expected"),
        ("path:b(1).md", "has '(1).md' at character 7 where a space (or quotes"),
        ("-type:md", "has '-type:md' at character 1 where a term such as path:*.md, not type:md"),
        ("!type:md", "has '!type:md' at character 1 where a term such as path:*.md, not type:md"),
        ("a.:b", "has ':b' at character 3 where a term such as"),
        ("a:b*", "has 'b*' at character 3 where 'field:*' or a value without *"),
        ("a=*", "has '*' at character 3 where 'field:*' or"),
        ("path<a", "has '<a' at character 5 where path:GLOB, path=PATH or path!=PATH is expected"),
        ("path:a[b", "has 'a[b' at character 6 where a glob ('[' is not closed) is expected"),
        ("path:[]", "'[' is not closed"),
        ("path:[a/b]", "'[' is not closed"),
        ("path:a\\", "a glob (it ends in a backslash) is expected"),
        ("path:a//b", "a glob (it has nothing between two slashes) is expected"),
        ("path:''", "a glob (it is empty) is expected"),
        ("path:[c-a]", "a glob (c-a is backwards) is expected"),
        ("path:[[:digit:]]", "a glob (classes such as [:alpha:] are not known) is expected"),
        ("type>md", "has '>md' at character 5 where type:SUFFIX or type!=SUFFIX is expected"),
        ("type:md, txt", "has 'md,' at character 6 where a suffix such as md, or several such as md,txt is expected"),
        ("type:*.md", "where a suffix such as md"),
        ("type:''", "where a suffix such as md"),
        ("modified>7d", "has '7d' at character 10 where a date or time such as 2026, 2026-03, 2026-03-05 or"),
        ("modified:2026-02-30", "where a date or time"),
        ("modified:2026-2-3", "where a date or time"),
        ("modified:2026-03-05T25:00", "where a date or time"),
        ("modified:2026-03-05T12:00+99:00", "where a date or time"),
        ("modified:٢٠٢٦", "where a date or time"),
        ("modified<9999", "where a date or time"),
        ("modified:*", "where a date or time"),
        ("a:\udc80", "has '\\udc80' at character 3 where valid Unicode is expected"),
        ("x" * 10_001, "the filter has 10,001 characters; at most 10,000 are read"),
        ("(" * 10_000, "has '((((((((((((((((((((((((((((((((((((((((' at character 31, which is more than 30"),
        ("a:b " * 201, "has 'b' at character 803, which is more than 200 terms"),
        ("type:a" + 200 * ",a", "which is more than 200 terms"),
    ],
)
def test_errors_say_where_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_filter(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 450


PIECES = st.sampled_from(
    ["path", "type", "modified", "author", "metadata", ".", ":", "=", "!=", "<", "<=", ">", "(", ")", " ", "and", "or"]
    + [
        "not",
        "'",
        '"',
        "\\",
        "*",
        "**",
        "/",
        "?",
        "[",
        "]",
        "[!",
        "-",
        "2026",
        "-03",
        "T12",
        "md",
        ",",
        "é",
        "\n",
        "\0",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES).map("".join), st.text(st.characters(min_codepoint=0xD800))))
@example("not " * 2500)
@example("not " * 2490 + "a:b")
@example("path:" + "[" * 9000)
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        selected(text, list(DOCUMENTS.values()))


@pytest.mark.parametrize(
    "text",
    [
        " ".join(["not type:md"] * 200),
        " or ".join(["modified:2026"] * 200),
        "type:" + ",".join(["md"] * 200),
        "not (a!=b or not (modified:2026 and " * 15 + "type!=md" + "))" * 15,
        "not (" * 30 + "type!=md or a:b " * 80 + ")" * 30,
    ],
)
def test_the_greatest_filters_fit_into_sqlite(text: str) -> None:
    selected(text, list(DOCUMENTS.values()))
    condition, values = parse_filter(text).where()
    connection = database(list(DOCUMENTS.values()))
    inner = f"SELECT d.id FROM documents d JOIN files f ON f.id = d.file_id WHERE f.id > 0 AND ({condition})"
    statement = f"SELECT * FROM (SELECT id FROM documents WHERE id > 0 AND (id IN ({inner}) OR id < 0))"
    connection.execute(statement, values).fetchall()
    connection.close()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_most_branched_filters_fit_into_sqlite(seed: int) -> None:
    """Groups of every shape, in which each of the 200 terms stands as deep as can be."""
    terms = 200

    def group(depth: int) -> str:
        nonlocal terms, seed
        if depth == 0 or terms <= 1:
            terms -= 1
            return "not type!=md"
        parts = []
        while terms > 0 and len(parts) < 2 + seed % 3:
            seed = (seed * 1103515245 + 12345) % 2**31
            parts.append(group(depth - 1 - seed % 2 if depth > 1 else 0))
        return f"not ({(' and ', ' or ')[depth % 2].join(parts)})"

    condition, values = parse_filter(group(28)).where()
    connection = database([])
    inner = f"SELECT d.id FROM documents d JOIN files f ON f.id = d.file_id WHERE f.id > 0 AND ({condition})"
    connection.execute(f"SELECT * FROM (SELECT id FROM documents WHERE id IN ({inner}))", values).fetchall()
    connection.close()


# --- Globs -----------------------------------------------------------------------------------------------------------

FILES = """README.md a.md b.md ab.md aab.md abab.md .hidden.md b!c.md a]b.md a-b.md a^b.md docs/a.md docs/README.md
docs/api/a.md docs/api/v1/b.md docs/api/v1/b.MD docs/apis/a.md a/b/a/b/c.md a/b/c.md a/c.md b/a/docs/a.md a/a/a/a/a
x*y.md a[1].md a?.md back\\slash.md docs.md docs/docs/docs a,b/c.md a/b.md/c a/b/a/c.md""".split()


@pytest.fixture(scope="module")
def git_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], set[str]]:
    """What git finds by a pathspec in a repository of FILES."""
    git = shutil.which("git")
    if not git:
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("globs")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def run(*arguments: str) -> str:
        done = subprocess.run([git, *arguments], cwd=folder, env=environment, check=True, capture_output=True)
        return done.stdout.decode()

    run("init", "-q")
    run("add", "-A")
    assert set(run("ls-files", "-z").split("\0")) == {*FILES, ""}
    return lambda pathspec: set(filter(None, run("ls-files", "-z", "--", pathspec).split("\0")))


def pathspec(pattern: str) -> str:
    """Our glob as one of git's, which are always from the root and need no slash to stand for what is below."""
    anchored = pattern.removeprefix("/") if "/" in pattern else f"**/{pattern}"
    # Git takes plain characters at the start as they are, for a folder too, and reads `**` after them amiss.
    first = f"[{anchored[0]}]" if anchored[:1].isalnum() else anchored[:1]
    return f":(glob){first}{anchored[1:]}{'**' if pattern.endswith('/') else ''}"


def matching(pattern: str) -> set[str]:
    quoted = pattern.replace("\\", "\\\\").replace("'", "\\'")
    found = selected(f"path:'{quoted}'", [DocumentFields(name, 0, {}) for name in FILES])
    return {name for name, yes in zip(FILES, found, strict=True) if yes}


@pytest.mark.parametrize(
    "pattern",
    r"""*.md *.MD a.md /a.md docs/ docs/** docs/* docs/*.md docs/**/*.md docs/**/a.md **/a.md **/docs/**
    a/**/c.md ** * */ */* */a.md **/b/*/b/* a/**/b/**/c.md a**b.md a** **b.md docs/api**/a.md
    docs/api/**/**/b.md docs/***/b.md *** ?.md ??.md a?b.md [ab].md [!a].md [^a].md [a-c].md []]b.md
    a[]]b.md a[]-]b.md a[!]]b.md a[^-^]b.md a[+-9]b.md a[a-]b.md a\[1].md a[[]1].md x\*y.md a\?.md
    x[*]y.md back\\slash.md back[\\]slash.md a[\]x]b.md a[\--\]]b.md *a*b*.md *ab*ab* *b*a* docs/*/*/b.??
    **/*[0-9]*/* /**/c /docs/a.md /*/a.md **/ docs/**/ a,*/ a/b.md/* a*b.md a[+-9]c.md a[!x]c.md
    **/a/**/b/**/a/c.md **/a/**/b/**/c.md""".split(),
)
def test_globs_are_gits(pattern: str, git_files: Callable[[str], set[str]]) -> None:
    assert matching(pattern) == git_files(pathspec(pattern))


GLOBS = st.lists(
    st.sampled_from(
        ["a", "b", "c", ".md", "docs", "api", "/", "/", "*", "*", "**", "?", "[ab]", "[!a]", "[a-c]", "/**/"]
    )
).map(lambda parts: re.sub("/+", "/", "".join(parts)))


@settings(max_examples=60, deadline=None)
@given(pattern=GLOBS.filter(bool))
def test_any_glob_is_gits(pattern: str, git_files: Callable[[str], set[str]]) -> None:
    assert matching(pattern) == git_files(pathspec(pattern))


@pytest.mark.parametrize(
    "glob", ["*a" * 2000 + "b", "a*" * 2000 + "b", "**/a/" * 1500 + "b", "*/" * 2000 + "b", "**/*a*a*/" * 900 + "b"]
)
def test_no_glob_takes_long(glob: str) -> None:
    wanted = parse_filter(f"path:{glob}")
    start = time.perf_counter()
    for path in ("a" * 4000, "a/" * 2000 + "c", "aaa/" * 1000 + "c", ("a" * 200 + "/") * 20):
        assert not wanted.matches(DocumentFields(path, 0, {}))
    assert time.perf_counter() - start < 5


# --- Any filter over any documents -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A filter as text, how loosely it binds (0 is `or`, 2 a term), and what it should select."""

    text: str
    level: int
    wanted: Callable[[DocumentFields], bool]


def glob_oracle(pattern: str, path: str) -> bool:
    """Globs of `*`, `?`, `**` and plain characters, by trying everything."""

    def name(glob: str, text: str) -> bool:
        if not glob:
            return not text
        if glob[0] == "*":
            return any(name(glob[1:], text[i:]) for i in range(len(text) + 1))
        return bool(text) and glob[0] in ("?", text[0]) and name(glob[1:], text[1:])

    def names(globs: list[str], texts: list[str]) -> bool:
        if not globs:
            return not texts
        if globs == ["**"]:
            return bool(texts)
        if globs[0] == "**":
            return any(names(globs[1:], texts[i:]) for i in range(len(texts) + 1))
        return bool(texts) and name(globs[0], texts[0]) and names(globs[1:], texts[1:])

    if "/" not in pattern:
        return name(pattern, path.split("/")[-1])
    globs = pattern.removeprefix("/").split("/")
    return names([*globs[:-1], globs[-1] or "**"], path.split("/"))


def compare(sign: str, a: Any, b: Any) -> bool:
    return {":": a == b, "=": a == b, "<": a < b, "<=": a < b or a == b, ">": a > b, ">=": a > b or a == b}[sign]


def reached(value: Any, keys: Sequence[str]) -> list[Any]:
    if not keys:
        return [] if value is None else [value]
    return [
        found
        for item in (value if isinstance(value, list) else [value])
        if isinstance(item, dict)
        for found in reached(item.get(keys[0]), keys[1:])
    ]


def metadata_oracle(metadata: Any, keys: Sequence[str], sign: str, value: str) -> bool:
    values = reached(metadata, keys)
    if sign == "!=":
        return bool(values) and not metadata_oracle(metadata, keys, "=", value)
    scalars = [item for one in values for item in (one if isinstance(one, list) else [one])]
    for item in scalars:
        if isinstance(item, bool):
            item, other = json.dumps(item), value.lower()
        elif isinstance(item, float | int):
            try:
                other = json.loads(value, parse_constant=lambda _: "")
            except ValueError:
                other = ""
            if isinstance(other, bool) or not isinstance(other, int | float):
                item, other = json.dumps(item), value
        elif isinstance(item, str):
            item, other = (item.casefold(), value.casefold()) if sign == ":" else (item, value)
        else:
            continue
        if compare(sign, item, other):
            return True
    return False


KEYS = ["author", "tags", "path", "type", "a b", "q\"'", "x.y", "é", "and", "metadata", "-", "\\"]
TEXTS = [
    "Jane",
    "jane",
    "JANE Doe",
    "straße",
    "STRASSE",
    "2026-03-01",
    "2026",
    "1.5",
    "5",
    "true",
    "null",
    "not",
    "",
    "*",
]
TEXTS += ['"', "\\", "\\'", "a\nb", "(x)", "NaN", "-1e3", "9007199254740993", "1" + "0" * 400, "😀"]
SCALARS = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from([0, 5, 2026, -1000, 1.5, 2**53, 2**53 + 1, 10**400, math.nan, math.inf, -0.0, True, False, None]),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.text("aAbé.-]", min_size=1, max_size=5).filter(lambda name: name not in (".", ".."))
SUFFIXED = st.builds(str.__add__, NAMES, st.sampled_from(["", ".md", ".MD", ".txt", ".tar.gz", "\n.md"]))
PATHS = st.builds(lambda folders, name: "/".join([*folders, name]), st.lists(NAMES, max_size=3), SUFFIXED)
BOUNDARIES = [datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 5, 12, 30, 15, 500_000, tzinfo=UTC)]
BOUNDARIES += [datetime(2025, 1, 1, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC)]
TIMES = st.one_of(
    st.builds(
        lambda moment, unit, offset: nanoseconds(moment) + unit * offset,
        st.sampled_from(BOUNDARIES),
        st.sampled_from([1, 10**3, 10**9, 60 * 10**9, 3600 * 10**9, 86400 * 10**9]),
        st.integers(-2, 2),
    ),
    st.sampled_from([-(2**63), 2**63 - 1]),
)
FIELDS = st.builds(DocumentFields, PATHS, TIMES, st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))


@st.composite
def printed(draw: st.DrawFn, value: str) -> str:
    """A value as somebody may write it."""
    if re.fullmatch(r"[\w./?-][\w./?=:*-]*", value) and value not in ("and", "or", "not") and draw(st.booleans()):
        return value
    quote = draw(st.sampled_from("'\""))
    return quote + value.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


@st.composite
def operators(draw: st.DrawFn, signs: Sequence[str]) -> tuple[str, str]:
    sign = draw(st.sampled_from(signs))
    return sign, sign if sign == ":" else draw(st.sampled_from([sign, f" {sign} ", f"{sign}\t"]))


@st.composite
def path_terms(draw: st.DrawFn) -> Case:
    sign, shown = draw(operators([":", "=", "!="]))
    if sign != ":":
        path = draw(PATHS)
        return Case(f"path{shown}{draw(printed(path))}", 2, lambda fields: (fields.path == path) == (sign == "="))
    parts = draw(
        st.lists(st.sampled_from(["a", "A", "é", ".", "md", ".md", "*", "*", "?", "/", "/**/", "**/"]), min_size=1)
    )
    glob = re.sub(r"/+", "/", re.sub(r"\*\*+", "**", "".join(parts)))
    glob = "/".join(one if one == "**" else one.replace("**", "*") for one in glob.split("/"))
    return Case(f"path:{draw(printed(glob))}", 2, lambda fields: glob_oracle(glob, fields.path))


@st.composite
def type_terms(draw: st.DrawFn) -> Case:
    sign, shown = draw(operators([":", "=", "!="]))
    suffixes = draw(st.lists(st.sampled_from(["md", "MD", "Txt", "gz", "é", "a", "]"]), min_size=1, max_size=3))
    small = [f".{suffix}".lower() for suffix in suffixes]
    value = draw(printed(",".join(suffixes)))
    return Case(
        f"type{shown}{value}", 2, lambda fields: (PurePosixPath(fields.path).suffix.lower() in small) == (sign != "!=")
    )


@st.composite
def modified_terms(draw: st.DrawFn) -> Case:
    """Times compare as their texts do, cut to what the filter says; hours and less in UTC, which has no gaps."""
    sign, shown = draw(operators([":", "=", "!=", "<", "<=", ">", ">="]))
    length = draw(st.sampled_from([4, 7, 10, 13, 16, 19, 21, 26]))
    value = draw(st.sampled_from(BOUNDARIES)).isoformat(timespec="microseconds")[:length]

    def wanted(fields: DocumentFields) -> bool:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=fields.mtime_ns // 1000)
        if length <= 10:
            moment = moment.astimezone()
        text = moment.isoformat(timespec="microseconds")[:length]
        return text != value if sign == "!=" else compare(sign, text, value)

    return Case(f"modified{shown}{draw(printed(value + 'Z' * (length > 10)))}", 2, wanted)


@st.composite
def metadata_terms(draw: st.DrawFn) -> Case:
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    shown_keys = []
    for key in keys:
        bare = re.fullmatch(r"\w+", key) and key != "and" and draw(st.booleans())
        shown_keys.append(key if bare else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"')
    if (len(keys) == 1 and keys[0] in ("path", "type")) or keys[0] == "metadata" or draw(st.booleans()):
        shown_keys.insert(0, "metadata")
    field = ".".join(shown_keys)
    if draw(st.integers(0, 5)) == 0:
        return Case(f"{field}:*", 2, lambda fields: bool(reached(fields.metadata, keys)))
    sign, shown = draw(operators([":", "=", "!=", "<", "<=", ">", ">="]))
    value = draw(st.one_of(st.sampled_from(TEXTS), st.text(max_size=3)))
    text = f"'{value}'" if value == "*" else draw(printed(value))
    return Case(f"{field}{shown}{text}", 2, lambda fields: metadata_oracle(fields.metadata, keys, sign, value))


def grouped(case: Case, level: int, always: bool) -> str:
    return f"( {case.text})" if always or case.level < level else case.text


@st.composite
def joined(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    level = draw(st.integers(0, 2))
    if level == 2:
        case = draw(inner)
        text = f"{draw(st.sampled_from(['not ', 'NOT  ']))}{grouped(case, 2, draw(st.booleans()))}"
        return Case(text, 2, lambda fields: not case.wanted(fields))
    cases = draw(st.lists(inner, min_size=2, max_size=4))
    word = draw(st.sampled_from([" or ", "\nOR "] if level == 0 else [" and ", " And ", "  "]))
    text = word.join(grouped(case, level, draw(st.booleans())) for case in cases)
    decide = all if level else any
    return Case(text, level, lambda fields: decide(case.wanted(fields) for case in cases))


CASES = st.recursive(st.one_of(path_terms(), type_terms(), modified_terms(), metadata_terms()), joined, max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(CASES, st.lists(FIELDS, min_size=1, max_size=6))
def test_any_filter_selects_what_it_says_in_python_and_in_sql(case: Case, documents: list[DocumentFields]) -> None:
    # What was stored is what both shall look at: JSON joins halves of characters and forgets tuples.
    documents = [DocumentFields(d.path, d.mtime_ns, json.loads(json.dumps(d.metadata))) for d in documents]
    assert selected(case.text, documents) == [case.wanted(fields) for fields in documents], case.text
