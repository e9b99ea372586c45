"""One layer, chosen once, in a real browser: by strip, keyboard and click."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from tests.report.pages import opened, script, wait_for_dress

from layerscope.finding import Finding
from layerscope.report import report

MARKS = "[...document.querySelectorAll('.plot')].map(plot => plot.querySelectorAll('.mark').length)"
CENTRE = """(() => {
  const plot = document.querySelectorAll('.plot')[1];
  const box = plot.querySelector('.mark').getBoundingClientRect();
  const axis = plot._fullLayout.xaxis;
  const left = plot.getBoundingClientRect().left + axis._offset;
  return [(box.left + box.right) / 2 - left - axis.c2p(3), box.width - axis.c2p(1) + axis.c2p(0)];
})()"""


@pytest.fixture
def page(browser: webdriver.Chrome, path: Path) -> webdriver.Chrome:
    return opened(browser, path)


def choose(page: webdriver.Chrome, layer: int) -> None:
    page.execute_script(f"document.querySelector('#layers input[value=\"{layer}\"]').click()")


def said(page: webdriver.Chrome) -> list[str]:
    lines: list[str] = script(
        page, "[...document.querySelectorAll('.here:not([hidden])')].map(e => e.textContent)"
    )
    return lines


def test_nothing_is_marked_before_a_layer_is_chosen(page: webdriver.Chrome) -> None:
    assert script(page, MARKS) == [0, 0, 0, 0]
    assert said(page) == []
    assert "Choose one here or in a figure" in page.find_element(By.ID, "layers").text


def test_every_figure_and_section_follows(page: webdriver.Chrome) -> None:
    choose(page, 3)
    assert script(page, MARKS) == [0, 1, 0, 2]  # a tree, a curve, bars, a heat map of pairs
    assert said(page)[0].startswith("At block 3 accuracy 0.791 (0.779 to 0.802), null 0.316")
    assert page.find_element(By.TAG_NAME, "output").text == "block 3, marked in 2 figures"
    off, wider = script(page, CENTRE)
    assert off == pytest.approx(0, abs=1)
    assert wider == pytest.approx(0, abs=1)


def test_the_rows_of_the_layer_are_lit_and_counted(page: webdriver.Chrome) -> None:
    choose(page, 3)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    tables = page.find_elements(By.CSS_SELECTOR, "table.data")
    rows = [table.find_elements(By.CSS_SELECTOR, "tr.lit") for table in tables]
    assert [len(lit) for lit in rows] == [0, 1, 0, 8]
    assert rows[1][0].text.startswith("blocks.3.resid_post")
    assert rows[1][0].get_attribute("aria-current") == "true"
    counts = [count.text for count in page.find_elements(By.CLASS_NAME, "lit-rows")]
    assert counts == ["", "1 at block 3", "", "8 at block 3"]


def test_arrow_keys_run_through_the_layers_and_escape_lets_go(page: webdriver.Chrome) -> None:
    choose(page, 3)
    page.execute_script("document.querySelector('#layers input:checked').focus()")
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    assert said(page)[0].startswith("At block 4 accuracy 0.777")
    ActionChains(page).send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT).perform()
    assert said(page)[0].startswith("At block 2 accuracy 0.773")
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert script(page, MARKS) == [0, 0, 0, 0]
    assert script(page, "document.querySelector('#layers input:checked').value") == ""


def test_a_click_on_a_point_chooses_its_layer_and_a_second_one_lets_go(
    page: webdriver.Chrome,
) -> None:
    plot = page.find_elements(By.CLASS_NAME, "plot")[1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
    point = plot.find_elements(By.CSS_SELECTOR, ".scatterlayer .points path")[3]
    ActionChains(page).move_to_element(point).click().perform()
    assert script(page, "document.querySelector('#layers input:checked').value") == "3"
    # Plotly takes two quick clicks for a double one.
    ActionChains(page).pause(0.6).click().perform()
    assert script(page, "document.querySelector('#layers input:checked').value") == ""


def test_the_marks_stay_where_the_layers_are(page: webdriver.Chrome) -> None:
    choose(page, 3)
    page.execute_script(
        "Plotly.relayout(document.querySelectorAll('.plot')[1], {'xaxis.range': [2, 5]})"
    )
    assert script(page, CENTRE)[0] == pytest.approx(0, abs=1)
    page.execute_script(
        "Plotly.relayout(document.querySelectorAll('.plot')[1], {'xaxis.range': [4, 5]})"
    )
    assert script(page, "document.querySelectorAll('.plot')[1].querySelector('.mark').hidden")
    page.find_element(By.ID, "theme").click()
    wait_for_dress(page, "dark")
    assert script(page, MARKS) == [0, 1, 0, 2]


def test_the_strip_stays_in_sight_and_covers_no_heading(page: webdriver.Chrome) -> None:
    page.execute_script("location.hash = document.querySelectorAll('section')[2].id")
    strip, heading = script(
        page,
        "[document.getElementById('layers').getBoundingClientRect().bottom,"
        " document.querySelectorAll('section')[2].getBoundingClientRect().top]",
    )
    assert 0 < strip <= heading + 1


def test_what_is_looked_at_stays_in_place(page: webdriver.Chrome) -> None:
    top = "document.querySelectorAll('.plot')[3].getBoundingClientRect().top"
    # As in browsers that do not keep the place themselves.
    page.execute_script("document.documentElement.style.overflowAnchor = 'none'")
    page.execute_script(
        "document.querySelectorAll('.plot')[3].scrollIntoView({behavior: 'instant'})"
    )
    before = script(page, top)
    choose(page, 3)
    assert script(page, top) == pytest.approx(before, abs=2)


def test_figures_of_two_models_share_their_axes(
    browser: webdriver.Chrome, findings: list[Finding], tmp_path: Path
) -> None:
    from dataclasses import replace

    def of(model: str, times: float) -> Finding:
        source = replace(findings[1].provenance, model=model)
        columns = ["value", "ci_low", "ci_high", "null_mean"]
        table = findings[1].table.copy()
        table[columns] *= times
        return replace(findings[1], table=table, provenance=source)

    page = opened(browser, report([of("a", 1.0), of("b", 0.5)], tmp_path / "r.html"))
    ranges: list[Any] = script(
        page, "[...document.querySelectorAll('.plot')].map(p => p._fullLayout.yaxis.range)"
    )
    assert len(ranges) == 2
    assert ranges[0] == ranges[1]
    assert ranges[0][1] > 0.79
    lefts = script(
        page, "[...document.querySelectorAll('.panel')].map(p => p.getBoundingClientRect().left)"
    )
    assert lefts[1] > lefts[0] + 300
    assert page.get_log("browser") == []
    page = opened(browser, tmp_path / "r.html", width=420)
    assert script(page, "document.documentElement.scrollWidth") <= 420


def test_a_report_without_layers_has_no_strip(
    browser: webdriver.Chrome, findings: list[Finding], tmp_path: Path
) -> None:
    page = opened(browser, report(findings[2], tmp_path / "r.html"))
    assert page.find_elements(By.ID, "layers") == []
    assert page.get_log("browser") == []
