"""Formats that have a structure: notebooks, mail, markup languages, source code."""

from __future__ import annotations

import ast
import json
import mailbox
import time
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP, default
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch import Encoder
from semsearch.corpus.chunking import Chunker
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import code, read
from semsearch.corpus.readers.languages import BY_SUFFIX
from semsearch.corpus.walk import SourceFile, walk
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

ENCODER = Encoder()
CHUNKER = Chunker(ENCODER.tokenizer.token_starts, ENCODER.max_tokens)
FEW = settings(max_examples=60, deadline=None)


def documents(folder: Path, name: str, content: str | bytes) -> list[Document]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read(SourceFile(path, name, path.stat().st_size, 0), ReadOptions()))


def document(folder: Path, name: str, content: str | bytes) -> Document:
    (found,) = documents(folder, name, content)
    check(found)
    return found


def check(found: Document) -> None:
    """What holds of any document and its passages."""
    lines = found.text.count("\n") + 1
    assert found.line_numbers is None or len(found.line_numbers) == lines
    starts = [heading.char_start for heading in found.headings]
    assert starts == sorted(starts)
    for heading in found.headings:
        if heading.char_end > heading.char_start:
            said = (
                found.text[heading.char_start : heading.char_end].replace("`", "").replace("*", "").replace("\\&", "&")
            )
            assert heading.text in " ".join(said.split())
        assert heading.char_start == 0 or found.text[heading.char_start - 1] == "\n"
    for passage, embedded in CHUNKER.chunk(found):
        assert found.text[passage.char_start : passage.char_end] == passage.text
        assert len(ENCODER.tokenizer.token_spans(embedded)) <= ENCODER.max_tokens
        over = [heading for heading in found.headings if heading.char_start <= passage.char_start]
        if over and over[-1].text != found.title:
            assert passage.heading.endswith(over[-1].text)
        inside = [part for part in found.parts if part.char_start < passage.char_end]
        if inside:
            assert passage.place.endswith(str(inside[-1].number))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("structure")


def outline(found: Document) -> list[tuple[int, str]]:
    return [(heading.level, heading.text) for heading in found.headings]


def spans(found: Document) -> list[str]:
    return [found.text[heading.char_start : heading.char_end] for heading in found.headings]


NOTEBOOK: dict[str, Any] = {
    "nbformat": 4,
    "metadata": {"kernelspec": {"name": "python3", "language": "python"}},
    "cells": [
        {"cell_type": "markdown", "source": ["# Load *data*\n", "\n", "See [here](https://x.org)."]},
        {"cell_type": "code", "source": [], "outputs": []},
        {
            "cell_type": "code",
            "source": "print(1)\r\nplot()",
            "outputs": [
                {"output_type": "stream", "text": ["one\n", "\x1b[31mred\x1b[0m\n"]},
                {"output_type": "execute_result", "data": {"text/plain": "42", "image/png": "AAAA"}},
                {"output_type": "display_data", "data": {"image/png": "AAAA"}},
                {"output_type": "stream", "text": "x" * 5000},
                {"output_type": "error", "ename": "ValueError", "evalue": "bad", "traceback": ["tb"]},
            ],
        },
        {"cell_type": "markdown", "source": "text\n\n## Results\n\nfine"},
    ],
}


def test_a_notebook_is_its_cells(tmp_path: Path) -> None:
    found = document(tmp_path, "n.ipynb", json.dumps(NOTEBOOK))
    assert found.title == "Load data"
    assert found.metadata == {"language": "python"}
    assert found.text.startswith("# Load *data*\n\nSee [here](https://x.org).\n\nprint(1)\nplot()\n\none\nred\n42\nxxx")
    assert found.text.endswith("xxx\n\ntext\n\n## Results\n\nfine")
    assert len(found.text) < 2200
    assert "AAAA" not in found.text
    assert [(part.kind, part.number) for part in found.parts] == [("cell", 1), ("cell", 3), ("cell", 4)]
    assert found.text[found.parts[1].char_start :].startswith("print(1)")
    assert spans(found)[1] == "## Results\n"
    assert [found.text[start:end][:8] for start, end in found.code] == ["print(1)"]
    assert [found.text[start:end] for start, end in found.markup] == ["[", "](https://x.org)"]


