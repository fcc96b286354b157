"""Readers of PDF, Office and OpenDocument files and of electronic books, on files that other programs made."""

from __future__ import annotations

import datetime
import os
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import docx
import pptx
import pypdfium2
import pytest
import xlsxwriter
from conftest import ROOT
from docx.oxml import parse_xml
from pptx.util import Inches

from semsearch import Encoder
from semsearch.corpus.chunking import Chunker
from semsearch.corpus.formats import ReadOptions
from semsearch.corpus.readers import read
from semsearch.corpus.readers.builder import Builder
from semsearch.corpus.walk import SourceFile, walk
from semsearch.errors import UnreadableFileError
from semsearch.types import Document, Heading, Part

FILES = ROOT / "tests" / "documents"
ENCODER = Encoder()
CHUNKER = Chunker(ENCODER.tokenizer.token_starts, ENCODER.max_tokens)

GUIDE_HEADINGS = [
    (1, "Before you begin"),
    (2, "What to buy"),
    (3, "Where to put it"),
    (1, "The year of a colony"),
    (1, "When things go wrong"),
]
PLAIN_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def document(path: Path) -> Document:
    (found,) = read(walk([path]).files[0], ReadOptions())
    check(found)
    return found


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFileError) as caught:
        list(read(walk([path]).files[0], ReadOptions()))
    return str(caught.value)


def check(found: Document) -> None:
    """What holds for every document."""
    text = found.text
    text.encode()
    assert text.strip()
    assert not re.search(r"[\0\r\f\v\ufffe\u2028]|\n\n\n|[ \t]\n", text)
    for heading in found.headings:
        said = text[heading.char_start : heading.char_end].strip()
        assert said in (heading.text, ""), heading
        assert heading.char_start < len(text)
    for items in (found.headings, found.parts):
        starts = [one.char_start for one in items]
        assert starts == sorted(starts)
    for part in found.parts:
        assert not text[part.char_start].isspace() or part.columns
        assert text[: part.char_start].endswith("\n\n") or part.char_start == 0
    if found.line_numbers is not None:
        assert len(found.line_numbers) == len(text.split("\n"))
        assert list(found.line_numbers)[0] > 0
    for passage, _ in CHUNKER.chunk(found):
        assert text[passage.char_start : passage.char_end] == passage.text


def source_texts(name: str) -> list[str]:
    """What stands in the paragraphs of a flat OpenDocument source, by another parser; notes and boxes by themselves."""
    name_space = "{urn:oasis:names:tc:opendocument:xmlns:"
    root = ElementTree.parse(FILES / "sources" / name).getroot()
    body = root.find(f"{name_space}office:1.0}}body")
    assert body is not None

    def words(element: ElementTree.Element) -> str:
        inner = (
            "\n" + (child.tail or "") if child.tag.endswith(("}note", "}frame")) else words(child) + (child.tail or "")
            for child in element
        )
        return (element.text or "") + "".join(inner)

    tags = (f"{name_space}text:1.0}}p", f"{name_space}text:1.0}}h")
    return [piece for one in body.iter() if one.tag in tags for piece in words(one).split("\n") if piece.strip()]


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", ["guide.odt", "guide.docx", "guide.pdf", "guide.epub"])
def test_every_sentence_of_the_source_is_in_the_text(name: str) -> None:
    found = document(FILES / name)
    texts = source_texts("guide.fodt")
    assert len(texts) == 30
    for sentence in texts:
        # In a PDF a line of a paragraph ends where the page does.
        assert squeezed(sentence) in squeezed(found.text), sentence
    assert found.title == "Keeping bees in a town"
    assert found.metadata["author"] == "Ada Honig"


@pytest.mark.parametrize("name", ["guide.odt", "guide.docx", "guide.pdf"])
def test_headings_have_levels_and_stand_where_they_say(name: str) -> None:
    found = document(FILES / name)
    assert [(one.level, one.text) for one in found.headings] == GUIDE_HEADINGS
    assert all(found.text[one.char_start : one.char_end] == one.text for one in found.headings)
    assert found.metadata["subject"] == "beekeeping"
    assert set(re.split("[, ]+", found.metadata["keywords"])) == {"bees", "honey"}
    (passage,) = (p for p, _ in CHUNKER.chunk(found) if "Wasps come" in p.text)
    assert passage.heading == "When things go wrong"


