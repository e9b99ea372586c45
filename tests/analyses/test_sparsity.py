"""How few neurons are active: planted shares, a numpy computation from stored matrices, edges."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from layerscope.analyses.activity import counters as counting
from layerscope.analyses.activity.counters import MEASURES, Counters, Who
from layerscope.analyses.activity.functional_sparsity import without_random, without_smallest
from layerscope.analyses.activity.sparsity_finding import SparsityFinding
from layerscope.analyses.sparsity import sparsity
from layerscope.corpus import Samples
from layerscope.finding import Finding
from layerscope.hooks.capture import capture
from layerscope.hooks.extract import extract
from layerscope.hooks.twin import untrained_twin
from layerscope.planted import families
from layerscope.planted.activity import k_hot, rectified

TEXTS = [
    [5, 9, 12, 40, 7, 3],
    [3, 3, 8, 21],
    [60, 59, 58, 57, 56, 55],
    [11, 12, 13, 14, 15, 16, 17],
]


def passing(rows: Tensor, **options: Any) -> SparsityFinding:
    """The measures of planted rows, through a model that hands them on."""
    model = nn.Sequential(OrderedDict(act=nn.Identity()))
    return sparsity(model, Samples(rows), sites="act", progress=False, **options)


def value(found: SparsityFinding, measure: str, level: float | None = None) -> float:
    lines = found.curve(measure, level)
    assert len(lines) == 1
    return float(lines["value"].iloc[0])


# Known answers


@pytest.mark.parametrize(("threshold", "percent"), [(0, 50), (1.5301, 6.3), (1.8808, 3.0)])
def test_rectified_gaussians_have_their_share(threshold: float, percent: float) -> None:
    rows, truth = rectified(2000, 1024, threshold)
    found = passing(rows)
    assert 100 * value(found, "active", 0) == pytest.approx(percent, abs=0.1)
    line = found.curve("active", 0).iloc[0]
    # Independent rows and units: the interval is that of a share of 2,000 x 1,024 coins.
    half = 1.96 * math.sqrt(truth * (1 - truth) / rows.numel())
    assert (line["ci_high"] - line["ci_low"]) / 2 == pytest.approx(half, rel=0.12)
    assert line["count"] == pytest.approx(1024 * line["value"])
    assert found.exact_zeros
    assert "are not zero" in found.answer()


@pytest.mark.parametrize(("width", "k"), [(64, 10), (300, 7)])
def test_k_hot_rows_are_exact(width: int, k: int) -> None:
    rows, truth = k_hot(50, width, k)
    found = passing(rows)
    assert value(found, "active", 0) == pytest.approx(truth["active"], rel=1e-6)
    assert value(found, "hoyer") == pytest.approx(truth["hoyer"], abs=1e-6)
    assert value(found, "treves_rolls") == pytest.approx(truth["treves_rolls"], abs=1e-6)
    assert found.curve("energy", 0.9)["count"].iloc[0] == pytest.approx(truth["energy"])


def test_dead_units_are_counted_with_what_their_silence_proves() -> None:
    rows, _ = rectified(400, 30, 0.0)
    rows[:, [3, 17]] = 0
    found = passing(rows)
    dead = found.curve("dead", 0).iloc[0]
    assert dead["count"] == 2
    assert dead["bound"] == pytest.approx(3 / 400, rel=0.01)  # the rule of three
    never = found.curve("rate", 0)
    assert never[never["high"] == 0]["count"].item() == 2
    assert never["count"].sum() == 30
    half = never[(never["low"] < 0.5) & (never["high"] >= 0.5)]
    assert half["count"].sum() + never[never["low"] == 0.5]["count"].sum() >= 26
    assert "2 of 30 neurons never fired in 400 tokens" in found.answer()


def test_a_massive_unit_is_named_with_its_token() -> None:
    rows = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    rows[37, 5] = -900.0
    found = passing(rows)
    assert found.curve("massive")["count"].item() == 1
    first = found.curve("largest").iloc[0]
    assert (first["neuron"], first["peak"], first["position"]) == (5, 900, 0)
    assert first["token"] == "sample 37, position 0"
    assert first["value"] == pytest.approx(900 / np.median(np.abs(rows.numpy()).mean(0)), rel=1e-5)
    assert passing(rows, massive=5000.0).curve("massive")["count"].item() == 0


def test_an_untrained_relu_model_is_half_active() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = OPTConfig(
            vocab_size=61,
            hidden_size=32,
            ffn_dim=512,
            word_embed_proj_dim=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=64,
        )
        model = OPTForCausalLM(config).eval()
    lines = sparsity(model, TEXTS, progress=False).curve("active", 0)
    assert list(lines["layer"]) == [0, 1, 2]
    assert lines["value"].to_numpy() == pytest.approx(0.5, abs=0.03)


# A second computation: plain hooks, everything from the stored matrix


def matrices(model: Any, texts: list[list[int]]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Layer -> neurons ``[rows, width]`` in double precision, and the position of each row."""
    found: dict[int, list[Tensor]] = {}
    with torch.no_grad():
        for ids in texts:
            with capture(model, "blocks.*.mlp_act") as seen:
                model(input_ids=torch.tensor([ids]))
            for layer, site in enumerate(seen):
                found.setdefault(layer, []).append(seen[site].reshape(len(ids), -1).double())
    position = np.concatenate([np.arange(len(ids)) for ids in texts])
    return {layer: (torch.cat(x).numpy(), position) for layer, x in found.items()}


