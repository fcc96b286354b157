"""Hostile and odd files, made anew each time: name -> what it holds. By kind, in the order of the folders."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

MIB = 2**20


def files() -> Iterator[tuple[str, bytes]]:
    """Every file; some are long."""
    for folder, made in (
        ("text", _text()),
        ("encoding", _encodings()),
        ("disguise", _disguised()),
        ("markdown", _markdown()),
        ("html", _html()),
        ("records", _records()),
        ("notebook", _notebooks()),
        ("mail", _mail()),
        ("code", _code()),
        ("markup", _markup()),
        ("zip", _zips()),
        ("pdf", _pdfs()),
    ):
        for name, content in made:
            yield f"{folder}/{name}", content if isinstance(content, bytes) else content.encode()


Made = Iterator[tuple[str, str | bytes]]


def _text() -> Made:
    yield "empty.txt", ""
    yield "blank.txt", " \n\t\n" * 1000
    yield "nul.txt", "a\0b"
    yield "giant-word.txt", "a" * 8 * MIB
    yield "giant-line.txt", "word " * (MIB // 4)
    yield "base64.txt", base64.b64encode(random.Random(0).randbytes(MIB // 4))
    yield "newlines.txt", "a" + "\n" * 4 * MIB + "b"
    yield "returns.txt", "a\r" * (MIB // 4)
    yield "spaces.txt", "a" + " " * 4 * MIB + "b"
    yield "control.txt", "".join(map(chr, range(1, 32))) + " words after them"
    yield "escapes.txt", "\x1b[2J\x1b]0;title\x07 hidden \x1b[31m red"
    yield "combining.txt", "z" + "\u0301" * 200_000
    yield "right-to-left.txt", "\u202eabc\u202c " * 50_000
    yield "zero-width.txt", "\u200b" * MIB + "word"
    yield "joined-emoji.txt", "\U0001f469\u200d" * 100_000
    yield "private-use.txt", "\ue000" * 100_000
    yield "separators.txt", "a\u2028b\u2029c\x0bd\x0ce\x85f " * 20_000
    yield "chinese.txt", "\u6c49" * 100_000
    yield "dots.txt", "." * (MIB // 4)
    yield "punctuation.txt", "!?.,;:" * 30_000
    yield "too-large.txt", "word " * (11 * MIB // 5)
    yield "a\nline\tend\x1b.txt", "a name with a line end"
    yield f"{'n' * 250}.txt", "a long name"


def _encodings() -> Made:
    yield "mark-alone.txt", b"\xef\xbb\xbf"
    yield "odd-utf-16.txt", b"\xff\xfea\0b"
    yield "broken-utf-32.txt", b"\xff\xfe\0\0" + b"\xff" * 40
    yield "truncated-utf-8.txt", "words and an é".encode()[:-1]
    yield "surrogates.txt", b"words \xed\xa0\x80\xed\xb0\x80 words " * 100
    yield "latin-1.txt", "Die Straße führt über die Brücke. ".encode("latin-1") * 50
    yield "overlong.txt", b"\xc0\xaf\xe0\x80\xaf" * 1000
    yield "random.txt", random.Random(1).randbytes(MIB)
    yield "high-bytes.txt", b"\xff" * MIB


def _disguised() -> Made:
    yield "png.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(1000)
    yield "elf.md", b"\x7fELF\x02\x01\x01" + bytes(1000)
    yield "gzip.csv", gzip.compress(b"a,b\n" * 10_000)
    yield "zip.html", _zip({"a.txt": b"text"})
    yield "text.pdf", "not a PDF at all"
    yield "text.docx", "not a DOCX at all"
    yield "text.xlsx", "not an XLSX at all"
    yield "text.epub", "not an EPUB at all"
    yield "html.eml", "<html><body>no mail</body></html>"
    yield "pdf.docx", b"%PDF-1.4\n%%EOF"
    yield "picture.jpg", b"\xff\xd8\xff\xe0" + bytes(100)


def _markdown() -> Made:
    for name, piece, count in (
        ("quotes", ">", 100_000),
        ("brackets", "[", 200_000),
        ("links", "[a](", 50_000),
        ("stars", "*a ", 50_000),
        ("backticks", "`", 200_000),
        ("tags", "<a ", 50_000),
        ("headings", "# a\n", 20_000),
        ("rules", "---\n", 100_000),
        ("references", "[a]: b\n", 50_000),
        ("pictures", "![a](b.png)\n", 50_000),
        ("entities", "&amp;", 50_000),
    ):
        yield f"{name}.md", piece * count
    yield "nested-list.md", "".join(f"{'  ' * depth}- item\n" for depth in range(2000))
    yield "nested-quote.md", "\n".join("> " * depth + "a" for depth in range(400))
    yield "open-fence.md", "```\n" + "code\n" * 50_000
    yield "heading.md", "# " + "word " * 50_000
    yield "table.md", "|" + "a|" * 50_000 + "\n|" + "-|" * 50_000 + "\n"
    yield "open-comment.md", "<!--" + "a " * 100_000
    yield "data-picture.md", f"text ![a](data:image/png;base64,{'A' * 4 * MIB}) text"
    yield (
        "yaml-bomb.md",
        "---\na: &a [x,x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(20))
        + "---\ntext",
    )
    yield "yaml-deep.md", "---\na: " + "[" * 30_000 + "\n---\ntext"
    yield "yaml-open.md", "---\ntitle: never ends\n" + "a: b\n" * 10_000
    yield "yaml-number.md", f"---\nn: {'9' * 50_000}\n---\ntext"


def _html() -> Made:
    yield "nested.html", "<div>" * 200_000 + "deep"
    yield "nested-lists.html", "<ul><li>" * 50_000 + "deep"
    yield "attribute.html", f'<p class="{"a" * 4 * MIB}">text</p>'
    yield "entities.html", "<p>" + "&lt;&#x41;&nosuch;" * 30_000
    yield "open-script.html", "<p>text</p><script>" + "a" * MIB
    yield "open-comment.html", "<p>text</p><!--" + "a" * MIB
    yield "less-than.html", "<" * MIB
    yield "end-tags.html", "</div>" * 200_000 + "text"
    yield "cells.html", "<table><tr>" + "<td>a" * 200_000
    yield "nothing.html", "<html><head><title>only a title</title></head></html>"
    yield "cdata.html", "<p>a<![CDATA[" + "x" * 1000 + "]]>b"
    yield "declaration.html", "<!DOCTYPE " + "a" * MIB


def _records() -> Made:
    yield "deep.jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"
    yield "numbers.jsonl", '{"text": "a", "n": ' + "9" * 10_000 + "}"
    yield "not-a-number.jsonl", '{"text": "a", "n": NaN, "m": 1e999}'
    yield "giant.jsonl", json.dumps({"_id": "1", "title": "", "text": "word " * (MIB // 16)})
    yield "broken.jsonl", '{"text": "a"}\n{"text": \n'
    yield "array.jsonl", "[1, 2]\n"
    yield "surrogates.jsonl", '{"text": "a \\ud800 b"}'
    yield "keys.jsonl", json.dumps({"text": "a", **{f"k{i}": i for i in range(50_000)}})
    yield "columns.csv", ",".join(f"c{i}" for i in range(50_000)) + "\n" + ",".join("1" * 50_000)
    yield "open-quote.csv", 'a,b\n"never ends,' + "x\n" * 100_000
    yield "cell.csv", f'a,b\n"{"word " * 100_000}",1\n'
    yield "ragged.csv", "a,b\n" + "\n".join("1," * (i % 50) for i in range(1000))
    yield "header.csv", "a,b,c\n"
    yield "nul.csv", b"a,b\n1,\0\n"


def _notebooks() -> Made:
    yield "broken.ipynb", "{"
    yield "no-cells.ipynb", '{"nbformat": 4}'
    yield "odd-cells.ipynb", '{"nbformat": 4, "cells": [1, null, {"cell_type": 3}, {"source": {"a": 1}}]}'
    yield "deep.ipynb", '{"cells": ' + "[" * 100_000
    cell = {"cell_type": "code", "source": "x", "outputs": [{"output_type": "stream", "text": "y" * 4 * MIB}]}
    yield "output.ipynb", json.dumps({"nbformat": 4, "metadata": {}, "cells": [cell]})


def _mail() -> Made:
    part = 'Content-Type: multipart/mixed; boundary="{0}"\n\n--{0}\n'
    yield "nested.eml", "Subject: deep\n" + "".join(part.format(f"b{i}") for i in range(5000))
    yield "parts.eml", "Content-Type: multipart/mixed; boundary=b\n\n" + "--b\n\ntext\n" * 20_000
    yield "header.eml", f"Subject: {'word ' * 500_000}\n\ntext"
    yield "headers.eml", "".join(f"X-{i}: a\n" for i in range(50_000)) + "\ntext"
    yield "no-headers.eml", "\n\ntext alone"
    yield "charset.eml", b"Content-Type: text/plain; charset=no-such\n\ntext \xff"
    yield "base64.eml", "Content-Transfer-Encoding: base64\nContent-Type: text/plain\n\n!!!!not base64"
    yield "encoded-words.eml", "Subject: " + "=?utf-8?B?4pyT?= " * 20_000 + "\n\ntext"
    yield "empty.mbox", "From nobody\n"
    yield "separators.mbox", "From a@b Thu Jan  1 00:00:00 1970\n\n" * 20_000


def _code() -> Made:
    yield "minified.js", "function a(){return 1}" * 30_000
    yield "parentheses.py", "(" * 100_000
    yield "nested.py", "".join(f"{' ' * depth}if 1:\n" for depth in range(2000))
    yield "open-comment.c", "/*" + " a" * 100_000
    yield "open-string.py", '"""' + "a\n" * 100_000
    yield "braces.java", "class A {" * 50_000
    yield "indents.yaml", "".join(f"{' ' * depth}a:\n" for depth in range(2000))
    yield "definitions.py", "def f(): pass\n" * 10_000
    yield "backslashes.sh", "\\\n" * 200_000