def test_a_notebook_of_format_3_is_read_too(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Old"]},
        {
            "cell_type": "code",
            "input": "1+1",
            "outputs": [{"output_type": "pyout", "text": ["2"]}, {"output_type": "pyerr", "ename": "E", "evalue": "v"}],
        },
    ]
    found = document(tmp_path, "old.ipynb", json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}))
    assert (found.title, found.text) == ("old", "Old\n\n1+1\n\n2\nE: v")
    assert outline(found) == [(2, "Old")]


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"cells": 3}', "[" * 100_000, '{"cells": [3, {}, {"source": [1]}]}', '{"worksheets": [1]}'],
)
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(UnreadableFileError, match="notebook|empty"):
        documents(tmp_path, "x.ipynb", content)


def message(**headers: str) -> EmailMessage:
    made = EmailMessage()
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    return made


def test_a_mail_has_its_headers_as_metadata_and_plain_text_as_its_text(tmp_path: Path) -> None:
    made = message(
        Subject="Grüße aus Köln " * 8,
        From="Jörg Ä <j@x.org>",
        To="a@y.org, B <b@y.org>",
        Cc="c@z.org",
        Date="Tue, 03 Feb 2026 10:00:00 +0100",
        Message_ID="<1@x>",
    )
    made.set_content("Hällo,\n\nlong " + "word " * 40 + "\nend\n", cte="quoted-printable")
    made.add_alternative("<p>no</p>", subtype="html")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="Rechnung Mai €.pdf")
    found = document(tmp_path, "x.eml", bytes(made))
    assert found.title == ("Grüße aus Köln " * 8).strip()
    assert found.metadata == {
        "from": ["Jörg Ä", "j@x.org"],
        "to": ["a@y.org", "B", "b@y.org"],
        "cc": ["c@z.org"],
        "date": "2026-02-03T10:00:00+01:00",
        "message_id": "1@x",
        "attachments": ["Rechnung Mai €.pdf"],
    }
    assert found.text == "Hällo,\n\nlong " + "word " * 40 + "\nend\n\nAttachments: Rechnung Mai €.pdf"
    raw = bytes(made).decode().split("\n")
    numbers = list(found.line_numbers or ())
    assert raw[numbers[0] - 1].startswith("H=C3=A4llo")
    assert raw[numbers[2] - 1].startswith("long word")
    assert raw[numbers[3] - 1] == "end"


def test_a_mail_of_html_is_read_as_seen_and_a_mail_within_is_read_too(tmp_path: Path) -> None:
    inner = message(Subject="Inner", From="i@x.org")
    inner.set_content("inner words\n")
    outer = message(Subject="Outer")
    outer.set_content("<html><body><h1>Big</h1>\n<p>see &amp; hear</p></body></html>\n", subtype="html")
    outer.add_attachment(inner)
    found = document(tmp_path, "x.eml", bytes(outer))
    assert found.title == "Outer"
    assert found.text == "Big\n\nsee & hear\n\nInner\n\ninner words"
    assert outline(found) == [(1, "Inner")]
    raw = bytes(outer).decode().split("\n")
    numbers = list(found.line_numbers or ())
    assert "see &amp; hear" in raw[numbers[2] - 1]
    assert raw[numbers[6] - 1] == "inner words"


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        ("Content-Type: text/plain; charset=x-unknown", "caf\xe9".encode("latin-1"), "café"),
        ("Content-Type: text/plain; charset=punycode", b"cafe", "cafe"),
        ("Content-Type: text/plain; charset=koi8-r", "привет".encode("koi8-r"), "привет"),
        ("Content-Type: text/plain; charset=us-ascii", "café".encode(), "café"),
        ("Content-Transfer-Encoding: base64", b"aGVsbG8K", "hello"),
        ("Content-Transfer-Encoding: base64", b"!!!", "s"),
        ("Content-Transfer-Encoding: nonsense", b"as it is", "as it is"),
        ("Content-Transfer-Encoding: x-uuencode", b"begin 644 a\n%:&5L;&\\\n`\nend\n", "hello"),
    ],
)
def test_odd_encodings_of_mail_are_read(tmp_path: Path, headers: str, body: bytes, text: str) -> None:
    found = document(tmp_path, "x.eml", f"Subject: s\n{headers}\n\n".encode() + body)
    assert found.text == text


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)
BODIES = st.lists(
    TEXTS | st.sampled_from(["From here", ">From there", "", "From x Tue Feb  3 10:00:00 2026"]), max_size=5
)