def by_hand(a: np.ndarray, measure: str, level: float) -> np.ndarray:
    size, width = np.abs(a), a.shape[1]
    if measure == "active":
        return (size > level * np.sqrt((a**2).mean(1, keepdims=True))).mean(1)
    if measure == "energy":
        held = np.cumsum(np.sort(a**2, 1)[:, ::-1], 1)
        return ((held < (level - 1e-6) * held[:, -1:]).sum(1) + 1) / width
    if measure == "hoyer":
        ratio = size.sum(1) / np.sqrt((a**2).sum(1))
        return (math.sqrt(width) - ratio) / (math.sqrt(width) - 1)
    return 1 - size.mean(1) ** 2 / (a**2).mean(1)


@pytest.mark.parametrize("family", ["opt", "gpt2", "llama", "gemma2", "gpt_neox", "bert"])
def test_all_measures_equal_those_of_the_stored_matrix(family: str) -> None:
    model = families.build(family)
    found = sparsity(model, TEXTS, gated=False, progress=False)
    for layer, (a, position) in matrices(model, TEXTS).items():
        lines = found.table[found.table["layer"] == layer].set_index("measure")
        for measure, level in MEASURES:
            each = by_hand(a, measure, level)
            line = lines.loc[[measure]]
            line = line[(line["level"] == level) | line["level"].isna()].iloc[0]
            assert line["value"] == pytest.approx(each[position > 0].mean(), rel=1e-5)
            assert line["first"] == pytest.approx(each[position == 0].mean(), rel=1e-5)
        rms = np.sqrt((a**2).mean(1, keepdims=True))
        fired = (np.abs(a) > 0.1 * rms)[position > 0].sum(0)
        dead = lines.loc["dead"]
        assert dead["count"].tolist() == [
            ((a != 0)[position > 0].sum(0) == 0).sum(),
            (fired == 0).sum(),
        ]
        usual = np.median(np.abs(a[position > 0]).mean(0))
        largest = lines.loc["largest"].iloc[0]
        assert largest["neuron"] == np.abs(a).max(0).argmax()
        assert largest["value"] == pytest.approx(np.abs(a).max() / usual, rel=1e-5)
        assert largest["position"] == position[np.abs(a).max(1).argmax()]
        rates = lines.loc["rate"]
        rates = rates[rates["level"] == 0.1]
        expected = np.histogram(fired[fired > 0] / (position > 0).sum(), [0, *rates["high"][1:]])
        assert rates["count"].tolist() == [(fired == 0).sum(), *expected[0]]