def _markup() -> Made:
    yield "adornments.rst", "====\n" * 30_000
    yield "titles.rst", "a\n=\n" * 50_000
    yield "blocks.adoc", "----\n" * 30_000
    yield "attributes.adoc", ":a: b\n" * 30_000
    yield "stars.org", "*" * (MIB // 4) + " a"
    yield "braces.tex", "\\section{" * 30_000


def _zip(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def _zips() -> Made:
    types = (
        b'<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        b'<Default Extension="xml" ContentType="application/xml"/><Default Extension="rels" '
        b'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        b'<Override PartName="/word/document.xml" '
        b'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
    )
    rels = (
        b'<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        b'<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
        b'officeDocument" Target="word/document.xml"/></Relationships>'
    )
    word = b'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'

    def docx(body: bytes, before: bytes = b"") -> bytes:
        document = (
            b'<?xml version="1.0"?>' + before + b"<w:document " + word + b"><w:body>" + body + b"</w:body></w:document>"
        )
        return _zip({"[Content_Types].xml": types, "_rels/.rels": rels, "word/document.xml": document})

    entities = (
        b'<!DOCTYPE a [<!ENTITY a0 "lol">'
        + b"".join(b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 10))
        + b"]>"
    )
    yield "entities.docx", docx(b"<w:p><w:r><w:t>&a9;</w:t></w:r></w:p>", entities)
    outside = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    yield "outside.docx", docx(b"<w:p><w:r><w:t>&x;</w:t></w:r></w:p>", outside)
    yield "nested.docx", docx(b"<w:p>" * 50_000 + b"deep" + b"</w:p>" * 50_000)
    yield "bomb.docx", docx(b"<w:p><w:r><w:t>" + b"a" * 300 * MIB + b"</w:t></w:r></w:p>")
    yield "paragraphs.docx", docx(b"<w:p><w:r><w:t>word</w:t></w:r></w:p>" * 20_000)
    yield "no-parts.docx", _zip({})
    yield "cut.docx", docx(b"<w:p/>")[:-40]
    for suffix in ("pptx", "xlsx", "odt", "ods", "epub"):
        yield f"empty.{suffix}", _zip({})
        yield f"bomb.{suffix}", _zip({"content.xml": bytes(300 * MIB), "mimetype": b"x"})
        yield f"random.{suffix}", random.Random(2).randbytes(100_000)
    container = (
        b'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        b'<rootfile full-path="../../../etc/passwd"/></rootfiles></container>'
    )
    yield "outside.epub", _zip({"META-INF/container.xml": container, "mimetype": b"application/epub+zip"})


def _pdf(objects: list[bytes], trailer: bytes = b"") -> bytes:
    out, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, trailer, start)