@FEW
@given(
    st.lists(st.tuples(TEXTS, BODIES, st.sampled_from(["8bit", "quoted-printable", "base64"])), min_size=1, max_size=4)
)
def test_a_mailbox_is_its_messages(folder: Path, sent: list[tuple[str, list[str], Any]]) -> None:
    path = folder / "x.mbox"
    path.unlink(missing_ok=True)
    box = mailbox.mbox(path)
    for subject, body, encoding in sent:
        made = message(Subject=subject)
        made.set_content("\n".join(body) + "\n", cte=encoding, charset="utf-8")
        box.add(made)
    box.flush()
    box.close()
    found = documents(folder, "x.mbox", path.read_bytes())
    raw = path.read_bytes().decode().split("\n")
    assert [one.parts[0].number for one in found] == list(range(1, len(sent) + 1))
    for one, (subject, body, encoding) in zip(found, sent, strict=True):
        check(one)
        assert one.title == " ".join(subject.split())
        # Python's mailbox does not quote what is quoted already.
        said = "\n".join(line.removeprefix(">") if line.startswith(">From ") else line for line in body).strip("\n")
        if encoding == "base64":
            said = "\n".join(body).strip("\n")
        assert one.text == (said if said.strip() else one.title)
        for line, number in zip(one.text.split("\n"), one.line_numbers or (), strict=True):
            if encoding == "8bit" and said.strip():
                assert line in raw[number - 1]


def test_what_separates_messages_has_a_date(tmp_path: Path) -> None:
    box = (
        "From a@x Tue Feb  3 10:00:00 2026\nSubject: one\n\nFrom now on\n>From quoted\n>>From twice\n\n"
        "From - Tue Feb 03 10:00:00 2026\r\nSubject: two\r\n\r\ntext\r\n"
    )
    first, second = documents(tmp_path, "x.mbox", box)
    assert (first.title, first.text) == ("one", "From now on\nFrom quoted\n>From twice")
    assert (second.title, second.text, list(second.line_numbers or ())) == ("two", "text", [11])
    with pytest.raises(UnreadableFileError, match="not a mailbox"):
        documents(tmp_path, "x.mbox", "Subject: x\n\ntext\n")


def hostile_mail() -> dict[str, bytes]:
    deep = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (number, number) for number in range(10_000)
    )
    return {
        "deep": b"Subject: deep\n" + deep,
        "long header": b"Subject: long header\nTo: " + b'"' + b";," * 1_000_000 + b"\n\ntext",
        "long type": b'Subject: long type\nContent-Type: text/plain; a="' + b";" * 1_000_000 + b"\n\ntext",
        "many headers": b"Subject: many headers\n" + b"X-A: b\n" * 200_000 + b"\ntext",
        "many parts": b'Subject: many parts\nContent-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\nx\n" * 20_000,
        "words": b"Subject: words" + b" =?utf-8?q?" * 50_000 + b"\n\ntext",
        "long line": b"Subject: long line\n\n" + b"word " * 1_000_000,
        "no headers": b"only text\nin lines",
        "odd date": b"Subject: odd date\nDate: 99 Foo 99999\nFrom: <<<@@,;:\n\ntext",
        "not text": b"Subject: not text\n\n" + bytes(range(1, 256)) * 100,
    }