def test_the_factors_of_gated_mlps_are_found_by_their_product() -> None:
    model: Any = families.build("llama")
    found = sparsity(model, TEXTS, progress=False)
    assert set(found.table["part"]) == {"product", "gate", "up"}
    for part, path in (("gate", "mlp.act_fn"), ("up", "mlp.up_proj")):
        lines = found.curve("energy", 0.9, part)
        assert list(lines["site"]) == [f"model.layers.{i}.{path}" for i in range(families.LAYERS)]
        assert list(lines["layer"]) == list(range(families.LAYERS))
    with capture(model, ["model.layers.1.mlp.act_fn", "model.layers.1.mlp.up_proj"]) as seen:
        rows = [model(input_ids=torch.tensor([ids])) and ids for ids in TEXTS[:1]]
    assert rows
    gate, up = (seen[site] for site in seen)
    with capture(model, "blocks.1.mlp_act") as seen:
        model(input_ids=torch.tensor(TEXTS[:1]))
    torch.testing.assert_close(gate * up, seen["blocks.1.mlp_act"])


@pytest.mark.parametrize(
    ("family", "gated"), [("qwen3", True), ("gemma2", True), ("gpt2", False), ("opt", False)]
)
def test_which_mlps_are_gated(family: str, gated: bool) -> None:
    parts = set(sparsity(families.build(family), TEXTS, progress=False).table["part"])
    assert parts == ({"product", "gate", "up"} if gated else {"neurons"})


# What must not change the numbers


def test_a_store_gives_the_same_numbers_as_the_model(tokenizer: Any, sentences: list[str]) -> None:
    model: Any = families.build("opt")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.resize_token_embeddings(300, mean_resizing=False)
    ours = sparsity(model, sentences, tokenizer=tokenizer, progress=False)
    store = extract(model, sentences, "blocks.*.mlp_act", tokenizer=tokenizer, progress=False)
    theirs = sparsity(store.path, progress=False)
    columns = ["site", "measure", "level", "value", "first", "count", "neuron", "token", "n"]
    pd.testing.assert_frame_equal(ours.table[columns], theirs.table[columns], rtol=1e-5)
    assert any("first token of each text" in note for note in theirs.notes)
    whole = extract(
        model, sentences, "blocks.*.mlp_act", rows="texts:mean", tokenizer=tokenizer, progress=False
    )
    assert any("rows='tokens'" in note for note in sparsity(whole, progress=False).notes)


def test_pads_are_no_tokens() -> None:
    model = families.build("opt")
    width = max(map(len, TEXTS))
    ids = torch.tensor([x + [0] * (width - len(x)) for x in TEXTS])
    batch = {"input_ids": ids, "attention_mask": (torch.arange(width) < torch.tensor([[len(x)] for x in TEXTS])).long()}  # fmt: skip
    padded, plain = (sparsity(model, data, progress=False).table for data in (batch, TEXTS))
    pd.testing.assert_frame_equal(padded, plain, rtol=1e-5)


def test_masked_positions_of_samples_are_no_rows() -> None:
    x, _ = rectified(6 * 5, 8, 0.5)
    mask = torch.arange(5) < torch.tensor([[5], [3], [1], [4], [2], [5]])
    model = nn.Sequential(OrderedDict(act=nn.Identity()))
    data = Samples(x.reshape(6, 5, 8), mask=mask)
    found = sparsity(model, data, sites="act", progress=False).curve("active", 0).iloc[0]
    kept = x.reshape(6, 5, 8)[mask]
    assert found["n"] == 20
    assert found["value"] == pytest.approx(float((kept != 0).float().mean()), rel=1e-6)