@pytest.mark.parametrize("name", ["guide.odt", "guide.docx"])
def test_texts_have_blocks_lists_tables_and_notes(name: str) -> None:
    found = document(FILES / name)
    blocks = found.text.split("\n\n")
    assert "A hive with ten frames\nA smoker and a veil\nGloves are for beginners\nA bucket with a lid" in blocks
    assert "Find a place in the morning sun.\nTurn the entrance away from the street." in blocks
    assert "Month\tWork\tHours\nApril\tadd a super\t3\nAugust\ttreat the mites\t5" in blocks
    at = blocks.index("Swarms leave in May. The harvest is in July.")
    assert blocks[at + 1] == "In the mountains they leave in June."
    assert blocks.count("Never open a hive in the rain.") == 1
    assert "Running head of every page" not in found.text
    assert found.metadata["created"].startswith("2024-03-05T10:11:12")
    assert found.metadata["modified"].startswith("2024-06-07T08:09:10")
    assert found.parts == ()


def test_pdf_has_pages_and_paragraphs() -> None:
    found = document(FILES / "guide.pdf")
    assert [(part.kind, part.number) for part in found.parts] == [("page", 1), ("page", 2), ("page", 3)]
    for word, page in (("flowers", 1), ("frames", 1), ("Swarms", 2), ("mites", 2), ("Wasps", 3)):
        assert [p.number for p in found.parts if p.char_start < found.text.index(word)][-1] == page
    blocks = [squeezed(block) for block in found.text.split("\n\n")]
    for paragraph in source_texts("guide.fodt")[:5]:
        assert squeezed(paragraph) in blocks
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found.metadata["created"])
    places = {p.place: p.page for p, _ in CHUNKER.chunk(found)}
    assert all(re.fullmatch(r"page \d|pages \d-\d", place) for place in places)
    assert all(place.removeprefix("pages ").removeprefix("page ")[0] == str(page) for place, page in places.items())
    (passage,) = (p for p, _ in CHUNKER.chunk(found) if "Wasps come" in p.text)
    assert passage.place.endswith("3")


@pytest.mark.parametrize("name", ["book.docx", "book.epub"])
def test_pandocs_headings(name: str) -> None:
    found = document(FILES / name)
    own = [(one.level, one.text) for one in found.headings if one.text != found.title]
    assert own == [(1, "Cirrus"), (2, "Mares’ tails"), (1, "Cumulus"), (3, "Towers"), (1, "Stratus")]
    assert found.title == "A small book of clouds"
    assert re.split("[,;] ", found.metadata["author"]) == ["Ada Honig", "Luke Howard"]
    assert found.metadata["language"] == "en-GB"
    assert "They announce a change of weather, says the sailor." in found.text
    assert "积云 is their name in Chinese." in found.text


def test_epub_has_chapters_in_the_order_of_the_spine() -> None:
    found = document(FILES / "book.epub")
    assert [(part.kind, part.number) for part in found.parts] == [("chapter", n) for n in range(1, 5)]
    starts = {part.number: found.text[part.char_start :].split("\n")[0] for part in found.parts}
    assert starts == {1: "A small book of clouds", 2: "Cirrus", 3: "Cumulus", 4: "Stratus"}
    passages = [p for p, _ in CHUNKER.chunk(found)]
    assert passages[0].place.startswith("chapter")
    assert passages[-1].place.endswith("4")


@pytest.mark.parametrize("name", ["slides.pptx", "slides.odp"])
def test_slides_have_titles_tables_and_notes(name: str) -> None:
    found = document(FILES / name)
    titles = ["Roof gardens", "Why a garden on the roof", "What it costs", "问题"]
    assert [(one.level, one.text) for one in found.headings] == [(1, title) for title in titles]
    assert [(part.kind, part.number) for part in found.parts] == [("slide", n) for n in range(1, 5)]
    assert [part.char_start for part in found.parts] == [one.char_start for one in found.headings]
    ends = [*(part.char_start for part in found.parts[1:]), len(found.text)]
    second, third, fourth = (
        found.text[part.char_start : end].rstrip() for part, end in zip(found.parts[1:], ends[1:], strict=True)
    )
    lines = "It holds back the rain of a storm.", "cooler rooms in summer", "food for bees 🐝"
    assert second.split() == " ".join((titles[1], *lines, "Mention the flood of 2021 here.")).split()
    assert third.endswith("\n\nLayer\tPrice\nMembrane\t30 euros\nSoil for Blüten\t12 euros")
    assert fourth == "问题\n\nWho waters it in August?\n\nWait for an answer."
    assert found.metadata["author"] == "Ada Honig"
    assert [p.place for p, _ in CHUNKER.chunk(found)][0].startswith("slide")


