"""Use the page as a person does, in headless Chromium, and take the screenshots of docs/.

    python runs/web_screens.py [FOLDER]

Types a prompt, waits for its pictures, finds and compares by examples, on a wide and on a narrow screen. Exits with what
is wrong where the pictures do not form or do not differ, the console holds an error, or a request leaves the page's own
address.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipelines.web.process import running

_WIDE, _NARROW = (1280, 900), (390, 844)
_PATIENCE = 120_000  # ms, on a busy machine


class _Visit:
    """The page in a window, and what went wrong there."""

    def __init__(self, browser: Browser, url: str, size: tuple[int, int]) -> None:
        self.wrong: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        self.page.set_default_timeout(_PATIENCE)
        self.page.on(
            "console", lambda said: said.type == "error" and self.wrong.append(f"console: {said.text}")
        )
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("request", lambda request: self._own(request.url, url))
        self.page.goto(url)
        self.page.get_by_role("button", name="Draw").wait_for()

    def _own(self, address: str, url: str) -> None:
        if not address.startswith((url, "data:", "blob:")):
            self.wrong.append(f"foreign request: {address}")

    def images(self) -> None:
        """Draw, and see the pictures form and differ."""
        page = self.page
        page.get_by_label("Prompt").fill("a street with no cars")
        page.get_by_role("button", name="Draw").click()
        forming = self._picture(0)
        page.get_by_text("2 pictures in").wait_for()
        page.wait_for_function("document.querySelectorAll('.arm img').length == 2")
        vanilla, ours = self._picture(0), self._picture(1)
        if vanilla == ours:
            self.wrong.append("the two pictures are the same")
        if forming == vanilla:
            self.wrong.append("no picture was seen as it formed")

    def _picture(self, number: int) -> str:
        """A picture's pixels."""
        image = self.page.locator(".arm img").nth(number)
        image.wait_for()
        return str(image.evaluate(_PIXELS))

    def masks(self) -> None:
        """Find what the first example says."""
        self.page.get_by_role("tab", name="Masks").click()
        self.page.get_by_text("the woman without glasses").first.click()
        expect(self.page.get_by_label("What to find")).to_have_value("the woman without glasses")
        self.page.get_by_role("button", name="Find").click()
        self.page.get_by_text("of the picture").first.wait_for()

    def similarity(self) -> None:
        """Compare the first example's texts."""
        self.page.get_by_role("tab", name="Similarity").click()
        self.page.locator(".gallery-item:visible").first.click()
        expect(self.page.get_by_label("Texts, a line each")).to_have_value(re.compile("a park with no cars"))
        self.page.get_by_role("button", name="Compare").click()
        self.page.get_by_text("a softmax over the texts").wait_for()

    def screenshot(self, path: Path) -> None:
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(1000)  # what fades in has done so
        self.page.screenshot(path=path)


_PIXELS = """async image => {
    // The page puts a new picture in the place of the one before, and between them there is none to decode.
    for (let left = 20; ; left--) {
        try { await image.decode(); break } catch (error) { if (!left) throw error }
        await new Promise(done => setTimeout(done, 250));
    }
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL();
}"""


def _chromium(playwright: Any) -> Browser:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    browser: Browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
    return browser


def main(folder: Path) -> list[str]:
    """Take the screenshots; returns what was wrong."""
    wrong = []
    expect.set_options(timeout=_PATIENCE)
    with running() as own, sync_playwright() as playwright:
        browser = _chromium(playwright)
        for size in (_WIDE, _NARROW):
            visit = _Visit(browser, own.url, size)
            for name, use in (
                ("images", visit.images),
                ("masks", visit.masks),
                ("similarity", visit.similarity),
            ):
                use()
                visit.screenshot(folder / f"web_{name}{'' if size is _WIDE else '_narrow'}.png")
            wrong += visit.wrong
            visit.page.close()
        browser.close()
    return wrong


if __name__ == "__main__":
    sys.exit("\n".join(main(Path(*sys.argv[1:2] or ["docs"]))) or 0)
