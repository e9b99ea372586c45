from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

import layerscope.report
from layerscope.finding import Finding, Provenance
from layerscope.report import report, to_html

PROVENANCE = Provenance(model="m", versions={}, created="2026-01-02T03:04:05+00:00")
HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;\u2028\u2029é😀"


class Hostile(Finding):
    question: ClassVar[str] = HOSTILE

    def answer(self) -> str:
        return HOSTILE

    def figure(self) -> go.Figure:
        return go.Figure(go.Bar(x=[HOSTILE], y=[1], name=HOSTILE)).update_layout(title_text=HOSTILE)


class Broken(Finding):
    question: ClassVar[str] = "Does it draw?"

    def answer(self) -> str:
        return "No."

    def figure(self) -> go.Figure:
        raise KeyError("no column 'value'")


class Heavy(Finding):
    question: ClassVar[str] = "How heavy?"

    def answer(self) -> str:
        return "Very."

    def figure(self) -> go.Figure:
        values = np.random.default_rng(0).normal(size=(1, len(self.table)))
        return go.Figure(go.Heatmap(z=values))


def heavy(values: int) -> Heavy:
    return Heavy(pd.DataFrame(index=range(values)), Provenance())


class Page(HTMLParser):
    """What a browser finds in the page: tags with their attributes, and text by tag."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._open, []).append(data)

    def having(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def html(findings: list[Finding]) -> str:
    return to_html(findings, title="Word classes")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def figures_of(html: str) -> list[dict[str, Any]]:
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', html)
    return [json.loads(block) for block in blocks]


def test_the_same_findings_give_the_same_page(findings: list[Finding], html: str) -> None:
    assert to_html(findings, title="Word classes") == html


def test_the_summary_has_every_question_and_answer(page: Page, findings: list[Finding]) -> None:
    links = [a["href"] for tag, a in page.tags if tag == "a" and "class" not in a]
    anchors = [link for link in links if link and link.startswith("#")]
    asked = [text for text in page.text["span"] if text.endswith("?")]
    assert asked == [f.question for f in findings]
    assert anchors == [f"#{name}" for name in page.having("id") if re.match(r"\d+-", name)]
    assert {finding.gist() for finding in findings} <= set(page.text["span"])


def test_every_anchor_leads_somewhere_and_ids_are_unique(page: Page) -> None:
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    targets = [href[1:] for href in page.having("href") if href.startswith("#")]
    referred = [name for label in page.having("aria-labelledby") for name in label.split()]
    assert {*targets, *referred} <= set(ids)


def test_each_finding_is_told_in_full(html: str, findings: list[Finding]) -> None:
    for finding in findings:
        assert f'<p class="answer">{finding.answer()}</p>' in html
        for note in finding.notes:
            assert f"<li>{note}</li>" in html
    assert html.count("<summary>Table") == len(findings)
    assert html.count("<summary>Provenance") == len(findings)
    assert len(figures_of(html)) == len(findings)


def test_many_caveats_are_folded_but_none_is_left_out(html: str, findings: list[Finding]) -> None:
    notes = findings[-1].notes
    assert html.count('<details class="more">') == 1
    seen, folded = html.split('<details class="more">')
    assert [f"<li>{note}</li>" in seen for note in notes] == [True] * 4 + [False] * 2
    assert folded.strip().startswith("<summary>2 more</summary>")


def test_provenance_has_everything_to_get_it_again(html: str) -> None:
    for told in (
        "<pre>probe(store, &#34;all&#34;, label=&#34;upos&#34;)</pre>",
        "0123456789abcdef0123456789abcdef",
        "<dt>Seed</dt><dd>0</dd>",
        "<dt>Took</dt><dd>12.3 s</dd>",
        "<dt><code>folds</code></dt><dd><code>5</code></dd>",
        "python 3.11.9, layerscope 0.1.0, torch 2.13.0",
    ):
        assert told in html


def test_the_header_says_what_it_is_about(html: str) -> None:
    assert "<title>Word classes</title>" in html
    assert "<dt>Model</dt><dd>LlamaForCausalLM, 292,800 parameters</dd>" in html
    assert "<dt>Data</dt><dd>en_ewt-ud-dev, 2,001 sentences</dd>" in html
    assert "<dt>Computed</dt><dd>2026-01-02</dd>" in html


def test_the_header_gathers_several_sources(findings: list[Finding]) -> None:
    sources = [
        replace(findings[0].provenance, model=f"m{i}", created=f"2026-01-0{9 - i}T00:00:00+00:00")
        for i in (1, 1, 2, 3, 4, 5)
    ]
    html = to_html([replace(findings[0], provenance=source) for source in sources])
    assert "<dd>m1; m2; m3; and 2 more</dd>" in html
    assert "<dd>2026-01-04 to 2026-01-08</dd>" in html


def test_the_header_tells_a_source_once(findings: list[Finding]) -> None:
    models = ("toy", "toy, 12 parameters", "toy2")
    sources = [replace(PROVENANCE, model=model) for model in models]
    html = to_html([replace(findings[0], provenance=source) for source in sources])
    assert "<dt>Model</dt><dd>toy, 12 parameters; toy2</dd>" in html


def test_empty_provenance_leaves_no_empty_lines(findings: list[Finding]) -> None:
    bare = replace(findings[0], provenance=Provenance(versions={}, created=""), notes=())
    html = to_html(bare)
    assert "<dt>" not in html
    assert "<pre>" not in html
    assert "Read with care" not in html


def test_each_figure_has_a_text_alternative(page: Page, findings: list[Finding]) -> None:
    pictures = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(pictures) == len(findings)
    for attrs, finding in zip(pictures, findings, strict=True):
        assert (attrs["aria-label"] or "").startswith(f"{finding.answer()} Figure: ")


def test_numbers_are_right_aligned_and_text_is_not(html: str) -> None:
    assert '<td class="number">0.791</td>' in html
    assert "<td>blocks.3.resid_post</td>" in html


def test_plotly_is_embedded_once_and_packed(html: str) -> None:
    [packed] = re.findall(r'<script type="text/plain" id="plotly">(.*?)</script>', html)
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    assert len(packed) < 2_100_000
    assert "<script src" not in html


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            link = attrs.get(name) or "#"
            assert link.startswith(("#", "data:")), (tag, link)


def test_only_the_two_scripts_of_the_page_may_run(html: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digests = [hashlib.sha256(text.encode()).digest() for text in (get_plotlyjs(), *scripts)]
    expected = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    assert len(expected) == 2
    assert f"script-src {' '.join(expected)} 'unsafe-eval'" in policy[1]
    assert policy[1].startswith("default-src 'none';")


def test_hostile_text_is_inert(findings: list[Finding]) -> None:
    table = pd.DataFrame({HOSTILE: [HOSTILE, "=1+1"]})
    source = Provenance(
        model=HOSTILE,
        data=HOSTILE,
        parameters={HOSTILE: {HOSTILE: [HOSTILE]}},
        versions={HOSTILE: HOSTILE},
        call=HOSTILE,
    )
    html = to_html(Hostile(table, source, (HOSTILE,)), title=HOSTILE)
    page, harmless = Page(html), Page(to_html(findings))

    assert page.text["title"][0] == HOSTILE
    assert page.text["td"][0] == HOSTILE
    assert "img" not in {tag for tag, _ in page.tags}
    assert sum(tag == "script" for tag, _ in page.tags) == 4  # figure, dress, plotly, our own
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in harmless.tags} | {
        "pre",
        "figcaption",
    }
    [figure] = figures_of(html)
    assert figure["data"][0]["name"] == HOSTILE
    assert "\u2028" not in "".join(re.findall(r"<script type.*?</script>", html))


def test_text_that_is_no_unicode_can_be_written(findings: list[Finding], tmp_path: Path) -> None:
    odd = replace(findings[0], notes=("a lone surrogate: \ud800",))
    path = report(odd, tmp_path / "r.html")
    assert "a lone surrogate: \\ud800" in path.read_text("utf-8")


def test_a_long_table_says_what_is_shown(findings: list[Finding]) -> None:
    long = replace(findings[1], table=pd.concat([findings[1].table] * 50, ignore_index=True))
    html = to_html(long)
    assert "The first 200 of 300 rows." in html
    assert html.count('<tr data-layers="') == 200
    assert 'download="1-at-which-layer-can-the-word-class-be-read-off.csv"' in html


def test_a_single_finding_needs_no_list(findings: list[Finding]) -> None:
    assert to_html(findings[0]) == to_html([findings[0]])


def test_two_findings_of_one_question_have_their_own_anchors(findings: list[Finding]) -> None:
    ids = Page(to_html([findings[0], findings[0]])).having("id")
    assert len(ids) == len(set(ids))


def test_findings_of_one_question_are_told_apart_by_what_differs(findings: list[Finding]) -> None:
    def asked(**parameters: object) -> Finding:
        return replace(findings[1], provenance=replace(PROVENANCE, parameters=parameters))

    html = to_html([asked(label="upos", folds=5), asked(label="<depth>", folds=5), findings[2]])
    assert "read off? (label: upos)</span>" in html
    assert "read off? <span>label: &lt;depth&gt;</span>" in html
    assert "folds: 5" not in html
    assert f"{findings[2].question}</span>" in html


def test_report_writes_the_page_and_nothing_else(findings: list[Finding], tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    assert report(iter(findings), str(target)) == target
    assert target.read_text("utf-8") == to_html(findings)
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_size < 2_500_000


def test_a_failed_report_leaves_the_old_one(findings: list[Finding], tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    broken = Broken(pd.DataFrame(), Provenance())
    with pytest.raises(
        ValueError, match=r"finding 2 \(Broken: Does it draw\?\).*no column 'value'"
    ):
        report([findings[0], broken], target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_one(
    findings: list[Finding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "report.html"
    target.write_text("old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        report(findings, target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_no_findings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no findings to report; give at least one"):
        report([], tmp_path / "r.html")


def test_what_is_no_finding_is_named(findings: list[Finding], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="item 2 of the findings is a dict, not a finding"):
        report([findings[0], {}], tmp_path / "r.html")  # type: ignore[list-item]


def test_a_heavy_figure_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"finding 1 \(Heavy: How heavy\?\).*its figure takes"):
        report(heavy(200_000), tmp_path / "r.html")


def test_a_report_too_large_to_mail_names_its_largest_findings(findings: list[Finding]) -> None:
    several = [findings[0], *[heavy(70_000)] * 10]
    with pytest.raises(
        ValueError, match=r"take 1\d\.\d MB, more than 10 MB.*How heavy\? \(0\.\d MB\)"
    ):
        to_html(several)


def test_the_package_can_be_called_like_the_function(
    findings: list[Finding], tmp_path: Path
) -> None:
    path = layerscope.report(findings, tmp_path / "r.html", title="Called")
    assert "<title>Called</title>" in path.read_text("utf-8")


def test_a_folder_is_no_page(findings: list[Finding], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder; give a file in it: .*report\.html"):
        report(findings, tmp_path)
    assert not list(tmp_path.iterdir())


def test_importing_the_report_is_light() -> None:
    heavy = "{'plotly', 'pandas', 'torch', 'jinja2'}"
    code = f"import sys, layerscope.report; print(*{heavy} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
