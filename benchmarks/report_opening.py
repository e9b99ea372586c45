"""How fast a report opens in headless Chromium, with plotly packed and plain.

Usage: python benchmarks/report_opening.py [REPORT.html] [--times 5]

Without a report, one is made of a few findings of the bundled model. Milliseconds from the start of
the navigation: first text painted, first figure drawn, all figures drawn. `packed` is the report as it
is written; `plain` has the same page with plotly as an ordinary script.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import os
import re
import shutil
import tempfile
from pathlib import Path
from statistics import median

from _common import save
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = ("--headless=new", "--disable-gpu", "--disable-background-networking")
DRAWN = "return document.documentElement.dataset.drawn"
TIMES = """
const at = (name) => performance.getEntriesByName(name)[0]?.startTime ?? null;
return [at("first-contentful-paint"), at("figure"), at("all figures")];
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("report", nargs="?", type=Path)
    options.add_argument("--times", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        packed = asked.report or _small(Path(folder) / "report.html")
        plain = Path(folder) / "plain.html"
        plain.write_text(_unpacked(packed.read_text("utf-8")), "utf-8")
        pages = {"packed": packed.resolve(), "plain": plain}
        packed_size = packed.stat().st_size
        times = _opened(pages, asked.times, folder)
    figures = {"report_mb": round(packed_size / 1e6, 2), "openings": asked.times}
    for name, found in times.items():
        columns = zip(
            ("first_text", "first_figure", "all_figures"), zip(*found, strict=True), strict=True
        )
        for what, column in columns:
            figures[f"{name}_{what}_ms"] = round(median(column))
            figures[f"{name}_{what}_fastest_ms"] = round(min(column))
    print(figures)
    save("report_opening", figures)


def _small(path: Path) -> Path:
    """A probe and the structure of the bundled model."""
    from layerscope.corpus import bundled
    from layerscope.demo import load_model, load_tokenizer
    from layerscope.hooks.anatomy import anatomy
    from layerscope.hooks.extract import extract
    from layerscope.probes.probe import probe
    from layerscope.report import report

    model = load_model()
    texts, words = bundled().take(100), load_tokenizer()
    store = extract(model, texts, "all", rows="words", tokenizer=words, progress=False)
    found = [anatomy(model).finding(), store.finding(), probe(store, label="upos", progress=False)]
    return report(found, path)


def _unpacked(page: str) -> str:
    """The same page with plotly as a script of its own, run before ours."""
    [packed] = re.findall(r'<script type="text/plain" id="plotly">(.*?)</script>', page)
    source = gzip.decompress(base64.b64decode(packed)).decode()
    page = page.replace(f'<script type="text/plain" id="plotly">{packed}</script>', "")
    before, _, after = page.rpartition("<script>")
    # Ours is changed and has another hash now, so this page does without a policy.
    after = after.replace('library.textContent = await unpacked("plotly");', "")
    page = f"{before}<script>{source}</script><script>{after}"
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)


def _opened(pages: dict[str, Path], times: int, folder: str) -> dict[str, list[list[float]]]:
    """Milliseconds of each opening, the pages in turn."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={folder}/profile"):
        options.add_argument(flag)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root otherwise
    options.binary_location = shutil.which("chromium") or ""
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    found: dict[str, list[list[float]]] = {name: [] for name in pages}
    try:
        for _ in range(times):
            for name, path in pages.items():
                browser.get("about:blank")
                browser.get(path.as_uri())
                WebDriverWait(browser, 60).until(lambda b: b.execute_script(DRAWN))
                found[name].append(browser.execute_script(TIMES))
    finally:
        browser.quit()
    return found


if __name__ == "__main__":
    main()