def who(rows: int) -> Who:
    number = np.arange(rows)
    return Who(number // 5, number % 5 == 0, number // 5, number % 5)


def test_neither_blocks_nor_the_order_of_neurons_nor_precision_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    whole, parts, mixed, double = (Counters("x", 12) for _ in range(4))
    whole.update(a, who(60))
    mixed.update(a[:, order], who(60))
    double.update(a.double(), who(60))
    monkeypatch.setattr(counting, "BLOCK", 64)
    parts.update(a[:31], who(60)[:31])
    parts.update(a[31:], who(60)[31:])
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-12)
    np.testing.assert_array_equal(parts.where, whole.where)
    assert torch.equal(parts.fired, whole.fired)
    np.testing.assert_allclose(mixed.sums, whole.sums, rtol=1e-5)
    assert torch.equal(mixed.fired, whole.fired[:, order])
    np.testing.assert_array_equal(mixed.where, whole.where[order])
    np.testing.assert_allclose(double.sums, whole.sums, rtol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_numbers_of_the_cpu() -> None:
    model = families.build("llama")
    here = sparsity(model, TEXTS, functional=True, progress=False).table
    there = sparsity(model.cuda(), TEXTS, functional=True, progress=False).table
    own = here["measure"].isin(["active", "energy", "hoyer", "treves_rolls", "dead", "largest"])
    np.testing.assert_allclose(there[own]["value"], here[own]["value"], rtol=1e-3)


def test_nothing_is_kept_of_the_rows() -> None:
    def held(counters: Counters) -> int:
        arrays = [counters.sums, counters.counts, counters.silent, counters.where]
        tensors = [counters.fired, counters.size, counters.peak]
        return sum(x.size for x in arrays) + sum(x.numel() for x in tensors)

    counters = Counters("x", 12)
    counters.update(torch.randn(60, 40), who(60))
    before = held(counters)
    for _ in range(20):
        counters.update(torch.randn(60, 40), who(60))
    assert held(counters) == before
    assert set(vars(counters)) == {"site", "width", "sums", "counts", "silent", "fired", "size", "peak", "where"}  # fmt: skip


def test_the_twin_is_the_untrained_model() -> None:
    model = families.build("opt")
    both = sparsity(model, TEXTS, twin=True, seed=3, progress=False)
    alone = sparsity(untrained_twin(model, seed=3), TEXTS, seed=3, progress=False)
    assert list(both.curve("active")["twin"]) == list(alone.curve("active")["value"])
    assert list(both.curve("dead")["twin"]) == list(alone.curve("dead")["value"])


# Functional sparsity


def test_the_smallest_are_zeroed() -> None:
    a = torch.tensor([[3.0, -1.0, 2.0, 0.5], [0.0, 0.0, 1.0, -4.0]])
    assert without_smallest(a, 0.5).tolist() == [[3, 0, 2, 0], [0, 0, 1, -4]]
    assert without_smallest(a, 0.0) is a
    assert not without_smallest(a, 1.0).any()
    drawn = without_random(torch.ones(50, 40), 0.25, torch.Generator().manual_seed(0))
    assert (drawn == 0).sum(-1).tolist() == [10] * 50


def test_zeroing_up_to_the_found_fraction_keeps_the_loss() -> None:
    model: Any = families.build("opt")
    found = sparsity(model, TEXTS, functional=True, allowed=0.02, progress=False)
    lines = found.curve("functional")
    assert list(lines["site"]) == [*(f"blocks.{i}.mlp_act" for i in range(3)), "all of them"]
    whole = _loss(model, [], 0.0)
    for _, line in lines.iterrows():
        layers = [0, 1, 2] if line["site"] == "all of them" else [int(line["layer"])]
        assert line["loss"] == pytest.approx(whole, rel=1e-5)
        assert line["added"] == pytest.approx(_loss(model, layers, line["value"]) - whole, abs=1e-5)
        assert line["added"] <= 0.02 * whole + 1e-9
        beyond = _loss(model, layers, line["value"] + 1 / 256)
        assert beyond > 1.02 * whole or line["value"] > 0.99
    assert "as many random ones cost" in found.answer()


def _loss(model: Any, layers: list[int], fraction: float) -> float:
    """Next-token loss with plain hooks that zero the smallest neurons."""

    def zeroed(module: nn.Module, args: Any) -> Any:
        x = args[0].clone()
        rows = x.view(-1, x.shape[-1])
        number = round(fraction * x.shape[-1])
        for row in rows:
            row[row.abs().argsort()[:number]] = 0
        return (x,)

    handles = [model.model.decoder.layers[i].fc2.register_forward_pre_hook(zeroed) for i in layers]
    total, count = 0.0, 0
    with torch.no_grad():
        for ids in TEXTS:
            logits = model(torch.tensor([ids])).logits[0, :-1]
            following = torch.tensor(ids[1:])
            total += float(nn.functional.cross_entropy(logits, following, reduction="sum"))
            count += len(ids) - 1
    for handle in handles:
        handle.remove()
    return total / count


# Any module; bad input; the finding


def test_channels_of_a_cnn_at_every_position() -> None:
    model: Any = families.build("cnn")
    x = torch.randn(7, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = sparsity(model, x, sites=["stage1.2", "stage2.1"], progress=False)
    for path, positions in (("stage1.2", 256), ("stage2.1", 64)):
        with torch.no_grad(), capture(model, path) as seen:
            model(x)
        line = found.curve("active", 0).set_index("site").loc[path]
        assert line["n"] == 7 * positions
        assert line["value"] == pytest.approx(float((seen[path] != 0).float().mean()), rel=1e-5)
    assert found.table["n_groups"].iloc[0] == 7
    assert any("differ in width" in note for note in found.notes)
    assert len(found.figure().data) > 3


def test_half_precision_is_noted() -> None:
    found = sparsity(families.build("opt").bfloat16(), TEXTS, progress=False)
    assert any("computes in bfloat16" in note for note in found.notes)
    assert any("tokens are few" in note for note in found.notes)


def test_rows_of_zeros_have_no_hoyer_value() -> None:
    rows, truth = k_hot(40, 16, 4)
    rows[::4] = 0
    found = passing(rows)
    assert value(found, "hoyer") == pytest.approx(truth["hoyer"], abs=1e-6)
    assert found.curve("hoyer")["n"].item() == 30
    assert value(found, "active", 0) == pytest.approx(0.75 * 4 / 16)
    assert any("10 at act" in note for note in found.notes)


def test_nan_is_reported_with_its_place() -> None:
    model: Any = families.build("opt")
    with torch.no_grad():
        model.model.decoder.layers[1].fc1.weight[3] = float("nan")
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp_act is NaN or infinite at position 0"):
        sparsity(model, TEXTS, progress=False)


@pytest.mark.parametrize("rule", ["words", {"rule": "words"}])
def test_the_rule_of_a_store_may_be_a_word(make_store: Any, rule: Any) -> None:
    store = make_store(
        {"blocks.0.mlp_act": torch.rand(30, 4)}, {"rows": rule}, group=[i // 3 for i in range(30)]
    )
    found = sparsity(store, progress=False)
    assert any("The rows of this store are words" in note for note in found.notes)


def test_what_does_not_fit_is_refused(make_store: Any) -> None:
    store = make_store({"blocks.0.mlp_act": torch.randn(6, 4)}, group=range(6))
    with pytest.raises(ValueError, match="a store has its own rows"):
        sparsity(store, TEXTS)
    with pytest.raises(ValueError, match="twin=True needs the model"):
        sparsity(store, twin=True)
    with pytest.raises(ValueError, match="functional=True needs the model"):
        sparsity(store, functional=True)
    with pytest.raises(TypeError, match="give a model, a store or its folder, not int"):
        sparsity(3)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match=r"mlp_act"):
        sparsity(families.build("mixtral"), TEXTS, progress=False)
    plain = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    with pytest.raises(LookupError, match=r"Pass sites=, such as sites='1'; .*: '1' \(ReLU\)"):
        sparsity(plain, torch.randn(3, 6), progress=False)
    with pytest.raises(ValueError, match="language model that reads texts"):
        sparsity(families.build("sequential"), torch.randn(3, 6), sites="1", functional=True, progress=False)  # fmt: skip


def test_the_finding_is_saved_whole_and_drawn(tmp_path: Any) -> None:
    found = sparsity(families.build("llama"), TEXTS, twin=True, functional=True, progress=False)
    again = Finding.load(found.save(tmp_path / "finding"))
    assert isinstance(again, SparsityFinding)
    assert again.answer() == found.answer()
    assert "nan" not in found.answer()
    figure = found.figure()
    names = {trace.name for trace in figure.data}
    assert {"gate", "up", "gate times up", "untrained twin", "dense random numbers"} <= names
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert np.nansum(maps[0].z.astype(float), 0).tolist() == pytest.approx([1] * families.LAYERS)
