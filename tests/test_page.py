"""The page, in a real browser: Chromium, headless, by Playwright."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import CORPUS
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from serving import Server, serving

from semsearch import Indexer, Searcher

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; on Debian: apt-get install chromium"),
]
SCRIPT = '<img src=x onerror="window.pwned = 1"><script>window.pwned = 1</script>'
ODD = "odd [a]*?\\ \"b\" 'c' & <i>"
OLD = 1_600_000_000  # 2020-09-13
NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample corpus, and what is hard to show."""
    folder = tmp_path_factory.mktemp("page") / "docs"
    shutil.copytree(CORPUS, folder)
    (folder / ODD).mkdir()
    (folder / ODD / "name.md").write_text("# Odd names\n\nA zeppelin hangar with an unusual name.\n")
    record = {"_id": SCRIPT, "title": SCRIPT, "text": f"A walrus wrote {SCRIPT} on the ice."}
    (folder / "script.jsonl").write_text(json.dumps(record) + "\n")
    (folder / "emoji.md").write_text("# 🙂 Emoji\n\n🙂🚀 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 stands before the marmalade here.\n")
    chapters = "\n\n".join(f"## Chapter {n}\n\n" + f"The lighthouse keeper counts ship {n}. " * 25 for n in range(60))
    (folder / "long.md").write_text(f"# Lighthouse\n\n{chapters}\n\n## Last\n\nAt last an octopus opened the jar.\n")
    for path in (folder / "travel").iterdir():
        os.utime(path, (OLD, OLD))
    return folder


@pytest.fixture(scope="module")
def indexes(folder: Path) -> Path:
    Indexer(folder.parent / "indexes" / "docs").update(folder)
    return folder.parent / "indexes"


@pytest.fixture(scope="module")
def server(indexes: Path) -> Iterator[Server]:
    with serving(indexes) as running:
        yield running