def test_shapes_in_groups_are_read_and_slides_without_text_counted(tmp_path: Path) -> None:
    show = pptx.Presentation()
    show.slides.add_slide(show.slide_layouts[6])
    slide = show.slides.add_slide(show.slide_layouts[5])
    slide.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame.text = "before the\vgroup"
    outer = slide.shapes.add_group_shape()
    inner = outer.shapes.add_group_shape()
    inner.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame.text = "deep inside"
    slide.shapes.title.text_frame.text = "Two\vlines"
    show.core_properties.title = "PowerPoint Presentation"
    show.save(str(tmp_path / "x.pptx"))
    found = document(tmp_path / "x.pptx")
    assert found.text == "Two lines\n\nbefore the\ngroup\n\ndeep inside"
    assert found.parts == (Part(0, "slide", 2),)
    assert found.title == "Two lines"


@pytest.mark.parametrize("name", ["accounts.xlsx", "accounts.xls", "accounts.ods"])
def test_sheets_have_names_rows_and_columns(name: str) -> None:
    found = document(FILES / name)
    assert found.text.split("\n") == [
        "Fruit\tSold on\tBoxes\tPrice\tSum\tPaid",
        "Äpfel\t2024-02-29\t12\t2.5\t30\tTRUE",
        "",
        "Pears 🍐 from Sussex\t2024-03-01 14:30:00\t1000000\t\t0.3",
        "",
        "Warehouse\tCrates",
        "北仓库\t7",
    ]
    assert list(found.line_numbers or ()) == [1, 2, 2, 4, 4, 4, 5]
    second = found.text.index("Warehouse")
    assert found.parts == (Part(0, "sheet", 1, "Sales", "A:F"), Part(second, "sheet", 3, "Stock at Zürich", "C:D"))
    assert found.headings == (Heading(0, 1, "Sales", 0), Heading(second, 1, "Stock at Zürich", second))
    assert found.title == "accounts"
    places = [passage.place for passage, _ in CHUNKER.chunk(found)]
    assert places == ["Sales!A1:F4", "Stock at Zürich!C4:D5"], "small as they are, sheets share no passage"


