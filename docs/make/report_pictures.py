"""Photographs a report for the docs pages, light and dark: ``python docs/make/report_pictures.py demo-report.html``."""

from __future__ import annotations

import base64
import io
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

IMAGES = Path(__file__).resolve().parents[1] / "images"
QUESTION = "Which layers know the class of a word?"
BLOCK = 3
AFTER_SUMMARY = "What they look like"
"""Heading before which the picture of the summary ends."""
COLOURS = 160
"""Of the palette; chosen so that those of the theme stay exact to the eye."""

TOP_OF = """
const headings = [...document.querySelectorAll(arguments[0])];
const top = headings.find(one => one.textContent.includes(arguments[1])).getBoundingClientRect().top;
return top + scrollY;
"""


def main(report: Path) -> None:
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as page:
        for dress, ending in (("light", ""), ("dark", "-dark")):
            scheme = {"name": "prefers-color-scheme", "value": dress}
            page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            summary(page, report, f"report-summary{ending}")
            section(page, report, f"report{ending}")


def summary(page: Any, report: Path, name: str) -> None:
    opened(page, report, width=940, height=1200, scale=1.6)
    end = page.execute_script(TOP_OF, "nav h3", AFTER_SUMMARY)
    photograph(page, name, top=0, width=940, height=int(end) - 14)


def section(page: Any, report: Path, name: str) -> None:
    """One question with a block chosen, below the strip of layers."""
    opened(page, report, width=840, height=722, scale=2)
    page.execute_script(f"document.querySelector('#layers input[value=\"{BLOCK}\"]').click()")
    time.sleep(1)
    top = page.execute_script(TOP_OF, "section", QUESTION)
    strip = page.execute_script("return document.querySelector('#layers').offsetHeight")
    page.execute_script("scrollTo({top: arguments[0], behavior: 'instant'})", top - strip - 14)
    time.sleep(3)  # figures that come into sight are drawn
    photograph(page, name, top=page.execute_script("return scrollY"), width=840, height=722)


def opened(page: Any, report: Path, *, width: int, height: int, scale: float) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.get(report.resolve().as_uri())
    time.sleep(4)


def photograph(page: Any, name: str, *, top: float, width: int, height: int) -> None:
    clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
    shot = page.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip})["data"]
    picture = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")
    picture.quantize(COLOURS, kmeans=3).save(IMAGES / f"{name}.png", optimize=True)
    print(f"{name}: {picture.width} x {picture.height}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
