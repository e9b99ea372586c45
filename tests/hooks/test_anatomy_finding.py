"""An anatomy as a finding: table, words and picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.locating.anatomy_finding import AnatomyFinding
from layerscope.planted.families import batch, build


def found(family: str) -> AnatomyFinding:
    return anatomy(build(family)).finding()


def test_table_holds_every_site_and_check() -> None:
    source = anatomy(build("gpt2"))
    finding = source.finding()
    assert list(finding.sites["name"]) == list(source.sites)
    assert list(finding.checks["name"]) == [c.name for c in source.checks]
    row = finding.sites.set_index("name").loc["blocks.1.mlp_out"]
    assert (row["layer"], row["where"], row["shape"]) == (1, "transformer.h.1.mlp", "b p 32")


def test_answer_counts_and_bounds() -> None:
    words = found("gpt2").answer()
    assert "3 blocks of width 32, 36 named sites" in words
    assert "6 of 6 checks passed, largest relative error" in words


def test_answer_names_what_failed() -> None:
    model = build("gpt2")
    mine = model.transformer.h[1].register_forward_hook(lambda m, args, out: out.pow(3))
    words = anatomy(model).finding().answer()
    mine.remove()
    assert "Failed: resid_pre + attn_out + mlp_out = resid_post." in words


def test_saved_and_loaded_again_it_draws_the_same(tmp_path: Path) -> None:
    finding = found("whisper")
    again = AnatomyFinding.load(finding.save(tmp_path / "anatomy"))
    assert again.answer() == finding.answer()
    assert again.figure().to_json() == finding.figure().to_json()


@pytest.mark.parametrize("family", ["gpt2", "gptj", "t5", "mamba"])
def test_figure_shows_each_contribution_and_each_check(family: str) -> None:
    finding = found(family)
    words = [a.text.partition("<br>")[0] for a in finding.figure().layout.annotations]
    for part in ("attn_out", "mlp_out", "cross_attn_out"):
        assert (part in words) == finding.sites["name"].str.endswith(f".{part}").any()
    for name in finding.checks["name"]:
        assert any(name in text for text in words)
    hovers = str([trace.hovertext for trace in finding.figure().data])
    assert "blocks.0.resid_post" in hovers


def test_plain_models_have_a_finding_too() -> None:
    finding = anatomy(build("lstm"), example=batch("lstm")).finding()
    assert "0 blocks, 0 named sites" in finding.answer()
    assert len(finding.figure().layout.annotations) == len(finding.checks)
