"""Statistics of training rows, and whether other rows are like them."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.analyses.sae.rows.statistics import Statistics, mismatch, statistics_of


def rows(count: int = 5000, seed: int = 0, width: int = 16) -> Tensor:
    """A fixed mean and fixed spreads; the seed draws the rows."""
    fixed = torch.Generator().manual_seed(99)
    mean, spread = torch.randn(width, generator=fixed) * 2, torch.rand(width, generator=fixed) + 0.5
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * spread + mean


def of(x: Tensor) -> Statistics:
    return statistics_of(x, "mid")


def test_against_numpy() -> None:
    x = rows() + 100
    found, wide = of(x), x.double().numpy()
    np.testing.assert_allclose(found.mean, wide.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, wide.var(0), rtol=1e-6)
    assert found.mean_norm == pytest.approx(np.linalg.norm(wide, axis=1).mean(), rel=1e-12)
    spread = ((wide - wide.mean(0)) ** 2).sum(1).mean()
    assert found.total_variance == pytest.approx(spread, rel=1e-6)
    assert found.rows == 5000


def test_a_large_mean_costs_no_digits() -> None:
    torch.testing.assert_close(of(rows() + 4096).variance, of(rows()).variance, rtol=1e-3, atol=0)


def test_they_come_back_from_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from safetensors.torch import load_file, save_file

    before = of(rows())
    save_file(before.tensors(), tmp_path / "statistics.safetensors")
    after = Statistics.read(load_file(tmp_path / "statistics.safetensors"), "mid")
    assert torch.equal(after.mean, before.mean)
    assert torch.equal(after.variance, before.variance)
    assert (after.rows, after.mean_norm) == (before.rows, before.mean_norm)


@pytest.mark.parametrize("count", [50, 500, 5000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_rows_of_the_same_kind_match(count: int, seed: int) -> None:
    assert mismatch(of(rows()), of(rows(count, seed))) is None
    assert mismatch(of(rows(count, seed)), of(rows())) is None


def test_each_mismatch_is_said_with_both_numbers() -> None:
    trained = of(rows())
    scaled = mismatch(trained, of(rows(seed=1) * 3))
    assert scaled is not None
    assert f"{trained.mean_norm * 3:.3g}"[:3] in scaled
    assert (
        f"mean norm {of(rows(seed=1) * 3).mean_norm:.4g}, in training {trained.mean_norm:.4g}"
        in (scaled)
    )
    assert f"in training {trained.total_variance:.4g}" in scaled
    away = rows(seed=1) + torch.tensor([*[0.0] * 15, 4.0])
    shifted = mismatch(trained, of(away))
    assert shifted is not None
    assert f"apart, standard deviation in training {trained.total_variance**0.5:.4g}" in shifted
    assert "variance in all" not in shifted


def test_the_same_variance_in_other_dimensions_does_not_match() -> None:
    x = rows() - rows().mean(0)
    x[:, 0] *= 4
    turned = x.flip(1)
    found = mismatch(of(x), of(turned))
    assert found is not None
    assert "of the variance lies in other dimensions" in found
    assert "mean norm" not in found


def test_another_width_does_not_match() -> None:
    assert mismatch(of(rows()), of(rows(width=8))) == (
        "trained on mid of width 16, used on mid of width 8"
    )


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mid: statistics of rows .* got \[0, 4\]"):
        of(torch.zeros(0, 4))


def test_another_layer_is_told_from_another_corpus(shared_data, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """stories260K: stories against a biology textbook match at each site, two layers do not."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from layerscope.hooks.extract import extract

    folder = shared_data / "stories260K" / "hf"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    book = (shared_data / "text_books" / "darwin.txt").read_text()[20_000:35_000]
    stories = shared_data / "text_tinystories" / "tinystories_500.json"
    texts = {"stories": json.loads(stories.read_text())[:20], "book": book.split("\n\n")}
    found = {}
    for name, some in texts.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(x.replace("\n", " ") for x in some))
        store = extract(model, tmp_path / f"{name}.txt", tokenizer=tokenizer, progress=False)
        for site in store.sites:
            found[name, site] = statistics_of(store[site][:], site)
    sites = [site for name, site in found if name == "book"]
    for site in sites:
        assert mismatch(found["stories", site], found["book", site]) is None
    for below, above in pairwise(sites):
        words = mismatch(found["stories", below], found["stories", above])
        assert words is not None
        assert f"{found['stories', below].total_variance:.4g}" in words
