"""The report in a real browser: what a reader sees, and can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import plotly.graph_objects as go
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from tests.report.pages import opened, prefer, script, wait_for_dress

from layerscope.finding import Finding, Provenance
from layerscope.report import report
from layerscope.theme import SURFACES

HOSTILE = "</script><img src=x onerror='window.hurt=1'><a href='javascript:window.hurt=1'>a</a>"


class Hostile(Finding):
    question: ClassVar[str] = HOSTILE

    def answer(self) -> str:
        return HOSTILE

    def figure(self) -> go.Figure:
        bar = go.Bar(x=[HOSTILE], y=[1], name=HOSTILE, text=[HOSTILE])
        return go.Figure(bar).update_layout(title_text=HOSTILE, showlegend=True)


class Points(Finding):
    question: ClassVar[str] = "Where do the points lie?"

    def answer(self) -> str:
        return "On a line."

    def figure(self) -> go.Figure:
        x = self.table["x"]
        return go.Figure(go.Scattergl(x=x, y=x, mode="markers"))


class Moving(Finding):
    question: ClassVar[str] = "Where do the points go?"

    def answer(self) -> str:
        return "Up."

    def figure(self) -> go.Figure:
        def points(y: float) -> list[go.Scatter]:
            return [go.Scatter(x=[0, 1], y=[y, y], mode="markers")]

        still: dict[str, Any] = {"frame": {"duration": 0}, "mode": "immediate"}
        steps = [
            {"label": name, "method": "animate", "args": [[name], still]} for name in ("a", "b")
        ]
        frames = [go.Frame(name="a", data=points(0)), go.Frame(name="b", data=points(1))]
        return go.Figure(points(0), frames=frames).update_layout(sliders=[{"steps": steps}])


@pytest.fixture
def page(browser: webdriver.Chrome, path: Path) -> webdriver.Chrome:
    return opened(browser, path)


def tick_color(browser: webdriver.Chrome) -> str:
    return str(script(browser, "getComputedStyle(document.querySelector('.xtick text')).fill"))


def rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))})"


def focused(browser: webdriver.Chrome) -> str:
    return browser.switch_to.active_element.accessible_name


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def test_every_figure_is_drawn(page: webdriver.Chrome, findings: list[Finding]) -> None:
    sizes = script(
        page,
        "[...document.querySelectorAll('.plot')].map(plot => {"
        " const box = plot.querySelector('.main-svg').getBoundingClientRect();"
        " return [box.width, box.height, plot.querySelectorAll('path, text').length] })",
    )
    assert len(sizes) == len(findings)
    for width, height, marks in sizes:
        assert width > 600
        assert height == 420
        assert marks > 5


def test_the_console_is_silent(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "theme").click()
    wait_for_dress(page, "dark")
    assert page.get_log("browser") == []


def test_nothing_is_fetched(page: webdriver.Chrome, path: Path) -> None:
    log = "".join(entry["message"] for entry in page.get_log("performance"))
    assert path.as_uri() in log
    assert '"url":"http' not in log


def test_a_slider_moves_the_points(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = opened(browser, report([Moving(pd.DataFrame(), Provenance())], tmp_path / "moving.html"))
    height = "document.querySelector('.plot').data[0].y[0]"
    assert script(page, height) == 0
    handle = page.find_element(By.CSS_SELECTOR, ".slider-grip-rect")
    ActionChains(page).drag_and_drop_by_offset(handle, 800, 0).perform()
    WebDriverWait(page, 10).until(lambda b: script(b, height) == 1)
    assert page.get_log("browser") == []


def test_hovering_shows_the_value(page: webdriver.Chrome) -> None:
    plot = page.find_elements(By.CLASS_NAME, "plot")[1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", plot)
    bump = plot.find_elements(By.CSS_SELECTOR, ".scatterlayer .points path")[3]
    ActionChains(page).move_to_element(bump).perform()
    hover = WebDriverWait(page, 5).until(
        lambda _: plot.find_elements(By.CSS_SELECTOR, ".hoverlayer text")
    )
    assert "0.791" in " ".join(str(part.text) for part in hover)


def test_the_page_follows_the_system_and_the_button(browser: webdriver.Chrome, path: Path) -> None:
    page = opened(browser, path, dark=True)
    assert tick_color(page) == rgb(SURFACES["dark"]["muted"])
    assert script(page, "getComputedStyle(document.body).backgroundColor") == rgb(
        SURFACES["dark"]["paper"]
    )

    page.find_element(By.ID, "theme").click()
    wait_for_dress(page, "light")
    assert tick_color(page) == rgb(SURFACES["light"]["muted"])
    assert script(page, "getComputedStyle(document.body).backgroundColor") == rgb(
        SURFACES["light"]["paper"]
    )
    assert page.find_element(By.ID, "theme").accessible_name == "Switch to dark colours"


def test_a_change_of_the_system_is_followed_at_once(page: webdriver.Chrome) -> None:
    prefer(page, color_scheme="dark")
    wait_for_dress(page, "dark")
    assert tick_color(page) == rgb(SURFACES["dark"]["muted"])


def test_nothing_moves_for_those_who_prefer_it(page: webdriver.Chrome) -> None:
    behavior = "getComputedStyle(document.documentElement).scrollBehavior"
    assert script(page, behavior) == "auto"
    prefer(page, reduced_motion="no-preference")
    assert script(page, behavior) == "smooth"


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_only_downwards(browser: webdriver.Chrome, path: Path, width: int) -> None:
    page = opened(browser, path, width=width)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert script(page, "document.documentElement.scrollWidth") <= width
    inside = script(
        page,
        "[...document.querySelectorAll('.plot, .scroll, nav, pre')]"
        ".map(box => box.getBoundingClientRect().right)",
    )
    assert max(inside) <= width
    tables = script(
        page, "[...document.querySelectorAll('.scroll')].map(b => b.scrollWidth - b.clientWidth)"
    )
    assert max(tables) > 0, "the wide table scrolls in its own box"


def test_a_finger_scrolls_past_a_figure(browser: webdriver.Chrome, path: Path) -> None:
    page = opened(browser, path, width=390)
    assert script(page, "document.querySelector('.plot')._fullLayout.dragmode") is False
    assert script(page, "document.querySelectorAll('.modebar-btn').length") == 0


def test_figures_follow_the_window(page: webdriver.Chrome) -> None:
    metrics = {"width": 700, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    width = "document.querySelector('.main-svg').getBoundingClientRect().width"
    WebDriverWait(page, 5).until(lambda b: script(b, width) < 700)
    assert script(page, "document.documentElement.scrollWidth") <= 700


def test_the_keyboard_reaches_contents_button_and_tables(page: webdriver.Chrome) -> None:
    reached = []
    for _ in range(8):
        press(page, Keys.TAB)
        reached.append(focused(page))
    assert reached[0] == "Skip to the findings"
    assert reached[1] == "Switch to dark colours"
    assert reached[2].startswith("What is this model made of?")
    assert reached[3].startswith("At which layer can the word class be read off?")
    assert reached[6] == "all"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert script(page, outline) == "solid"


def test_the_skip_link_leads_past_the_contents(page: webdriver.Chrome) -> None:
    press(page, Keys.TAB, Keys.ENTER, Keys.TAB)
    assert focused(page) == "Link to this finding"
    assert script(page, "document.activeElement.closest('section').id").startswith("1-")


def test_a_fold_opens_with_enter(page: webdriver.Chrome) -> None:
    summary = page.find_element(By.TAG_NAME, "summary")
    page.execute_script("arguments[0].focus()", summary)
    press(page, Keys.ENTER)
    assert script(page, "document.querySelector('details').open") is True


def test_the_button_turns_with_the_space_bar(page: webdriver.Chrome) -> None:
    page.execute_script("document.getElementById('theme').focus()")
    press(page, Keys.SPACE)
    wait_for_dress(page, "dark")
    assert script(page, "document.documentElement.dataset.theme") == "dark"


def test_a_picture_has_a_name_and_its_buttons_stay_buttons(
    page: webdriver.Chrome, findings: list[Finding]
) -> None:
    pictures = page.find_elements(By.CSS_SELECTOR, "[role=img]")
    assert [picture.tag_name for picture in pictures] == ["svg"] * len(findings)
    assert pictures[1].accessible_name.startswith(findings[1].answer())
    assert script(page, "document.querySelector('[role=img] button')") is None
    assert page.find_elements(By.CSS_SELECTOR, ".modebar button")


def test_no_button_offers_to_upload_the_figure(page: webdriver.Chrome) -> None:
    names = script(
        page, "[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title).join()"
    )
    assert "Download plot as a PNG" in names
    assert "hare" not in names
    assert "loud" not in names


def test_a_table_sorts_by_number_and_keeps_missing_values_last(page: webdriver.Chrome) -> None:
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    table = page.find_elements(By.TAG_NAME, "table")[2]
    head = table.find_elements(By.CSS_SELECTOR, "th button")[1]

    def classes() -> list[str]:
        return [row.text.split()[0] for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")]

    head.click()
    assert classes() == ["VERB", "NOUN", "PUNCT", "X"]
    head.click()
    assert classes() == ["PUNCT", "NOUN", "VERB", "X"]
    assert table.find_elements(By.TAG_NAME, "th")[1].get_attribute("aria-sort") == "descending"


def test_text_columns_sort_by_text(page: webdriver.Chrome) -> None:
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    table = page.find_elements(By.TAG_NAME, "table")[2]
    table.find_element(By.CSS_SELECTOR, "th button").click()
    rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert [row.text.split()[0] for row in rows] == ["NOUN", "PUNCT", "VERB", "X"]


def test_paper_is_light_tells_sources_and_fits(browser: webdriver.Chrome, path: Path) -> None:
    page = opened(browser, path, dark=True)
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    wait_for_dress(page, "light")
    folded = "document.querySelectorAll('details:not([open])')"
    assert script(page, f"[...{folded}].every(d => !d.matches('.source, .more'))")
    assert script(page, f"{folded}.length") == 4, "tables print where the reader has opened them"
    widths = script(page, "[...document.querySelectorAll('.main-svg')].map(svg => svg.clientWidth)")
    assert max(widths) <= 700

    page.execute_script("dispatchEvent(new Event('afterprint'))")
    wait_for_dress(page, "dark")
    assert script(page, "document.querySelectorAll('details[open]').length") == 0
    assert script(page, "document.querySelector('.main-svg').clientWidth") > 700


class Tall(Finding):
    """A figure taller than a sheet, whose legend has other rows on paper than on a screen."""

    question: ClassVar[str] = "Does it fit?"

    def answer(self) -> str:
        return "It does."

    def figure(self) -> go.Figure:
        names = (f"a series with a long name, {i}" for i in range(3))
        return go.Figure([go.Scatter(y=[1, 2], name=name) for name in names], {"height": 1000})


def test_on_paper_a_tall_figure_is_smaller_and_its_legend_meets_no_line(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    finding = Tall(pd.DataFrame({"x": [1]}), Provenance())
    page = opened(browser, report(finding, tmp_path / "r.html"))
    tall = "document.querySelector('.plot').getBoundingClientRect().height"
    gap = """(() => {
      const [lines, legend] = [".plot .nsewdrag", ".plot .legend"].map(
        (one) => document.querySelector(one).getBoundingClientRect());
      return Math.round(lines.top - legend.bottom);
    })()"""

    def after(event: str) -> tuple[float, int]:
        done = "performance.getEntriesByName('all figures').length"
        before = script(page, done)
        page.execute_script(f"dispatchEvent(new Event('{event}'))")
        WebDriverWait(page, 20).until(lambda b: script(b, done) > before)
        return script(page, tall), script(page, gap)

    on_screen = script(page, tall), script(page, gap)
    height, between = after("beforeprint")
    assert height <= 850
    assert 0 <= between <= on_screen[1] + 2
    assert after("afterprint") == on_screen


class Words(Finding):
    """Cells with words in them."""

    question: ClassVar[str] = "Which words?"

    def answer(self) -> str:
        return "These."

    def figure(self) -> go.Figure:
        cells = go.Heatmap(z=[[0.5] * 9], text=[["word"] * 9], texttemplate="%{text}")
        return go.Figure(cells, {"height": 300})


def test_on_a_phone_words_in_cells_keep_their_size(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    finding = Words(pd.DataFrame({"x": [1]}), Provenance())
    page = opened(browser, report(finding, tmp_path / "r.html"), width=420)
    assert script(page, "document.querySelector('.plot').clientWidth") == 9 * 52 + 80
    assert script(page, "document.documentElement.scrollWidth") <= 420


def test_hostile_text_does_nothing(browser: webdriver.Chrome, tmp_path: Path) -> None:
    table = pd.DataFrame({HOSTILE: [HOSTILE]})
    finding = Hostile(table, Provenance(parameters={HOSTILE: HOSTILE}), (HOSTILE,))
    page = opened(browser, report(finding, tmp_path / "r.html", title=HOSTILE))
    for link in page.find_elements(By.CSS_SELECTOR, ".plot a"):
        assert not (link.get_attribute("href") or "").startswith("javascript:")
    assert script(page, "window.hurt") is None
    assert script(page, "document.querySelectorAll('img').length") == 0
    assert page.title == HOSTILE
    assert page.find_element(By.CLASS_NAME, "answer").text == HOSTILE
    assert page.get_log("browser") == []


def test_a_script_that_slips_in_is_stopped(
    browser: webdriver.Chrome, path: Path, tmp_path: Path
) -> None:
    tampered = tmp_path / "tampered.html"
    html = path.read_text("utf-8")
    tampered.write_text(html.replace("<header>", "<script>window.hurt = 1</script><header>"))
    page = opened(browser, tampered)
    assert script(page, "window.hurt") is None
    assert "Content Security Policy" in page.get_log("browser")[0]["message"]


def test_point_clouds_are_drawn(browser: webdriver.Chrome, tmp_path: Path) -> None:
    finding = Points(pd.DataFrame({"x": range(5000)}), Provenance())
    page = opened(browser, report(finding, tmp_path / "r.html"))
    assert script(page, "document.querySelectorAll('.plot canvas').length") >= 1
    errors = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []


class Searched(Finding):
    """A finding with a page: a search box over points and parts."""

    question: ClassVar[str] = "Which of them match?"

    def answer(self) -> str:
        return "Some."

    def figure(self) -> go.Figure:
        words = [" cat noun ", " cattle noun ", " runs verb "]
        return go.Figure(go.Scatter(x=[0, 1, 2], y=[0, 1, 2], text=words, mode="markers"))

    def page(self) -> str:
        parts = "".join(
            f'<details data-words=" {words} "><summary>{words}</summary></details>'
            for words in ("cat noun", "runs verb")
        )
        box = '<label for="box">Find</label><input id="box"><output></output>'
        return f'<div role="search" hidden>{box}</div>{parts}<script>window.hurt = 1</script>'


def test_a_page_is_searched_from_the_keyboard(browser: webdriver.Chrome, tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1]})
    found = Searched(table=table, provenance=Provenance())
    page = opened(browser, report([found], tmp_path / "r.html"))
    box, said = page.find_element(By.ID, "box"), page.find_element(By.TAG_NAME, "output")
    parts = page.find_elements(By.CSS_SELECTOR, "[data-words]")
    chosen = "document.querySelector('.plot').data[0].selectedpoints"
    assert box.is_displayed()
    box.send_keys("Cat")
    assert said.text == "2 of 3 points match, 1 of them has a block below."
    assert [part.is_displayed() for part in parts] == [True, False]
    assert script(page, chosen) == [0, 1]
    box.send_keys(" ")  # a blank asks for the whole word
    assert script(page, chosen) == [0]
    page.find_element(By.ID, "theme").click()
    wait_for_dress(page, "dark")
    assert script(page, chosen) == [0]
    box.send_keys(Keys.BACKSPACE * 4)
    assert said.text == ""
    assert [part.is_displayed() for part in parts] == [True, True]
    assert script(page, chosen) is None
    assert script(page, "window.hurt") is None  # no script of a page runs
