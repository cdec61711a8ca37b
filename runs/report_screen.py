"""What a report looks like in a browser, as a picture: at a screen's width, or at a phone's.

    python runs/report_screen.py REPORT.html OUT.png [WIDTH] [light|dark] [HEIGHT]

WIDTH and HEIGHT are in pixels; without HEIGHT the whole page is taken. Needs Playwright, and Chromium: the one on the path,
or Playwright's own. The page gets no network.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

_WIDTH = 1280


def main(report: Path, out: Path, width: int, scheme: str, height: int | None) -> None:
    """Take the picture; says so where the page is wider than the window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": height or 800},
            offline=True,
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = context.new_page()
        page.goto(report.resolve().as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            print(f"{report}: {wide} pixels wide in a window of {width}", file=sys.stderr)
        page.screenshot(path=out, full_page=height is None)
        browser.close()


if __name__ == "__main__":
    given = sys.argv[3:]
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        int(given[0]) if given else _WIDTH,
        given[1] if len(given) > 1 else "light",
        int(given[2]) if len(given) > 2 else None,
    )
