"""What assistive technology needs of the page, checked in a real browser, light and dark."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from tests.report.pages import opened, script

CONTRASTS = """(() => {
  const parts = (color) => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(c => c / 255)
      .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = parts(getComputedStyle(e).backgroundColor);
      if (found[3] === 255) return found;
    }
    return parts('white');
  };
  const poor = [];
  for (const e of document.querySelectorAll('body *:not(script, style, noscript, .plot *)')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const [a, b] = [luminance(parts(getComputedStyle(e).color)), luminance(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([e.textContent.trim().slice(0, 30), ratio]);
  }
  return poor;
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_all_words_can_be_read(browser: webdriver.Chrome, path: Path, dark: bool) -> None:
    page = opened(browser, path, dark=dark)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.execute_script("document.querySelector('#layers input[value=\"3\"]').click()")
    assert script(page, CONTRASTS) == []


def test_the_page_has_landmarks_with_names(browser: webdriver.Chrome, path: Path) -> None:
    page = opened(browser, path)
    for tag, role, name in (
        ("header", "banner", ""),
        ("nav", "navigation", "What was found"),
        ("form", "form", "Choose a layer"),
        ("main", "main", ""),
        ("footer", "contentinfo", ""),
    ):
        [element] = page.find_elements(By.TAG_NAME, tag)
        assert element.aria_role == role
        assert element.accessible_name == name


def test_everything_that_can_be_worked_has_a_name(browser: webdriver.Chrome, path: Path) -> None:
    page = opened(browser, path)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    controls = page.find_elements(By.CSS_SELECTOR, "main a, header button, form input, summary")
    controls += page.find_elements(
        By.CSS_SELECTOR, "nav a, th button, [tabindex='0'], .modebar-btn"
    )
    assert len(controls) > 40
    assert [one.tag_name for one in controls if not one.accessible_name] == []


def test_headings_skip_no_level(browser: webdriver.Chrome, path: Path) -> None:
    page = opened(browser, path)
    levels = script(
        page, "[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_chosen_layer_is_announced_once(browser: webdriver.Chrome, path: Path) -> None:
    page = opened(browser, path)
    live = page.find_elements(By.CSS_SELECTOR, "output, [aria-live], [role=status]")
    assert len(live) == 1
    assert live[0].aria_role == "status"