@pytest.fixture(scope="module")
def searcher(indexes: Path) -> Iterator[Searcher]:
    with Searcher(indexes / "docs") as searcher:
        yield searcher


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Browser, server: Server) -> Iterator[NewPage]:
    """Opens the page at an address, and sees that it asks no other server and has no error of its own."""
    wrong: list[str] = []
    contexts = []

    def make(address: str = "/", *, base: str = server.url, quiet: bool = True, **options: Any) -> Page:
        context = browser.new_context(base_url=base, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: request.url.startswith((base, "data:")) or wrong.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        if quiet:
            page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.goto(address)
        return page

    yield make
    for context in contexts:
        context.close()
    assert wrong == []


def titles(page: Page) -> list[str]:
    return page.locator("#hits .title").all_inner_texts()


def search(page: Page, query: str) -> None:
    page.locator("#query").fill(query)
    expect(page.locator("body.searching")).to_have_count(0)
    expect(page.locator("#status")).to_contain_text("hit")


def assert_accessible(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["impact"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []


def test_hits_come_as_one_types(new_page: NewPage, searcher: Searcher) -> None:
    page = new_page()
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.type("how to repair a leaky faucet", delay=15)
    expect(page.locator("#status")).to_contain_text("hit")
    hits = searcher.search("how to repair a leaky faucet", k=20)
    expect(page.locator("#hits .title")).to_have_text([hit.title for hit in hits])
    first = page.locator("#hits > li").first
    expect(first.locator(".snippet")).to_have_text(re.sub(r"\s+", " ", hits[0].snippet))
    expect(first.locator("mark")).to_have_text([hits[0].snippet[slice(*span)] for span in hits[0].matches])
    expect(first.locator(".path")).to_have_text(f"{hits[0].path}:{hits[0].line_start}-{hits[0].line_end}")
    assert "q=how+to+repair+a+leaky+faucet" in page.url
    again = new_page(page.url.removeprefix(page.url.split("/?")[0]))
    expect(again.locator("#hits .title")).to_have_text([hit.title for hit in hits])
    expect(again.locator("#query")).to_have_value("how to repair a leaky faucet")


def test_marks_count_characters(new_page: NewPage) -> None:
    page = new_page("/?q=marmalade&mode=lexical")
    expect(page.locator("#hits mark")).to_have_text(["marmalade"])


def test_an_answer_that_comes_late_is_nobodys(new_page: NewPage) -> None:
    page = new_page()
    held: list[Route] = []
    page.route(re.compile(r"/api/search\?.*query=octopus"), lambda route: held.append(route))
    page.locator("#query").fill("octopus")
    with page.expect_request(re.compile("query=octopus")):
        pass
    search(page, "walrus on the ice")
    shown = titles(page)
    assert shown[0] == SCRIPT
    for route in held:
        route.continue_()
    page.wait_for_timeout(500)
    assert titles(page) == shown


def test_keys_alone(new_page: NewPage, searcher: Searcher) -> None:
    page = new_page()
    page.keyboard.type("octopus opened the jar")
    hits = searcher.search("octopus opened the jar", k=20)
    expect(page.locator("#hits .title")).to_have_text([hit.title for hit in hits])
    page.keyboard.press("ArrowDown")
    expect(page.locator("#hits .title").nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#hits .title").nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    passage = page.locator("#passage")
    expect(passage).to_be_in_viewport()
    expect(passage).to_contain_text("octopus opened the jar")
    expect(passage.locator("mark").first).to_be_visible()
    assert f"open={hits[0].id}" in page.url
    expect(page.locator("#document .text")).to_be_focused()
    page.keyboard.press("n")
    expect(page.locator("#document h2")).to_have_text(hits[1].title)
    expect(page.locator("#hits li.open .title")).to_have_text(hits[1].title)
    page.keyboard.press("p")
    expect(page.locator("#document h2")).to_have_text(hits[0].title)
    page.keyboard.press("Escape")
    expect(page.locator("#document")).to_be_hidden()
    expect(page.locator("#hits .title").nth(0)).to_be_focused()
    page.keyboard.press("s")
    expect(page.locator("#chosen")).to_contain_text(f"Like {hits[0].title}")
    page.keyboard.press("Escape")
    expect(page.locator("#chosen")).to_be_empty()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("/")
    expect(page.locator("#query")).to_be_focused()
    assert page.evaluate("getSelection().toString()") == "octopus opened the jar"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_reading_on(new_page: NewPage, searcher: Searcher, folder: Path) -> None:
    hit = searcher.search("octopus opened the jar")[0]
    page = new_page(f"/?q=octopus&open={hit.id}")
    text = page.locator("#document .text")
    expect(page.locator("#passage")).to_be_in_viewport()
    expect(text.get_by_role("button", name="Later")).to_have_count(0)
    expect(text).not_to_contain_text("Chapter 30")
    earlier = text.get_by_role("button", name="Earlier")
    top = "() => document.getElementById('passage').getBoundingClientRect().top"
    earlier.focus()
    before = page.evaluate(top)
    with page.expect_response(re.compile("context=15")):
        earlier.click()
    expect(text).to_contain_text("ship 54.")
    assert abs(page.evaluate(top) - before) < 60, "what is in sight stays where it is"
    while earlier.count():
        with page.expect_response(re.compile("/api/document")):
            earlier.click()
        page.wait_for_timeout(100)
    expect(text).to_contain_text("ship 0.")
    shown = re.sub(r"\s+", " ", text.inner_text())
    assert re.sub(r"\s+", " ", (folder / "long.md").read_text())[:3000] in shown, "from its beginning, word for word"


def test_facets_are_counted_and_narrow(new_page: NewPage, folder: Path) -> None:
    page = new_page("/?q=water")
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    counts = Counter(f"{path.parts[0]}/" for path in files if len(path.parts) > 1)
    shown = page.locator("[data-kind=folder] li button[aria-pressed=false]")
    expect(shown).to_have_count(len(counts))
    read = {one.locator(".name").inner_text(): one.locator(".count").inner_text() for one in shown.all()}
    assert read == {name: str(count) for name, count in counts.items()}
    page.locator("[data-kind=folder] button", has_text="travel/").click()
    expect(page.locator("#chosen")).to_contain_text("travel/")
    expect(page.locator("#hits .path").first).to_contain_text("travel/")
    assert all("travel/" in text for text in page.locator("#hits .path").all_inner_texts())
    expect(page.locator("[data-kind=date] .name")).to_have_text(["2020"])
    page.locator("[data-kind=date] button", has_text="2020").click()
    page.locator("[data-kind=date] button", has_text="September 2020").click()
    expect(page.locator("#chosen")).to_contain_text("September 2020")
    expect(page.locator("[data-kind=date] .name")).to_have_text(["13 September"])
    assert "date=2020-09" in page.url
    page.go_back()
    expect(page.locator("#chosen")).not_to_contain_text("September")
    page.locator(".chip", has_text="travel/").click()
    page.locator(".chip", has_text="2020").click()
    expect(page.locator("#chosen")).to_be_empty()
    page.locator("[data-kind=folder] button", has_text="odd [a]").click()
    expect(page.locator("#hits .title")).to_have_text(["Odd names"])
    suffixes = Counter(path.suffix.lstrip(".") for path in files)
    page.locator(".chip").click()
    kinds = page.locator("[data-kind=type] li button")
    expect(kinds).to_have_count(len(suffixes))
    assert {
        one.locator(".name").inner_text(): int(one.locator(".count").inner_text()) for one in kinds.all()
    } == suffixes


def test_a_filter_can_be_typed_and_is_explained(new_page: NewPage) -> None:
    page = new_page("/?q=water", quiet=False)  # the browser itself reports the refusal
    page.locator("#filter").fill("path:garden/ and (")
    page.locator("#filter").press("Enter")
    expect(page.locator("#filter-error")).to_contain_text("(")
    page.locator("#filter").fill("path:garden/")
    page.locator("#filter").press("Enter")
    expect(page.locator("#filter-error")).to_be_hidden()
    expect(page.locator("#hits .path").first).to_contain_text("garden/")
    page.locator("#filter").fill("author:Nobody")
    page.locator("#filter").press("Enter")
    expect(page.locator("#hits")).to_contain_text("Nothing is left")
    page.get_by_role("button", name="Search everything").click()
    expect(page.locator("#status")).to_contain_text("hit")


@pytest.mark.parametrize("mode", ["dense", "lexical"])
def test_modes_and_scores(new_page: NewPage, searcher: Searcher, mode: str) -> None:
    page = new_page("/?q=water+the+garden")
    page.locator(f"#mode input[value={mode}]").check()
    hits = searcher.search("water the garden", k=20, mode=mode)
    expect(page.locator("#hits .title")).to_have_text([hit.title for hit in hits])
    assert f"mode={mode}" in page.url
    score = page.locator(".score").first
    expect(score.locator("dl")).to_be_hidden()
    score.locator("summary").click()
    expect(score.locator("summary")).to_have_text(f"Score {hits[0].score:.3f}")
    assert score.locator("dd").nth(1).inner_text().strip() == f"{next(iter(hits[0].parts.values())):.3f}"


def test_more_like_this_and_back(new_page: NewPage, searcher: Searcher) -> None:
    page = new_page("/?q=my+tap+drips")
    expect(page.locator("#status")).to_contain_text("hit")
    first = searcher.search("my tap drips", k=20)[0]
    page.locator("#hits > li").first.get_by_role("button", name="More like").click()
    near = searcher.similar(str(first.id), k=20)
    expect(page.locator("#hits .title")).to_have_text([hit.title for hit in near])
    page.go_back()
    expect(page.locator("#hits .title").first).to_have_text(first.title)
    page.get_by_role("button", name="More hits").click()
    expect(page.locator("#hits .title")).to_have_count(40)


def test_the_map(new_page: NewPage, searcher: Searcher) -> None:
    page = new_page("/?q=my+tap+drips")
    expect(page.locator("#status")).to_contain_text("hit")
    page.locator("#view").click()
    canvas = page.locator("#dots")
    expect(canvas).to_have_attribute("aria-label", re.compile(r"20 hits lit"))
    assert "view=map" in page.url
    pixels = "one.getContext('2d').getImageData(0, 0, one.width, one.height).data.buffer"
    assert canvas.evaluate(f"one => new Set(new Uint32Array({pixels})).size") > 5, "several colours"
    hit = searcher.search("my tap drips")[0]
    x, y = searcher.places([hit.id])[hit.id]
    box = canvas.bounding_box()
    assert box is not None
    scale = min(box["width"], box["height"]) - 48
    left, top = box["x"] + (box["width"] - scale) / 2, box["y"] + (box["height"] - scale) / 2
    page.mouse.move(left + x * scale, top + y * scale)
    expect(page.locator("#tip b")).to_have_text(hit.title)
    page.mouse.click(left + x * scale, top + y * scale)
    expect(page.locator("#document h2")).to_have_text(hit.title)
    page.keyboard.press("Escape")
    before = canvas.screenshot()
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(100)
    zoomed = canvas.screenshot()
    assert zoomed != before
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 130, steps=5)
    page.mouse.up()
    expect(page.locator("#document")).to_be_hidden()  # it was dragged, not clicked
    page.mouse.move(0, 0)
    page.wait_for_timeout(100)
    assert canvas.screenshot() != zoomed
    canvas.focus()
    page.keyboard.press("0")
    page.mouse.wheel(0, 0)
    page.wait_for_timeout(100)
    expect(page.locator("#legend li").first).to_be_visible()
    page.keyboard.press("m")
    expect(page.locator("#map")).to_be_hidden()


def test_scripts_in_documents_names_and_queries_are_text(new_page: NewPage) -> None:
    page = new_page(quiet=False)  # the browser itself reports what the last address is answered
    search(page, f"walrus {SCRIPT}")
    expect(page.locator("#hits .title").first).to_have_text(SCRIPT)
    page.locator("#hits .title").first.click()
    expect(page.locator("#passage")).to_contain_text(SCRIPT)
    expect(page.locator("#document h2")).to_have_text(SCRIPT)
    page.goto(
        f"/?q={SCRIPT}&index=docs&folder={SCRIPT}&filter={SCRIPT}&similar={SCRIPT}&date={SCRIPT}&type={SCRIPT}&open={SCRIPT}"
    )
    page.wait_for_timeout(500)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script, header script").count() == 0


def test_what_is_wrong_is_said(new_page: NewPage, indexes: Path, tmp_path: Path, folder: Path) -> None:
    with serving(indexes) as other:
        page = new_page(base=other.url, quiet=False)
        search(page, "water")
        other.process.kill()
        other.process.wait()
        page.locator("#query").fill("fire")
        expect(page.locator("#failure")).to_contain_text("still running")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
    (tmp_path / "none").mkdir()
    with serving(tmp_path / "none") as other:
        page = new_page(base=other.url)
        expect(page.locator("#start")).to_contain_text("semsearch index FOLDER")
        assert_accessible(page)
    page = new_page("/?q=water&open=999999999", quiet=False)
    expect(page.locator("#document")).to_contain_text("no longer in the index")
    page = new_page("/?index=nothing", quiet=False)
    expect(page.locator("#start")).to_contain_text("no index “nothing”")
    page.locator("#start").get_by_role("button", name="docs").click()
    expect(page.locator("#start")).to_contain_text("Ask in your own words")


def test_several_indexes(new_page: NewPage, tmp_path: Path, folder: Path) -> None:
    for name in ("garden", "home"):
        Indexer(tmp_path / name).update(folder / name)
    with serving(tmp_path) as other:
        page = new_page(base=other.url)
        expect(page.locator("#start")).to_contain_text("Which index?")
        page.locator("#start").get_by_role("button", name="home").click()
        search(page, "water")
        page.get_by_label("Index").select_option("garden")
        expect(page.locator("#status")).to_contain_text("hit")
        names = {path.name for path in (folder / "garden").iterdir()}
        expect(page.locator("#hits .path").first).to_have_text(re.compile("|".join(map(re.escape, names))))
        assert "index=garden" in page.url


def test_the_key_is_asked_for(new_page: NewPage, indexes: Path) -> None:
    with serving(indexes, key="right") as other:
        page = new_page("/?q=my+tap+drips", base=other.url, quiet=False)
        page.get_by_label("Key", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-wrong")).to_be_visible()
        assert_accessible(page)
        page.get_by_label("Key", exact=True).fill("right")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("hit")
        assert "right" not in page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_everyone_can_use_it(new_page: NewPage, scheme: str, width: int) -> None:
    page = new_page(viewport={"width": width, "height": 740}, color_scheme=scheme, has_touch=width < 500)
    expect(page.locator("#start")).to_contain_text("passages")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == (scheme == "dark")
    assert_accessible(page)

    def fits() -> bool:
        return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    search(page, "how do I water the garden")
    page.locator("#facets").evaluate("one => { one.open = true }")
    page.locator(".score summary").first.click()
    expect(page.locator("[data-kind=folder]")).to_be_visible()
    assert_accessible(page)
    assert fits()
    page.locator("#hits .title").first.click()
    expect(page.locator("#passage")).to_be_in_viewport()
    assert_accessible(page)
    assert fits()
    if width < 500:
        box = page.locator("#document").bounding_box()
        assert box is not None
        assert box["width"] == width
    page.get_by_role("button", name="Close").click()
    page.locator("#view").click()
    expect(page.locator("#legend li").first).to_be_visible()
    assert_accessible(page)
    assert fits()
    page.locator("#help").click()
    expect(page.locator("#keys")).to_be_visible()
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.locator("#theme").click()
    other = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert other != paper
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == other
