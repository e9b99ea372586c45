"""What a notebook shows: right in light and dark, escaped, with the next step; and what TAB offers."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
import torch

import layerscope as ls
from layerscope.finding import Finding, Provenance
from layerscope.notebook import MOST_NOTES, MOST_ROWS, answered, listing
from layerscope.theme import COLORS

VOID = {"br", "hr", "img"}


class Balanced(HTMLParser):
    """Raises at the first tag that does not close what is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def words(html: str) -> str:
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return " ".join(" ".join(parser.text).split())


class Said(Finding):
    question = "Is <b> bold?"

    def answer(self) -> str:
        return "No: 1 < 2."


@pytest.fixture
def things(gpt2: Any, tokenizer: Any, sentences: list[str], make_store: Any) -> dict[str, Any]:
    from layerscope.analyses.sae.sae import SAE
    from layerscope.analyses.training.held_run import held_run

    batch = dict(tokenizer(sentences[:1], return_tensors="pt"))
    batch.pop("token_type_ids", None)
    with ls.capture(gpt2, "blocks.*.resid_post") as seen:
        gpt2(**batch)
    store = make_store(
        {"embed": torch.zeros(6, 4), "blocks.0.resid_post": torch.zeros(6, 4)}, upos="X"
    )
    run = held_run(
        {0: {"a": torch.zeros(5, 3)}, 7: {"a": torch.ones(5, 3)}}, torch.tensor([0, 1, 0, 1, 0])
    )
    return {
        "corpus": ls.read([{"text": "a <s> b", "mood": "x"}]),
        "samples": ls.Samples({"x": torch.zeros(4, 3, 2)}, labels={"digit": range(4)}),
        "anatomy": ls.anatomy(gpt2),
        "store": store,
        "capture": seen,
        "recording": ls.record(gpt2, batch),
        "sae": SAE(torch.eye(4, 8), torch.zeros(8), torch.eye(8, 4), torch.zeros(4)),
        "run": run,
    }


SAYS = {
    "corpus": ["Corpus", "1 text", "labels of texts: mood", "a <s> b", "extract(model, corpus"],
    "samples": ["Samples", "4 samples", "labels: digit", "[3, 2]", "extract(model, samples"],
    "anatomy": ["Anatomy", "3 blocks", "width 16", "ok all numbers are finite", "capture(model"],
    "store": ["Store", "6 rows", "2 sites", "labels: upos", 'probe(store, "all", label="upos")'],
    "capture": ["Capture of GPT2LMHeadModel", "3 of 3 sites", 'seen["blocks.0.resid_post"]'],
    "recording": ["Recording of GPT2LMHeadModel", "1 prompt of", "3 blocks", "run.replay("],
    "sae": ["SAE", "4 -> 8 latents -> 4", "analyses.sae.evaluate(sae, store)"],
    "run": ["HeldRun", "1 network", "5 rows of 2 classes", "analyses.information_plane(run)"],
}


@pytest.mark.parametrize("name", sorted(SAYS))
def test_a_notebook_shows_what_it_is_and_the_next_step(name: str, things: dict[str, Any]) -> None:
    html = things[name]._repr_html_()
    told = words(html)
    for part in SAYS[name]:
        assert part in told
    # The notebook's own ink and paper: neither is set, so both of its dresses fit.
    assert not re.search(r"background(-color)?:(?! none)|[; \"]color:", html)
    assert "<script" not in html
    assert "http" not in html


@pytest.mark.parametrize("name", sorted(SAYS))
def test_a_prompt_shows_it_in_lines_not_in_tensors(name: str, things: dict[str, Any]) -> None:
    text = repr(things[name])
    assert "tensor(" not in text
    assert len(text.splitlines()) < 40


@pytest.mark.parametrize("name", ["store", "capture", "recording"])
def test_tab_offers_sites_that_can_be_asked_for(name: str, things: dict[str, Any]) -> None:
    thing = things[name]
    offered = thing._ipython_key_completions_()
    assert "blocks.0.resid_post" in offered
    for site in offered:
        assert len(thing[site])


def test_a_trained_probe_says_what_it_reads() -> None:
    from layerscope.probes.readouts.linear import LinearReadout

    readout = LinearReadout(
        weight=torch.ones(2, 4),
        bias=torch.zeros(2),
        mean=torch.zeros(4),
        scale=torch.ones(4),
        classes=("NOUN", "VERB"),
        site="blocks.1.resid_post",
        label="upos",
    )
    first, after = repr(readout).splitlines()
    assert first == (
        "LinearReadout of upos at blocks.1.resid_post: width 4 -> 2 classes (NOUN, VERB)"
    )
    assert "readout.predict(x)" in after


def test_a_finding_is_a_section_of_a_report() -> None:
    finding = Said(pd.DataFrame({"a": [1]}), Provenance(), notes=("mind <this>",))
    html = finding._words()
    assert words(html) == "Is <b> bold? No: 1 < 2. Read with care mind <this>"
    answer, care = html.index(COLORS["value"]), html.index(COLORS["control"])
    assert html.index("bold?") < answer < html.index("No: 1") < care < html.index("mind")
    assert COLORS["control"] not in answered("q", "a", ())


def test_many_caveats_are_folded_but_never_a_single_one() -> None:
    notes = [f"mind this {i}" for i in range(MOST_NOTES + 2)]
    html = answered("q", "a", notes)
    seen, after = html.split("<details>")
    folded, _ = after.split("</details>")
    assert words(html) == f"q a Read with care {' '.join([*notes[:-2], '2 more', *notes[-2:]])}"
    assert [note in seen for note in notes] == [True] * MOST_NOTES + [False] * 2
    assert all(note in folded for note in notes[-2:])
    assert "<details>" not in answered("q", "a", notes[:-1])


def test_figures_are_dark_where_the_users_own_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import plotly.io as pio

    from layerscope.finding import _is_dark

    monkeypatch.setattr(pio.templates, "default", "plotly_dark")
    assert _is_dark()
    monkeypatch.setattr(pio.templates, "default", "plotly")
    assert not _is_dark()


def test_long_tables_are_cut_and_say_so() -> None:
    html = listing(("n",), [(i,) for i in range(100)])
    assert html.count("<tr>") == MOST_ROWS + 1
    assert "and 88 more" in html
    assert "more" not in listing(("n",), [(i,) for i in range(MOST_ROWS + 1)])


def test_cells_are_rounded_and_escaped() -> None:
    told = words(listing(("x", "text"), [(0.0, "<s>"), (0.00123, "b"), (1234, "c")]))
    assert told == "x text 0.000 <s> 0.0012 b 1,234 c"