def test_a_passages_place_is_its_range_of_cells(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet("Big")
        for row in range(60):
            sheet.write_row(row + 9, 27, [f"apples of row {row + 10}", row, row / 4, True])
        sheet.write(200, 27, datetime.time(7, 5), book.add_format({"num_format": "hh:mm"}))
    found = document(path)
    assert found.parts == (Part(0, "sheet", 1, "Big", "AB:AE"),)
    assert found.text.endswith("\n\n07:05:00")
    assert "apples of row 11\t1\t0.25\tTRUE\n" in found.text
    passages = [p for p, _ in CHUNKER.chunk(found)]
    assert len(passages) > 3
    for passage in passages:
        rows = [int(n) for n in re.findall(r"of row (\d+)", passage.text)]
        last = 201 if "07:05" in passage.text else rows[-1]
        assert passage.place == f"Big!AB{rows[0]}:AE{last}"
        assert passage.heading == "Big"
    assert (passages[0].line_start, passages[-1].line_end) == (10, 201)


def test_a_sheet_with_cells_in_opposite_corners_is_refused(tmp_path: Path) -> None:
    for name, last in (("x.xlsx", (1048575, 16383)), ("y.xlsx", (9999, 1))):
        with xlsxwriter.Workbook(str(tmp_path / name)) as book:
            sheet = book.add_worksheet()
            sheet.write(0, 0, "first")
            sheet.write(*last, "last")
    assert refusal(tmp_path / "x.xlsx") == "a sheet of 1048576 rows and 16384 columns, nearly all of them empty"
    found = document(tmp_path / "y.xlsx")
    assert (found.text, list(found.line_numbers or ())) == ("first\n\n\tlast", [1, 1, 10000])
    said = rb'<dimension ref="A1:XFD1048576"'
    wrong = rewritten(
        tmp_path / "y.xlsx",
        tmp_path / "z.xlsx",
        "xl/worksheets/sheet1.xml",
        lambda data: re.sub(rb'<dimension ref="[^"]*"', said, data),
    )
    assert document(wrong).text == found.text


def rewritten(source: Path, target: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a zip file, one member of it changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        assert member in old.namelist()
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name == member else old.read(name))
    return target


def test_word_text_in_controls_insertions_fields_and_boxes_is_read_once(tmp_path: Path) -> None:
    word = docx.Document()
    body = word.element.body
    word.add_paragraph("A title of its own", style="Title")

    def add(xml: str) -> None:
        names = (
            f'xmlns:w="{PLAIN_W}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
            'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
        )
        body.insert(len(body) - 1, parse_xml(f"<w:p {names}>{xml}</w:p>" if xml[:6] != "<w:sdt" else xml % names))

    def run(text: str) -> str:
        return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'

    box = f"<w:txbxContent><w:p>{run('boxed')}</w:p></w:txbxContent>"
    add(f"<w:sdt %s><w:sdtContent><w:p>{run('controlled')}</w:p></w:sdtContent></w:sdt>")
    add(f"{run('kept ')}<w:ins>{run('inserted')}</w:ins><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>")
    add(
        f'<w:fldSimple w:instr="AUTHOR">{run("field")}</w:fldSimple><w:r><w:tab/></w:r>'
        "<m:oMath><m:r><m:t>x+y</m:t></m:r></m:oMath>"
    )
    choice = f"<mc:Choice Requires='wps'>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    add(f"{run('around')}<w:r><mc:AlternateContent>{choice}</mc:AlternateContent></w:r>")
    add(f'<w:pPr><w:outlineLvl w:val="3"/></w:pPr>{run("by its outline level")}')
    add(f'<w:pPr><w:pStyle w:val="toc1"/></w:pPr>{run("contents of it")}')
    for style in ("toc 1", "My heading"):
        word.styles.add_style(style, docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    word.styles["My heading"].base_style = word.styles["Heading 2"]
    word.paragraphs[-1].style = word.styles["toc 1"]
    word.add_paragraph("by a style of one's own", style="My heading")
    frame = word.add_table(1, 1).cell(0, 0)
    frame.text = "in a frame"
    frame.add_paragraph("and more")
    table = word.add_table(3, 2)
    table.cell(1, 1).text = "after an empty row"
    for text in ("", "after an empty item"):
        word.add_paragraph(text, style="List Bullet")
    for name in ("title", "author"):
        setattr(word.core_properties, name, "")
    word.save(str(tmp_path / "x.docx"))
    found = document(tmp_path / "x.docx")
    assert found.text.split("\n\n") == [
        "A title of its own",
        "controlled",
        "kept inserted",
        "field x+y",
        "around",
        "boxed",
        "by its outline level",
        "by a style of one's own",
        "in a frame",
        "and more",
        "\tafter an empty row",
        "after an empty item",
    ]
    assert [(one.level, one.text) for one in found.headings] == [
        (4, "by its outline level"),
        (2, "by a style of one's own"),
    ]
    assert found.title == "A title of its own"
    assert "author" not in found.metadata


def test_templates_and_macro_documents_are_read(tmp_path: Path) -> None:
    main = b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    macro = b"application/vnd.ms-word.document.macroEnabled.main+xml"
    types = "[Content_Types].xml"
    made = rewritten(FILES / "guide.docx", tmp_path / "x.docm", types, lambda data: data.replace(main, macro))
    assert document(made).text == document(FILES / "guide.docx").text
    main = b"application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml"
    show = b"application/vnd.openxmlformats-officedocument.presentationml.slideshow.main+xml"
    made = rewritten(FILES / "slides.pptx", tmp_path / "x.ppsx", types, lambda data: data.replace(main, show))
    assert document(made).text == document(FILES / "slides.pptx").text


NAMES = ["guide.docx", "guide.odt", "guide.pdf", "guide.epub", "slides.pptx", "slides.odp", "accounts.xlsx"]
ALL = [*NAMES, "accounts.xls", "accounts.ods", "book.epub", "book.docx"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_such_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert refusal(path) == "empty"
    path.write_bytes(random.Random(5).randbytes(5000))
    assert refusal(path).startswith("not a readable ")
    whole = (FILES / name).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    if name.endswith(".pdf"):  # pdfium puts together what is left
        assert refusal(path).startswith(("not a readable PDF", "no text"))
    else:
        assert refusal(path).startswith("not a readable ")
        with zipfile.ZipFile(path, "w") as package:
            package.writestr("mimetype", "a zip file of something else")
        assert refusal(path).startswith("not a readable ")
    path.unlink()
    path.mkdir()
    status = path.stat()
    with pytest.raises(UnreadableFileError, match="cannot be read|not a readable"):
        list(read(SourceFile(path, name, 1, status.st_mtime_ns), ReadOptions()))


# Not XLS: a wrong length in one makes the library ask for more memory than there is, which ends the process.
@pytest.mark.parametrize("name", [name for name in ALL if not name.endswith(".xls")])
def test_damaged_files_are_read_or_refused_and_never_fail_otherwise(name: str, tmp_path: Path) -> None:
    whole = (FILES / name).read_bytes()
    dice = random.Random(len(whole))
    path = tmp_path / name
    outcomes = set()
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 20, 300))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        try:
            for found in read(walk([path]).files[0], ReadOptions()):
                check(found)
                outcomes.add("read")
        except UnreadableFileError as error:
            outcomes.add(str(error))
    reasons = outcomes - {"read"}
    assert reasons
    assert max(map(len, reasons)) < 200


@pytest.mark.parametrize("name", [name for name in ALL if not name.endswith((".pdf", ".xls"))])
def test_zip_bombs_are_refused_before_they_are_unpacked(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    shutil.copy(FILES / name, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as package, package.open("bomb.xml", "w") as member:
        for _ in range(101):
            member.write(bytes(2**20))
    assert re.fullmatch(r"unpacks to 101 MiB, which is over the limit of 100 MiB", refusal(path))


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "lol">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b'<!ENTITY file SYSTEM "file:///etc/passwd">]>'
)


@pytest.mark.parametrize(
    ("name", "member", "word"),
    [
        ("guide.docx", "word/document.xml", b"Swarms leave"),
        ("guide.odt", "content.xml", b"Swarms leave"),
        ("slides.pptx", "ppt/slides/slide3.xml", b"Membrane"),
        ("slides.odp", "content.xml", b"Membrane"),
        ("book.epub", "EPUB/content.opf", b"A small book"),
        ("accounts.xlsx", "xl/sharedStrings.xml", b"Warehouse"),
        ("accounts.ods", "content.xml", b"Warehouse"),
    ],
)
@pytest.mark.parametrize("entity", [b"&b;", b"&j;", b"&file;"])
def test_entities_are_never_expanded(name: str, member: str, word: bytes, entity: bytes, tmp_path: Path) -> None:
    def change(data: bytes) -> bytes:
        assert word in data
        data = re.sub(rb"^(\s*<\?xml.*?\?>)?", lambda match: match[0] + BOMB, data, count=1)
        return data.replace(word, entity + word)

    path = rewritten(FILES / name, tmp_path / name, member, change)
    try:
        (found,) = read(walk([path]).files[0], ReadOptions())
        shown = found.text + found.title
    except UnreadableFileError as error:
        shown = str(error)
    assert "lol" not in shown
    assert "root:" not in shown
    assert len(shown) < 3000


def test_encrypted_files_say_so(tmp_path: Path) -> None:
    assert refusal(FILES / "locked.pdf") == "encrypted; save it without a password"
    compound = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000)
    for name in ("x.docx", "x.pptx", "x.xlsx"):
        (tmp_path / name).write_bytes(compound + "EncryptedPackage".encode("utf-16-le"))
        assert refusal(tmp_path / name) == "encrypted; save it without a password"
        (tmp_path / name).write_bytes(compound)
        assert refusal(tmp_path / name).startswith(("of a format before 2007", "not a readable spreadsheet"))
    entry = b"<manifest:file-entry"
    key = b'<manifest:file-entry manifest:full-path="x"><manifest:encryption-data/></manifest:file-entry>' + entry
    for name in ("guide.odt", "slides.odp", "accounts.ods"):
        made = rewritten(
            FILES / name, tmp_path / name, "META-INF/manifest.xml", lambda data: data.replace(entry, key, 1)
        )
        assert refusal(made) == "encrypted; save it without a password"


def test_a_pdf_is_read_in_spite_of_a_broken_bookmark_and_title(tmp_path: Path) -> None:
    whole = (FILES / "guide.pdf").read_bytes()
    broken = re.sub(rb"/Title<FEFF[0-9A-F]{4}", lambda match: match[0][:-4] + b"D800", whole)
    assert broken.count(b"FEFFD800") == 6
    (tmp_path / "x.pdf").write_bytes(broken)
    found = document(tmp_path / "x.pdf")
    assert found.text.split() == document(FILES / "guide.pdf").text.split()
    assert found.headings == ()
    assert found.metadata["author"] == "Ada Honig"
    # What stands largest on the first page.
    assert found.title == "Keeping bees in a town"
    assert "title" not in found.metadata


@pytest.mark.parametrize(
    ("method", "encrypted"),
    [("http://www.idpf.org/2008/embedding", False), ("http://www.w3.org/2001/04/xmlenc#aes256-cbc", True)],
)
def test_books_with_scrambled_fonts_are_read_and_those_with_scrambled_text_are_not(
    method: str, encrypted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.epub"
    shutil.copy(FILES / "book.epub", path)
    with zipfile.ZipFile(path, "a") as package:
        package.writestr(
            "META-INF/encryption.xml",
            '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
            'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
            f'<enc:EncryptionMethod Algorithm="{method}"/></enc:EncryptedData></encryption>',
        )
    if encrypted:
        assert refusal(path).startswith("encrypted")
    else:
        assert document(path).text == document(FILES / "book.epub").text


def test_documents_without_text_say_so(tmp_path: Path) -> None:
    with pypdfium2.PdfDocument.new() as pdf:
        pdf.new_page(100, 100).close()
        pdf.save(str(tmp_path / "x.pdf"))
    assert refusal(tmp_path / "x.pdf") == "no text in it: pages are pictures"
    docx.Document().save(str(tmp_path / "x.docx"))
    pptx.Presentation().save(str(tmp_path / "x.pptx"))
    with xlsxwriter.Workbook(str(tmp_path / "x.xlsx")) as book:
        book.add_worksheet()
    for name in ("x.docx", "x.pptx", "x.xlsx"):
        assert refusal(tmp_path / name) == "empty"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's list of open files")
def test_no_file_stays_open(tmp_path: Path) -> None:
    def opened() -> list[str]:
        return [
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        ]

    for name in (*ALL, "locked.pdf"):
        shutil.copy(FILES / name, tmp_path / name)
        (tmp_path / f"half-{name}").write_bytes((FILES / name).read_bytes()[:3000])
    for path in sorted(tmp_path.iterdir()):
        try:
            list(read(walk([path]).files[0], ReadOptions()))
        except UnreadableFileError:
            assert path.name.startswith(("half-", "locked"))
    assert not [name for name in opened() if name.startswith(str(tmp_path))]


def test_a_builders_text_is_clean_and_its_offsets_true() -> None:
    builder = Builder()
    builder.part("page", 1)
    builder.part("page", 2)
    builder.block("a\0b\r\nc \x0bd\ud800\n\n")
    builder.block(" \n")
    builder.heading(2, "two\n lines")
    builder.block("item", apart=False)
    builder.part("page", 3)
    builder.heading_unsaid(1, "of no text")
    found = builder.document(SourceFile(Path("x"), "f/x.pdf", 1, 1), "", {"a": "", "b": None, "c": "\0d", "e": 3})
    assert found.text == "ab\nc\nd\ufffd\n\ntwo lines\nitem"
    start = found.text.index("two")
    assert found.headings == (Heading(start, 2, "two lines", start + 9),)
    assert found.parts == (Part(0, "page", 2),)
    assert (found.title, found.metadata) == ("two lines", {"c": "d", "e": 3})
