"""Operating modes of heads: planted patterns, loops over captured patterns, published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.analyses.activity import head_counts
from layerscope.analyses.activity.attention_modes_finding import AttentionModesFinding
from layerscope.analyses.activity.attention_table import lines_of, mode_of
from layerscope.analyses.activity.head_counts import (
    BINS,
    EDGES,
    HeadCounts,
    Rows,
    median_in_bins,
    median_of,
    visible_keys,
)
from layerscope.analyses.attention_modes import attention_modes
from layerscope.analyses.measures.concentration import gaussian_share
from layerscope.corpus import Samples
from layerscope.finding import Finding
from layerscope.hooks.capture import capture
from layerscope.hooks.twin import untrained_twin
from layerscope.planted import families
from layerscope.planted.activity import gaussian_softmax

WINDOWS = torch.randint(3, 61, (6, 40), generator=torch.Generator().manual_seed(0)).tolist()


def rows(pattern: Tensor, groups: int | None = None) -> Rows:
    count = len(pattern)
    sinks = torch.zeros(count, pattern.shape[-1], dtype=torch.bool)
    sinks[:, 0] = True
    return Rows(np.arange(count) % (groups or count), sinks)


def measured(pattern: Tensor, **options: Any) -> list[dict[str, Any]]:
    counts = HeadCounts(len(pattern), share=0.9, least=options.pop("least", 32))
    counts.update(pattern, rows(pattern))
    found = lines_of({"blocks.0.pattern": counts}, None, sink=0.3, share=0.9, seed=0)
    return [line for line in found if line["part"] == "head"]


# Known answers


@pytest.mark.parametrize(("keys", "k"), [(128, 116), (512, 461)])
def test_uniform_and_one_hot_heads(keys: int, k: int) -> None:
    uniform = torch.full((keys, keys), 1 / keys)
    pattern = torch.stack([uniform, torch.eye(keys)]).expand(2, -1, -1, -1)
    flat, single = measured(pattern)
    assert (flat["k"], flat["visible"], flat["mode"]) == (k, keys, "I")
    assert flat["value"] == k / keys
    assert flat["effective"] == pytest.approx(keys, rel=1e-4)
    assert (single["k"], single["mode"], single["effective"]) == (1, "IV", 1)
    assert single["self_share"] == 1
    assert flat["previous_share"] == pytest.approx((keys - 1) / keys**2)  # query 0 has none
    assert (flat["ci_low"], flat["ci_high"]) == pytest.approx((k / keys, k / keys))


def test_gaussian_logits_have_the_mode_of_the_law() -> None:
    spreads = [0.5, 1.0, 2.0]
    heads = [gaussian_softmax(512, 512, s, seed=i) for i, s in enumerate(spreads)]
    found = measured(torch.stack(heads)[None])
    assert [line["mode"] for line in found] == ["I", "I", "II"]
    assert found[1]["k"] == pytest.approx(313, abs=5)
    for line, spread in zip(found[:2], spreads, strict=False):
        assert line["value"] == pytest.approx(gaussian_share(spread), abs=0.01)


def test_thresholds_belong_to_the_narrower_mode() -> None:
    assert [mode_of(x) for x in (1.0, 0.51, 0.5, 0.126, 0.125, 1 / 31, 1 / 32, 0.001)] == [
        *("I", "I", "II", "II", "III", "III", "IV", "IV")
    ]
    keys = 64
    pattern = torch.zeros(1, 4, keys, keys)
    for head, width in enumerate((64, 32, 8, 2)):  # the 90 % of these: all but a tenth
        pattern[0, head, :, :width] = 1 / width
    assert [line["mode"] for line in measured(pattern)] == ["I", "II", "III", "IV"]


def test_a_sink_head_is_told_apart_from_one_that_picks_a_key() -> None:
    keys = 100
    pattern = torch.full((3, 2, keys, keys), 0.0)
    pattern[:, 0, :, 0], pattern[:, 0, :, 1:] = 0.95, 0.05 / 99
    pattern[:, 1, :, 50], pattern[:, 1, :, :50], pattern[:, 1, :, 51:] = 0.95, 0.0005, 0.0005
    sink, picker = measured(pattern)
    assert (sink["mode"], sink["is_sink"]) == ("IV", True)
    assert sink["sink_share"] == pytest.approx(0.95)
    assert (sink["rest_mode"], sink["rest_k"]) == ("I", 90)  # ceil of 90 % of 99
    assert (picker["mode"], picker["is_sink"], picker["rest_mode"]) == ("IV", False, "IV")


def test_the_share_is_a_ratio_of_two_medians() -> None:
    """Half of the queries see few keys and read all of them, half see many and read one."""
    causal = torch.ones(64, 64).tril()
    pattern = causal / causal.sum(-1, keepdim=True)
    pattern[44:] = 0.001 * causal[44:]
    pattern[44:, 5] = 1 - 0.001 * (causal[44:].sum(-1) - 1)
    line = measured(pattern[None, None], least=24)[0]
    seen = np.arange(24, 65)
    k = np.where(seen > 44, 1, np.ceil(0.9 * seen - 1e-9))
    assert line["value"] == np.median(k) / np.median(seen)
    assert line["value"] != pytest.approx(np.median(k / seen), rel=0.01)
    assert line["estimator"] == "median k over median of visible keys"


def test_queries_without_choice_are_left_out() -> None:
    causal = torch.ones(64, 64).tril()
    pattern = (causal / causal.sum(-1, keepdim=True)).expand(1, 2, -1, -1)
    every = [i + 1 for i in range(64)]
    for least in (1, 32, 60):
        line = measured(pattern, least=least)[0]
        seen = [n for n in every if n >= least]
        assert line["visible"] == np.median(seen)
        assert line["k"] == np.median([int(np.ceil(0.9 * n - 1e-9)) for n in seen])


# A second computation: loops over captured patterns


def patterns(model: Any, windows: list[list[int]]) -> dict[int, list[np.ndarray]]:
    """Layer -> pattern ``[heads, queries, keys]`` of each window, run alone."""
    found: dict[int, list[np.ndarray]] = {}
    for ids in windows:
        with torch.no_grad(), capture(model, "blocks.*.pattern") as seen:
            model(input_ids=torch.tensor([ids]))
        for layer, site in enumerate(seen):
            found.setdefault(layer, []).append(seen[site][0].double().numpy())
    return found


def by_hand(pattern: list[np.ndarray], head: int, least: int, mask: np.ndarray) -> dict[str, float]:
    """Query by query, with sorted lists and a running sum."""
    each: dict[str, list[float]] = {}
    for window in pattern:
        for query, p in enumerate(window[head]):
            seen = int(mask[query].sum())
            if seen < least:
                continue
            said = {
                "k": _fewest(list(p)),
                "visible": seen,
                "rest_k": _fewest(list(p[1:])),
                "rest_visible": int(mask[query, 1:].sum()),
                "sink_share": p[0],
                "self_share": p[query],
                "previous_share": p[query - 1] if query else 0.0,
                "entropy": -sum(x * np.log(x) for x in p if x > 0),
            }
            for name, x in said.items():
                each.setdefault(name, []).append(x)
    found = {name: float(np.mean(x)) for name, x in each.items()}
    for name in ("k", "visible", "rest_k", "rest_visible"):
        found[name] = float(np.median(each[name]))
    return found | {"n": len(each["k"])}


def _fewest(p: list[float]) -> int:
    held, count, total = 0.0, 0, sum(p)
    for x in sorted(p, reverse=True):
        if held >= (0.9 - 1e-6) * total:
            break
        held, count = held + x, count + 1
    return count


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "gpt_neox", "mistral", "bloom"])
def test_all_columns_equal_a_loop_over_captured_patterns(family: str) -> None:
    model = families.build(family)
    found = attention_modes(model, WINDOWS, least=24, progress=False).heads()
    triangle = np.ones((40, 40)) if family == "bert" else np.tril(np.ones((40, 40)))
    for layer, pattern in patterns(model, WINDOWS).items():
        for head in range(families.HEADS):
            line = found[(found["layer"] == layer) & (found["head"] == head)].iloc[0]
            hand = by_hand(pattern, head, 24, triangle)
            assert line["n"] == hand["n"]
            assert (line["k"], line["visible"]) == (hand["k"], hand["visible"])
            assert line["rest_k"] == hand["rest_k"]
            assert line["value"] == pytest.approx(hand["k"] / hand["visible"])
            assert line["rest"] == pytest.approx(hand["rest_k"] / hand["rest_visible"])
            assert line["mode"] == mode_of(line["value"])
            assert line["effective"] == pytest.approx(np.exp(hand["entropy"]), rel=1e-4)
            for name in ("sink_share", "self_share", "previous_share"):
                assert line[name] == pytest.approx(hand[name], rel=1e-4)


def test_a_window_of_attention_bounds_what_is_visible() -> None:
    """Gemma-2 looks 4 tokens back in every other layer."""
    model = families.build("gemma2")
    found = attention_modes(model, WINDOWS, least=4, progress=False).heads()
    seen = found.groupby("layer")["visible"].first()
    assert sorted(set(seen)) == [4, np.median([i + 1 for i in range(3, 40)])]


def test_published_attention_gives_the_same_k(shared_data: Path) -> None:
    """nanogpt_sort: k from the published probabilities of block 0, and from our own capture."""
    from safetensors.torch import load_file
    from transformers import GPT2LMHeadModel

    folder = shared_data / "nanogpt_sort"
    gold = load_file(folder / "gold_activations.safetensors")
    model = GPT2LMHeadModel.from_pretrained(folder / "hf").eval()
    ids = [x.long().tolist() for x in gold["idx"]]
    found = attention_modes(model, ids, least=1, progress=False).heads()
    triangle = np.tril(np.ones((11, 11)))
    published = list(gold["attSm"].double().numpy())
    for head in range(3):
        line = found[(found["layer"] == 0) & (found["head"] == head)].iloc[0]
        hand = by_hand(published, head, 1, triangle)
        assert (line["k"], line["n"]) == (hand["k"], 33)
        assert line["sink_share"] == pytest.approx(hand["sink_share"], abs=1e-5)
        assert line["effective"] == pytest.approx(np.exp(hand["entropy"]), rel=1e-4)


# Counting


def test_visible_keys_come_from_the_pattern() -> None:
    causal = torch.ones(6, 6).tril()
    assert torch.equal(visible_keys(causal.expand(2, 3, -1, -1)), causal.bool())
    assert visible_keys(torch.ones(1, 1, 6, 6)).all()
    holes = causal.clone()
    holes[4, 1:4] = holes[3, 2] = 0  # probabilities that were too small for the format
    assert torch.equal(visible_keys(holes[None, None]), causal.bool())
    local = causal.triu(-2)
    assert torch.equal(visible_keys(local[None, None]), local.bool())
    padded = causal.clone()
    padded[0] = 0
    assert visible_keys(padded[None, None]).sum(-1).tolist() == [0, 2, 3, 4, 5, 6]
    assert not visible_keys(torch.zeros(1, 1, 3, 3)).any()


def test_medians_from_counts() -> None:
    generator = np.random.default_rng(0)
    for size in (1, 2, 7, 100):
        k = generator.integers(0, 9, (3, size))
        counts = np.stack([np.bincount(x, minlength=9) for x in k])
        np.testing.assert_array_equal(median_of(counts), np.median(k, 1))
    assert np.isnan(median_of(np.zeros((1, 4), dtype=np.int64))).all()
    shares = 2.0 ** -generator.uniform(0, 7, (4, 5000))
    bins = np.stack([np.histogram(x, EDGES)[0] for x in shares]).astype(float)
    np.testing.assert_allclose(median_in_bins(bins), np.median(shares, 1), rtol=0.03)
    assert len(EDGES) == BINS + 1
    assert set(EDGES) >= {1 / 2, 1 / 8, 1 / 32}


def test_neither_blocks_nor_batches_nor_precision_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = gaussian_softmax(4 * 3 * 50, 50, 1.5).reshape(4, 3, 50, 50)
    whole, parts, double = (HeadCounts(2, share=0.9, least=32) for _ in range(3))
    whole.update(pattern, rows(pattern, 2))
    double.update(pattern.double(), rows(pattern, 2))
    monkeypatch.setattr(head_counts, "BLOCK", 64)
    for start in (0, 2):
        some = pattern[start : start + 2]
        parts.update(some, rows(some, 2))
    for other in (parts, double):
        np.testing.assert_array_equal(other.k, whole.k)
        np.testing.assert_array_equal(other.histogram, whole.histogram)
        np.testing.assert_allclose(other.sums, whole.sums, rtol=1e-5)
    assert whole.histogram.sum() == 2 * 4 * 3 * 50
    assert whole.k.sum() == whole.histogram.sum()


def test_a_bin_ends_with_its_upper_edge() -> None:
    """A head that needs exactly half, an eighth, ... of the keys is counted in the narrower mode."""
    keys = 64
    pattern = torch.zeros(1, 4, keys, keys)
    for head, k in enumerate((32, 8, 2, keys)):  # the last one uses all keys: all are visible
        pattern[0, head, :, :k] = 1 / k
    counts = HeadCounts(1, share=0.999, least=32)
    counts.update(pattern, rows(pattern))
    for head, share in enumerate((1 / 2, 1 / 8, 1 / 32)):
        filled = np.flatnonzero(counts.histogram[0, 0, head])
        assert EDGES[filled + 1].tolist() == [share]


def test_intervals_are_over_groups() -> None:
    """Windows that differ give an interval that holds both; equal ones give the value itself."""
    keys = 64
    narrow, wide = torch.zeros(1, 1, keys, keys), torch.full((1, 1, keys, keys), 1 / keys)
    narrow[..., :8] = 1 / 8
    line = measured(torch.cat([narrow, wide] * 10))[0]
    assert line["ci_low"] < line["value"] < line["ci_high"]
    alone = measured(wide)[0]
    assert np.isnan(alone["ci_low"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_numbers_of_the_cpu() -> None:
    model = families.build("llama")
    here = attention_modes(model, WINDOWS, progress=False).heads()
    there = attention_modes(model.cuda(), WINDOWS, progress=False).heads()
    np.testing.assert_allclose(there["value"], here["value"], rtol=0.05)
    np.testing.assert_allclose(there["effective"], here["effective"], rtol=1e-3)


# The analysis


def test_the_twin_is_the_untrained_model() -> None:
    model = families.build("gpt2")
    both = attention_modes(model, WINDOWS, twin=True, seed=3, progress=False).heads()
    fresh = attention_modes(untrained_twin(model, seed=3), WINDOWS, seed=3, progress=False).heads()
    assert list(both["twin"]) == list(fresh["value"])
    assert list(both["twin_mode"]) == list(fresh["mode"])
    assert (both["twin"] > 0.8).all()  # untrained heads average


def test_texts_are_packed(gpt2: Any, tokenizer: Any, sentences: list[str]) -> None:
    found = attention_modes(gpt2, sentences, window=48, tokenizer=tokenizer, progress=False)
    assert "windows of 48 tokens" in found.provenance.data
    assert found.heads()["n"].iloc[0] % 17 == 0  # queries 32 to 48 of each window
    assert any("Windows are short" in note for note in found.notes)


def test_images_have_heads_too() -> None:
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = attention_modes(families.build("vit"), Samples({"pixel_values": x}), least=10, progress=False)  # fmt: skip
    heads = found.heads()
    assert set(heads["visible"]) == {17}
    assert heads["n"].iloc[0] == 5 * 17


def test_the_finding_is_saved_whole_and_drawn(tmp_path: Any) -> None:
    model: Any = families.build("gpt2")
    found = attention_modes(model, WINDOWS, sink=0.02, twin=True, progress=False)
    again = Finding.load(found.save(tmp_path / "finding"))
    assert isinstance(again, AttentionModesFinding)
    assert again.answer() == found.answer()
    assert "nan" not in found.answer()
    assert f"Of {len(found.heads())} heads" in found.answer()
    assert "put much of their attention on a sink" in found.answer()
    for keys in ("all", "rest"):
        sums = found.histogram(keys).groupby(["layer", "head"])["value"].sum()
        assert sums.to_numpy() == pytest.approx(1)
    grids = [trace for trace in found.figure().data if trace.type == "heatmap"]
    assert len(grids) == 2  # with and without sinks
    without = attention_modes(model, WINDOWS, sink=0.99, progress=False)
    assert len([t for t in without.figure().data if t.type == "heatmap"]) == 1


def test_what_does_not_fit_is_refused(make_store: Any) -> None:
    model: Any = families.build("llama")
    with pytest.raises(ValueError, match="no query sees 41 keys or more"):
        attention_modes(model, WINDOWS, least=41, progress=False)
    with pytest.raises(ValueError, match="share is a share between 0 and 1, not 90"):
        attention_modes(model, WINDOWS, share=90)
    with pytest.raises(ValueError, match="least is a number of keys from 1, not 0"):
        attention_modes(model, WINDOWS, least=0)
    with pytest.raises(LookupError, match="this model has no attention: no attention pattern"):
        attention_modes(families.build("mamba"), WINDOWS, progress=False)
    with pytest.raises(LookupError, match=r"blocks\.9\.pattern"):
        attention_modes(model, WINDOWS, sites="blocks.9.pattern", progress=False)
    store: Any = make_store({"embed": torch.randn(6, 4)}, group=range(6))
    with pytest.raises(TypeError, match=r"attention_modes needs the model, .* not Store"):
        attention_modes(store)
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight[0] = float("nan")
    with pytest.raises(ValueError, match=r"blocks\.1\.pattern has NaN or infinite attention"):
        attention_modes(model, WINDOWS, progress=False)