@pytest.mark.parametrize("name", hostile_mail())
def test_hostile_mail_is_read_soon(tmp_path: Path, name: str) -> None:
    start = time.perf_counter()
    (found,) = documents(tmp_path, "x.eml", hostile_mail()[name])
    assert time.perf_counter() - start < 10
    assert found.text
    assert found.title.startswith("x" if name == "no headers" else name)
    json.dumps(found.metadata, allow_nan=False)


def test_mail_that_is_none_is_refused(tmp_path: Path) -> None:
    for content, reason in ((b"a\0b", "binary"), (b"X: y\n\n", "empty"), (b"", "empty")):
        with pytest.raises(UnreadableFileError, match=reason):
            documents(tmp_path, "y.eml", content)


RST = """.. _top:

==========
 The Title
==========

:Author: Jane Doe
:Tags: a, b
   c

Intro::

    Not a title
    ===========

Section `one`
-------------

text

=====  =====
table  cells
=====  =====

Deep
~~~~

----

Next
----
text
not one
---
"""


def test_rst_titles_have_levels_by_their_order(tmp_path: Path) -> None:
    found = document(tmp_path, "x.rst", RST)
    assert found.title == "The Title"
    assert outline(found) == [(1, "The Title"), (2, "Section one"), (3, "Deep"), (2, "Next")]
    assert found.text == RST
    assert spans(found)[0] == "==========\n The Title\n==========\n"
    assert spans(found)[2] == "Deep\n~~~~\n"


def test_rst_fields_on_top_are_metadata(tmp_path: Path) -> None:
    found = document(tmp_path, "x.rst", "Title\n=====\n\n:Author: Jane Doe\n:Tags: a, b\n   c\n\n:not: one\n\ntext\n")
    assert found.metadata == {"author": "Jane Doe", "tags": "a, b c"}


ADOC = """= The Title
Jane Doe <j@x.org>
:author-id: jd
:toc:

Intro

== Section ==

----
== not one
----

....
=== nor this
....

=== Deeper one
:later: no

text
"""


def test_asciidoc(tmp_path: Path) -> None:
    found = document(tmp_path, "x.adoc", ADOC)
    assert found.title == "The Title"
    assert outline(found) == [(1, "The Title"), (2, "Section"), (3, "Deeper one")]
    assert spans(found) == ["= The Title\n", "== Section ==\n", "=== Deeper one\n"]
    assert found.metadata == {"author-id": "jd", "toc": ""}


ORG = """#+TITLE: Notes on pumps
#+author: Jane

* TODO [#A] First thing :home:garden:
text
#+begin_src org
* not one
#+end_src
** Second
*bold* is no heading
"""


def test_org(tmp_path: Path) -> None:
    found = document(tmp_path, "x.org", ORG)
    assert found.title == "Notes on pumps"
    assert found.metadata == {"title": "Notes on pumps", "author": "Jane"}
    assert outline(found) == [(1, "First thing"), (2, "Second")]
    assert spans(found) == ["* TODO [#A] First thing :home:garden:\n", "** Second\n"]


LATEX = r"""\documentclass{article}
\title{On Pumps \\ and Valves\thanks{Nobody}}
\author{Jane Doe}
\begin{document}
\maketitle
% \section{not one}
\section{Introduction}\label{sec:intro}
Text with \emph{words}.
\begin{verbatim}
\section{not one either}
\end{verbatim}
\subsection*[short]{A longer one
  of two lines}
text
\section{R\&D}
\section{unclosed
"""


def test_latex(tmp_path: Path) -> None:
    found = document(tmp_path, "x.tex", LATEX)
    assert found.title == "On Pumps and Valves"
    assert found.metadata == {"author": "Jane Doe"}
    assert outline(found) == [(3, "Introduction"), (4, "A longer one of two lines"), (3, "R&D")]
    assert spans(found)[0] == "\\section{Introduction}"
    assert spans(found)[1] == "\\subsection*[short]{A longer one\n  of two lines}\n"


