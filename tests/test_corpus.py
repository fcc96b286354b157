"""Walking, reading and chunking."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import CORPUS, SHARED_DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from semsearch import Encoder
from semsearch.corpus.chunking import Chunker
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import html, markdown, read
from semsearch.corpus.walk import walk
from semsearch.errors import UnreadableFileError
from semsearch.types import Document

ENCODER = Encoder()
CHUNKER = Chunker(ENCODER.tokenizer.token_starts, ENCODER.max_tokens)


def documents(path: Path) -> list[Document]:
    return list(read(walk([path]).files[0], ReadOptions()))


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        documents(path)
    return str(caught.value)


def test_markdown_has_title_metadata_and_headings(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text(
        "---\ntitle: A *tap*\ndate: 2024-01-02\n---\n# One `x`\n\n```\n# no heading\n```\n\nTwo\n---\n\ntext\n"
    )
    (document,) = documents(path)
    assert document.title == "A *tap*"
    assert document.metadata == {"title": "A *tap*", "date": "2024-01-02"}
    assert [(h.level, h.text) for h in document.headings] == [(1, "One x"), (2, "Two")]
    assert document.text[document.headings[0].char_start :].startswith("# One")
    assert document.text[document.body_start :].startswith("# One")


def test_html_is_read_as_seen_and_knows_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    path.write_text(
        "<html><head><title>A &amp; B</title><style>no{}</style></head>\n<body><nav>no</nav>\n"
        "<h1>Caf&eacute;</h1>\n<p>first <b>bold</b>\nsecond</p>\n<pre>a\n  b</pre><script>no()</script>\n</body></html>"
    )
    (document,) = documents(path)
    assert document.title == "A & B"
    assert document.text == "Café\n\nfirst bold\nsecond\n\na\n  b"
    assert list(document.line_numbers or ()) == [3, 3, 4, 5, 5, 6, 7]
    assert [(h.level, h.text, h.char_start) for h in document.headings] == [(1, "Café", 0)]


def test_of_a_page_its_main_text_is_read(tmp_path: Path) -> None:
    words = (
        "The tap in the kitchen drips, and a washer that costs a few pennies is all that it needs to be quiet again."
    )
    around = (
        "<nav>Home About</nav><header>The site of taps</header>",
        "<aside>Other taps</aside><footer>Imprint</footer>",
    )
    for element in ("main", "article"):
        page = html.extract_main(
            f"<title>Taps</title>{around[0]}\n<{element}>\n<h1>A tap</h1><p>{words}</p></{element}>{around[1]}"
        )
        assert (page.title, page.text, page.line_numbers) == ("Taps", f"A tap\n\n{words}", (3, 3, 3))
        assert [(h.text, h.char_start) for h in page.headings] == [("A tap", 0)]
    without = html.extract_main(f"{around[0]}<p>{words}</p>{around[1]}")
    assert without.text == f"The site of taps\n\n{words}"
    assert html.extract_main(f"<main>Loading</main><p>{words}</p>").text.endswith(words), "a main that says nothing"
    assert html.extract_main(f"<nav><p>{words}</p>").text == words, "a nav that is never closed"
    two = html.extract_main(f"<article>{words}</article><article>{words}</article>")
    assert two.text.count(words) == 2
    assert "Imprint" in html.extract(around[1]).text, "a mail or a chapter of a book has nothing around it"


def test_beir_corpus_is_a_document_a_line(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    records = [{"_id": str(i), "title": f"t{i}", "text": f"text {i}", "extra": i} for i in range(3)]
    path.write_text("\n".join(map(json.dumps, records)))
    found = documents(path)
    assert [(d.title, d.text, d.metadata) for d in found] == [
        (r["title"], r["text"], {"_id": r["_id"], "extra": r["extra"]}) for r in records
    ]
    assert [list(d.line_numbers or ()) for d in found] == [[1], [2], [3]]
    path.write_text(json.dumps(records[0]) + "\n{broken\n")
    assert refusal(path) == "line 2 is not JSON in UTF-8"


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    cases = {
        "a.png": (b"x", "unsupported type .png"),
        "b.txt": (b"a\0b", "binary"),
        "d.txt": (b" \n", "empty"),
        "e.txt": (b"x" * (10 * 2**20 + 1), "10.0 MiB is over the limit of 10.0 MiB"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name) == reason


def words(text: str, markup: Sequence[tuple[int, int]]) -> list[str]:
    kept = list(text)
    for start, end in markup:
        kept[start:end] = " " * (end - start)
    return "".join(kept).replace("`", " ").split()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "word ",
                "[two words](https://example.org/a_(b)) ",
                '[titled](x.md "the title") ',
                "![a picture](a.png)",
                "[![badge](a.svg)](b.html)",
                "[nested [brackets]](c) ",
                "`[code](kept)` ",
                "``a ` [b](c)`` ",
                "[this](const\u00a0int x) ",
                "a<br/>b ",
                "<!-- hidden --> ",
                "[",
                "] ",
                "![",
                "\n",
            ]
        ),
        max_size=30,
    )
)
def test_the_words_of_markdown_are_those_that_a_renderer_shows(parts: list[str]) -> None:
    text = " ".join("".join(parts).split("\n")).lstrip()  # indented, it would be code

    def shown(tokens: Sequence[Token]) -> str:
        return "".join(
            shown(token.children or []) if token.type == "image" else token.content
            for token in tokens
            if token.type in ("text", "code_inline", "image")
        )

    expected = shown(MarkdownIt("commonmark").parseInline(text)[0].children or [])
    ours = "".join(words(text, markdown.parse(text).markup))
    assert ours == "".join(expected.replace("`", " ").split())


def test_markup_is_neither_embedded_nor_counted_and_stays_in_the_passage(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text(
        "# Lambdas\n\nSee the [syntax page](../cpp/lambda-syntax.md)<br/>\n\n"
        "```cpp\nauto f = [this](int x) {};\n```\n\n"
        "[ref]: https://example.org/\n" + "[a](https://example.org/a/very/long/address/of/a/page.html) " * 60
    )
    (document,) = documents(path)
    (passage, embedded), *rest = CHUNKER.chunk(document)
    assert passage.text == document.text[passage.char_start : passage.char_end]
    assert "(../cpp/lambda-syntax.md)" in passage.text
    assert embedded.startswith("Lambdas\n\nSee the syntax page\n\n```cpp\nauto f = [this](int x) {};\n```\n")
    assert "example.org" not in embedded
    assert not rest, "sixty words of links fit into one passage"
    check_passages(document)


def test_no_markup_takes_more_than_linear_time() -> None:
    # Linear time is seconds, quadratic time would be hours.
    pieces = ["[", "[a](", "![", "`", "<!--", "<a ", "[a]: ", '[a](b "', "\\[", "[[a]", "`` ` ", "[\\]", "[a] "]
    code = "from semsearch.corpus.readers.markdown import parse\n" + "\n".join(
        f"parse({piece!r} * 200_000)" for piece in pieces
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def check_passages(document: Document, chunker: Chunker = CHUNKER) -> None:
    """What holds of the passages of any document."""
    text = document.text
    position = -1
    covered = np.zeros(len(text), dtype=bool)
    for passage, embedded in chunker.chunk(document):
        assert text[passage.char_start : passage.char_end] == passage.text
        assert passage.char_start > position
        position = passage.char_start
        covered[passage.char_start : passage.char_end] = True
        first = text.count("\n", 0, passage.char_start) + 1
        lines = (first, first + passage.text.count("\n"))
        if document.line_numbers:
            lines = (document.line_numbers[lines[0] - 1], document.line_numbers[lines[1] - 1])
        assert (passage.line_start, passage.line_end) == lines
        assert len(ENCODER.tokenizer.token_spans(embedded)) <= ENCODER.max_tokens
        if not document.markup and not document.headings:
            assert embedded.endswith(passage.text)
    left_out = [at for at in range(document.body_start, len(text)) if not covered[at] and not text[at].isspace()]
    assert not left_out


def test_passages_of_the_sample_corpus_lose_nothing_and_fit() -> None:
    for file in walk([CORPUS]).files:
        for document in read(file, ReadOptions()):
            check_passages(document)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_DATA / "cpp-docs").is_dir(), reason="the folder of real Markdown is not there")
def test_passages_of_real_markdown_lose_nothing_and_fit() -> None:
    found = walk([SHARED_DATA / "cpp-docs"]).files[::2]
    read_ = [document for file in found for document in read(file, ReadOptions())]
    assert len(read_) == len(found) > 800
    for document in read_:
        check_passages(document)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["word ", "One. ", "\n", "\n\n", "  ", "汉字", "🙂", "\t- ", "x" * 300, "a.b,c! "]),
        max_size=400,
    )
)
def test_passages_of_any_text_lose_nothing_and_fit(parts: list[str]) -> None:
    check_passages(Document("x.txt", "".join(parts), "title"))
