"""The map under the hand: how long each frame takes while it is dragged and zoomed, by the number of dots.

A folder is indexed and served, and the page's map opened in headless Chromium, which draws without a graphics card. It
is dragged and zoomed by a step a frame; a frame's time is that from one to the next. The peer is the same page with a
hundredth of the dots, in turn: what the browser needs for a frame anyway.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, Route, sync_playwright

from semsearch import Indexer

TESTS = Path(__file__).resolve().parent.parent
ROUNDS, FRAMES = 5, 120
# Milliseconds of each frame while the map is moved in each of them.
MOVED = """frames => new Promise(done => {
  const canvas = document.getElementById("dots"), box = canvas.getBoundingClientRect();
  const at = (x, y) => ({clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true});
  const times = [];
  canvas.setPointerCapture = () => {};
  canvas.dispatchEvent(new PointerEvent("pointerdown", at(300, 200)));
  let last = performance.now(), number = 0;
  const step = () => {
    const now = performance.now();
    times.push(now - last);
    last = now;
    number += 1;
    if (number > frames) {
      canvas.dispatchEvent(new PointerEvent("pointerup", at(300, 200)));
      return done(times.slice(1));
    }
    canvas.dispatchEvent(new PointerEvent("pointermove", at(300 + 60 * Math.sin(number / 9), 200 + number % 7)));
    const turned = {...at(300, 200), deltaY: 40 * Math.cos(number / 20)};
    if (number % 2) canvas.dispatchEvent(new WheelEvent("wheel", turned));
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""


def fewer(route: Route) -> None:
    """Answer with a hundredth of the dots."""
    response = route.fetch()
    answer = response.json()
    if response.status == 200:
        answer |= {name: answer[name][::100] for name in ("ids", "x", "y", "folder")}
    route.fulfill(response=response, json=answer)


def opened(page: Page, url: str) -> Page:
    """The map, drawn."""
    page.goto(f"{url}/?view=map")
    page.wait_for_selector("#legend li", timeout=300_000)
    return page


def main() -> None:
    """Print one object."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpus", nargs="?", type=Path, default=TESTS / "corpus")
    given = arguments.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as name:
        summary = Indexer(Path(name) / "docs").update(given.corpus)
        command = [sys.executable, "-m", "semsearch", "serve", "--indexes", name, "--port", "0"]
        with (Path(name) / "log").open("w+") as log, subprocess.Popen(command, stderr=log) as server:
            try:
                while not (found := re.search(r"at (http://\S+)", (Path(name) / "log").read_text())):
                    time.sleep(0.1)
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                    pages = {"all": browser.new_page(), "few": browser.new_page()}
                    pages["few"].route("**/api/map?*", fewer)
                    times: dict[str, list[float]] = {kind: [] for kind in pages}
                    dots = {}
                    for kind, page in pages.items():
                        opened(page, found[1])
                        dots[kind] = page.locator("#dots").get_attribute("aria-label")
                    for _ in range(ROUNDS):
                        for kind, page in pages.items():
                            page.bring_to_front()
                            times[kind] += page.evaluate(MOVED, FRAMES)
                    browser.close()
            finally:
                server.terminate()
    row: dict[str, object] = {"passages": summary.passages}
    for kind, some in times.items():
        row |= {f"{kind}": dots[kind], f"{kind}_p50_ms": round(statistics.median(some), 1)}
        row[f"{kind}_p99_ms"] = round(statistics.quantiles(some, n=100)[98], 1)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