def definitions(node: ast.AST, lines: list[str], level: int = 1) -> Iterator[tuple[int, str, int]]:
    """The level, name and first line of each function and class; comments directly above are part of it."""
    for child in ast.iter_child_nodes(node):
        inner = level
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([child.lineno, *(one.lineno for one in child.decorator_list)])
            while first > 1 and lines[first - 2].lstrip().startswith("#"):
                first -= 1
            yield level, child.name, first
            inner = level + 1
        yield from definitions(child, lines, inner)


def test_headings_of_python_are_those_of_its_syntax_tree() -> None:
    seen = 0
    for path in sorted([*(ROOT / "semsearch").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        text = path.read_text(encoding="utf-8")
        expected = list(definitions(ast.parse(text), text.split("\n")))
        found = code.headings(text, BY_SUFFIX[".py"])
        assert [(h.level, h.text, text.count("\n", 0, h.char_start) + 1) for h in found] == expected, path
        seen += len(expected)
    assert seen > 500


SOURCES = {
    ".c": (
        "struct point;\nstruct point { int x; };\nint proto(int x);\n"
        "/* Adds. */\nstatic int add(int a,\n    int b)\n{\n"
        "    if (a) {\n    } else if (b) {\n    }\n    list_for_each(a, b) {\n    }\n    return call(a);\n}\n"
        "struct point *make(void) {\n    switch (x) {\n    }\n}\nint\ngnu_style (int a)\n{\n}\n"
        'void quoted(void) { char *s = "int no(void) {"; }\n// void no(void) {\n',
        ["point", "add", "make", "gnu_style", "quoted"],
    ),
    ".cpp": (
        "template <typename T>\nclass Foo : public Bar<T> {\n public:\n  explicit Foo(int x) : x_{x}, y_(2) {}\n"
        "  ~Foo() { while (x) { } }\n  int get() const noexcept override { return x_; }\n  void decl(int);\n};\n"
        "Foo::Foo(int x) : a(x) {\n}\nstd::vector<int> A::run(std::map<int, int> m) const {\n  Foo foo(1);\n"
        "  auto f = [](int x) { return x; };\n}\n",
        ["Foo", "Foo > Foo", "Foo > ~Foo", "Foo > get", "Foo::Foo", "A::run"],
    ),
    ".java": (
        "@Service\npublic class A<T> extends B<T> {\n    private int x = foo(1);\n    public A(int x) {\n"
        "        super(x);\n        for (;;) {\n        }\n    }\n    /** Doc. */\n    @Override\n"
        "    public <R> List<R> map(F<T, R> f) throws X, Y {\n        try { } catch (E e) { }\n"
        "        return new B() { };\n    }\n    abstract void no();\n    interface I { void m(); }\n}\n",
        ["A", "A > A", "A > map", "A > I"],
    ),
    ".cs": (
        "namespace X\n{\n    public class Foo\n    {\n        public Foo(int a) : base(a)\n        {\n"
        "            foreach (var z in q) { }\n            using (var x = y) { }\n        }\n"
        "        public async Task<int> RunAsync<T>(T x)\n        {\n            lock (x) { }\n        }\n    }\n}\n",
        ["Foo", "Foo > Foo", "Foo > RunAsync"],
    ),
    ".ts": (
        "export default class Foo<T> extends Bar {\n  constructor(private a: number) {\n    if (a) { b(); }\n  }\n"
        "  async run(x: string): Promise<Map<string, number>> {\n    describe('x', () => {\n    });\n"
        "    for (const a of b) {\n    }\n  }\n  abs(): void;\n}\nexport async function* gen<T>(a: T) {\n}\n"
        "const arrow = async (a, b) => {\n};\nconst no = foo(1);\nconst s = `\nfunction no() {`;\n"
        "function over(a: string): void;\ndescribe('x', function () {\n});\n",
        ["Foo", "Foo > constructor", "Foo > run", "gen", "arrow"],
    ),
    ".go": (
        "// Foo is.\ntype Foo struct {\n\ta int\n}\nfunc (f *Foo) Bar(a int) (int, error) {\n\tif x := f(); x {\n\t}\n"
        "\tgo func() { }()\n}\nfunc Gen[T any](x T) map[string]int {\n}\n",
        ["Foo", "Foo.Bar", "Gen"],
    ),
    ".rs": (
        "/// Doc\n#[derive(Debug)]\npub struct Foo<'a> {\n    a: &'a str,\n}\nimpl<'a> Display for Foo<'a> {\n"
        "    fn fmt(&self, f: &mut Formatter<'_>) -> [u8; 4] {\n        match x { }\n"
        "        while let Some(y) = z { }\n"
        "    }\n}\ntrait T {\n    fn proto(&self);\n}\npub async fn run<F>(f: F) -> impl Iterator<Item = u32>\n"
        "where F: Fn(u8) -> u8 {\n}\n",
        ["Foo", "Foo", "Foo > fmt", "T", "run"],
    ),
    ".php": (
        "<?php\n# function no() {\nclass A {\n    public static function run(?int $x): ?int {\n"
        "        foreach ($a as $b) { }\n    }\n    abstract function no();\n}\n",
        ["A", "A > run"],
    ),
    ".rb": (
        "module A\n  class B < C\n    def self.run(x)\n      if x\n      end\n    end\n"
        "    def ok?\n    end\n  end\nend\n",
        ["A", "A > B", "A > B > run", "A > B > ok?"],
    ),
    ".kt": (
        "data class P(val a: Int)\nclass Foo {\n    override fun run(x: Int): Int {\n        when (x) { }\n    }\n}\n",
        ["P", "Foo", "Foo > run"],
    ),
    ".swift": (
        "class Foo {\n    init(a: Int) { }\n    class func make() { guard let x = y else { } }\n}\n",
        ["Foo", "Foo > init", "Foo > make"],
    ),
    ".scala": ("object M {\n  def run(x: Int): Int = {\n    x match { }\n  }\n}\ntrait T\n", ["M", "M > run", "T"]),
    ".sh": ("# no() {\nfoo() {\n  if x; then bar; fi\n}\nfunction baz {\n}\n", ["foo", "baz"]),
    ".sql": ("-- create table no\nCREATE TABLE IF NOT EXISTS users (id int);\nselect create;\n", ["users"]),
    ".lua": ("local function a(x)\n  if x then end\nend\nM.b = function(y)\nend\ncall(function() end)\n", ["a", "M.b"]),
    ".r": ("f <- function(x) {\n}\nlapply(x, function(i) i)\n", ["f"]),
    ".pl": ("sub bar {\n  if (1) {}\n}\nsub proto;\n\n=pod\n\nsub no {\n\n=cut\n", ["bar"]),
}


@pytest.mark.parametrize("suffix", SOURCES)
def test_headings_of_source_are_its_functions_and_classes(tmp_path: Path, suffix: str) -> None:
    source, expected = SOURCES[suffix]
    found = document(tmp_path, f"x{suffix}", source)
    assert (found.text, found.title, found.code) == (source, f"x{suffix}", ((0, len(source)),))
    paths: list[str] = []
    over: list[str] = []
    for heading in found.headings:
        over[heading.level - 1 :] = [heading.text]
        paths.append(" > ".join(over))
    assert paths == expected


def test_a_definition_starts_with_what_stands_directly_above_it() -> None:
    for suffix, start in ((".rs", "/// Doc"), (".java", "@Service"), (".go", "// Foo"), (".cpp", "template")):
        source = SOURCES[suffix][0]
        assert source[next(code.headings(source, BY_SUFFIX[suffix])).char_start :].startswith(start)
    source = 'x = 1  # trailing\n@one(\n    1,\n)\n# why\n@two\ndef f():\n    """Doc."""\n    def g(): ...\n'
    first, second = code.headings(source, BY_SUFFIX[".py"])
    assert source[first.char_start :].startswith("@one(")
    assert source[second.char_start :].startswith("    def g")


def test_a_passage_of_source_says_in_which_function_it_is(tmp_path: Path) -> None:
    body = "".join(f"        value_{n} = compute(value, {n})\n" for n in range(12))
    found = document(tmp_path, "x.py", f"class Pump:\n    def start(self):\n{body}\n    def stop(self):\n{body}")
    passages = [passage for passage, _ in CHUNKER.chunk(found)]
    assert {passage.heading for passage in passages} >= {"Pump > stop"}
    assert any(passage.text.startswith("    def stop") for passage in passages)


@pytest.mark.parametrize("suffix", [".py", ".c", ".js", ".java", ".rs", ".rst", ".adoc", ".org", ".tex", ".ipynb"])
@pytest.mark.parametrize(
    "piece", ["x", "(", "'", '"', "/*", "\\'", "int f(", "=\n", "\\section{\n", "* x\n", "@a\n", ")\n"]
)
def test_no_text_takes_long(tmp_path: Path, suffix: str, piece: str) -> None:
    start = time.perf_counter()
    try:
        documents(tmp_path, f"x{suffix}", piece * (1_000_000 // len(piece)))
    except UnreadableFileError:
        assert suffix == ".ipynb"
    assert time.perf_counter() - start < 10


def test_mail_as_it_is_sent_has_other_line_ends(tmp_path: Path) -> None:
    made = message(Subject="s")
    made.set_content("one\ntwo\n")
    for policy in (SMTP, default):
        found = document(tmp_path, "x.eml", made.as_bytes(policy=policy))
        assert found.text == "one\ntwo"
        numbers = list(found.line_numbers or ())
        assert made.as_bytes(policy=default).decode().split("\n")[numbers[1] - 1] == "two"


@pytest.mark.parametrize("suffix", ["rst", "adoc", "org", "tex", "html", "ipynb", "md"])
def test_what_another_program_wrote_is_whole_and_in_its_place(suffix: str) -> None:
    (file,) = walk([ROOT / "tests" / "documents" / f"manual.{suffix}"]).files
    (document,) = read(file, ReadOptions())
    if suffix != "ipynb":  # which keeps the title where no cell shows it
        assert document.title == "Looking after a bicycle"
    if suffix in ("rst", "org", "tex", "md"):
        assert document.metadata["author"] == "A Mechanic"
    headings = [one for one in document.headings if one.text != "Looking after a bicycle"]
    assert [one.text for one in headings] == ["Tyres", "Patching a tube", "Pressures", "Chain"]
    top = headings[0].level
    assert [one.level - top for one in headings] == [0, 1, 1, 0]
    words = " ".join(document.text.split())
    for sentence in (
        "Check the pressure every week, before the first ride. A soft tyre wears out sooner, and the rim may strike a",
        "Take the wheel out and lever the tyre off.",
        "bubbles show the hole.",
        "the makers of patches",
        "Mountain",
        "在北京人人骑车",
        "The function above counts links, which come in pairs.",
    ):
        assert sentence in words, sentence
    found = {}
    for passage, embedded in CHUNKER.chunk(document):
        assert document.text[passage.char_start : passage.char_end] == passage.text
        for word in ("squeaks", "bubbles"):
            if word in passage.text:
                found[word] = passage
                assert passage.heading.split(" > ")[-1] in embedded
    over = found["bubbles"].heading or document.title
    assert over.endswith(("Tyres", "Patching a tube")), over
    if suffix == "ipynb":
        assert found["squeaks"].place == "cell 1"
    else:
        lines = file.path.read_text(encoding="utf-8").split("\n")
        shown = lines[found["squeaks"].line_start - 1 : found["squeaks"].line_end]
        assert any("squeaks" in line for line in shown)


@pytest.mark.parametrize(
    ("name", "pears"), [("accounts.csv", "Pears 🍐\nfrom Sussex"), ("accounts-latin-1.csv", "Pears ?\nfrom Sussex")]
)
def test_tables_that_another_program_wrote(name: str, pears: str) -> None:
    (file,) = walk([ROOT / "tests" / "documents" / name]).files
    rows = list(read(file, ReadOptions()))
    assert [(row.metadata["Fruit"], row.metadata["Boxes"], (row.line_numbers or [0])[0]) for row in rows] == [
        ("Äpfel", 12, 2),
        (pears, 1_000_000, 4),
    ]
    assert "Price: 2.5" in rows[0].text