def _pdfs() -> Made:
    catalog, page = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R>>",
    )
    one = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"

    def stream(content: bytes) -> bytes:
        return b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(content), content)

    yield "header.pdf", b"%PDF-1.7\n"
    yield "random.pdf", b"%PDF-1.7\n" + random.Random(3).randbytes(MIB)
    yield "loop.pdf", _pdf([catalog, b"<</Type/Pages/Kids[2 0 R]/Count 1000000>>"])
    yield (
        "many.pdf",
        _pdf([catalog, b"<</Type/Pages/Kids[%s]/Count 200000>>" % (b"3 0 R " * 200_000), page, stream(b"")]),
    )
    yield "bomb.pdf", _pdf([catalog, one, page, stream(zlib.compress(b"q " * 150 * MIB, 9))])
    yield "wide.pdf", _pdf([catalog, one, page.replace(b"612", b"9" * 30), stream(zlib.compress(b"BT ET"))])
    yield "previous.pdf", _pdf([catalog, one, page, stream(b"")], b"/Prev 9")
    yield "cut.pdf", _pdf([catalog, one, page, stream(zlib.compress(b"BT ET"))])[:-60]
    yield "nested.pdf", _pdf([catalog, b"[" * 200_000])
    yield "length.pdf", _pdf([catalog, one, page, b"<</Length 99999999999>>stream\n"]) + struct.pack("<q", -1)
