"""Maps between two models: a planted staircase, a second computation, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from layerscope.analyses.depth.linear_maps_finding import LinearMapsFinding
from layerscope.analyses.linear_maps import linear_maps
from layerscope.analyses.material.texts import as_texts, residuals
from layerscope.finding import Finding
from layerscope.planted import families
from layerscope.planted.staircase import STEPS, VOCAB, staircase


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCAB, (80, 12), generator=generator).tolist()


def test_the_best_sources_climb_a_staircase(texts) -> None:
    shallow, deep = staircase()
    found = linear_maps(shallow, deep, texts, ridge=1e-12, twin=False, progress=False)
    assert found.best["source_index"].tolist() == list(STEPS)
    assert found.best["value"].max() < 1e-9
    others = found.table[~found.table["best"]]
    assert others["value"].min() > 0.01
    assert (found.best["ci_high"] < 1e-9).all()


def test_the_same_model_maps_to_itself(texts) -> None:
    shallow, _ = staircase()
    found = linear_maps(shallow, shallow, texts, ridge=1e-12, twin=False, progress=False)
    same = found.table[found.table["source_index"] == found.table["target_index"]]
    assert same["value"].max() < 1e-12
    assert same["best"].all()


def test_a_second_way_by_scikit_learn(texts) -> None:
    from sklearn.linear_model import Ridge

    source, target = families.build("llama"), families.build("gpt2")
    ids = [[x + 3 for x in text] for text in texts]
    found = linear_maps(source, target, ids, ridge=0.01, test=0.25, seed=3, progress=False)
    held = as_texts(source, ids).split(0.25, seed=3)

    def rows(model: nn.Module, part: Any, index: int) -> np.ndarray:
        states = residuals(model, torch.stack(part.prompts.ids))[index, :, 1:]
        return states.flatten(0, 1).double().numpy()

    for i, j in [(0, 0), (2, 1), (3, 3)]:
        x, y = rows(source, held[0], i), rows(target, held[0], j)
        penalty = 0.01 * len(x) * x.var(0).mean()
        fitted = Ridge(alpha=penalty).fit(x, y)
        missed = ((fitted.predict(rows(source, held[1], i)) - rows(target, held[1], j)) ** 2).sum()
        spread = ((rows(target, held[1], j) - y.mean(0)) ** 2).sum()
        line = found.table.query(f"source_index == {i} and target_index == {j}").iloc[0]
        assert line["value"] == pytest.approx(missed / spread, rel=1e-8)
        assert line["ci_low"] < line["value"] < line["ci_high"]
        assert line["n"] == 20 * 11
        assert line["twin"] > 0


def test_first_tokens_count_only_when_asked(texts) -> None:
    shallow, deep = staircase()
    options: dict[str, Any] = {"ridge": 1e-12, "twin": False, "progress": False}
    assert set(linear_maps(shallow, deep, texts, **options).table["n"]) == {24 * 11}
    assert set(linear_maps(shallow, deep, texts, first=True, **options).table["n"]) == {24 * 12}


def test_saved_and_drawn(texts, tmp_path) -> None:
    shallow, deep = staircase()
    found = linear_maps(shallow, deep, texts, twin=False, progress=False)
    again = Finding.load(found.save(tmp_path / "maps"))
    assert isinstance(again, LinearMapsFinding)
    assert again.answer() == found.answer()
    heat = again.figure().data[0]
    assert np.shape(heat.z) == (4, 7)
    # 24 held-out groups, and 616 rows for 6 features.
    assert not any("few" in note for note in found.notes)
    assert found.provenance.parameters["layer_evaluations"] == 80 * 9


def test_refusals(texts, gpt2, tokenizer, tmp_path) -> None:
    shallow, _ = staircase()
    with pytest.raises(ValueError, match="30 and 61 different tokens"):
        linear_maps(shallow, families.build("llama"), texts, progress=False)
    with pytest.raises(ValueError, match="is one group, so nothing can be held out"):
        linear_maps(shallow, shallow, texts[:1], progress=False)
    with pytest.raises(ValueError, match="no text to fit on has a second token"):
        linear_maps(shallow, shallow, [[1], [2], [3]], progress=False)
