"""Cosines of input and output: planted answers, plain hooks as a second computation, store = model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from layerscope.analyses.layer_similarity import layer_similarity
from layerscope.analyses.skipping.cosines import Cosines, cosine
from layerscope.analyses.skipping.layer_similarity_finding import SimilarityFinding
from layerscope.corpus import Samples, read
from layerscope.finding import Finding
from layerscope.hooks.extract import extract
from layerscope.planted import families
from layerscope.planted.linear_stack import final_states, linear_stack
from layerscope.planted.turns import circling, quarter_turns

STATES = ["embed", "all", "blocks.*.resid_mid"]


@pytest.fixture(scope="module")
def letters() -> Any:
    """A tokenizer with one token for each word `t3` ... `t60`; a token before each text is `<s>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {"<s>": 0} | {f"t{i}": i for i in range(1, 61)}
    raw = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<s>", bos_token="<s>")


TEXTS = ["t5 t9 t12 t40 t7", "t3 t3 t8", "t60 t59 t58 t57 t56 t55 t54", "t20 t30", "t11 t12 t13"]


def llama(blocks: int = 7, *, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=61,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=blocks,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
        model = LlamaForCausalLM(config).eval()
    families.loosen_(model)
    return model


def value(finding: SimilarityFinding, part: str) -> dict[int, float]:
    lines = finding.part(part)
    return dict(zip(lines["layer"], lines["value"], strict=True))


# Known answers


def test_a_sublayer_that_writes_nothing_has_cosine_exactly_one(letters: Any) -> None:
    model = llama()
    with torch.no_grad():
        for i in (2, 5):
            model.model.layers[i].self_attn.o_proj.weight.zero_()
        model.model.layers[3].mlp.down_proj.weight.zero_()
    found = layer_similarity(model, TEXTS, tokenizer=letters, progress=False)
    assert found.joint_order()[:3] == [("attention", 2), ("mlp", 3), ("attention", 5)]
    one = found.table[(found.table["value"] == 1) & (found.table["importance"] == 0)]
    assert list(zip(one["part"], one["layer"], strict=True)) == [
        ("attention", 2),
        ("mlp", 3),
        ("attention", 5),
    ]
    assert (one["ci_low"] == 1).all()
    assert (one["ci_high"] == 1).all()
    rest = found.table.drop(one.index)
    assert rest["value"].max() < 1 - 1e-6


def test_the_joint_ranking_interleaves_attention_and_mlp_by_how_far_they_turn(letters: Any) -> None:
    attention, mlp = [0.9, 0.1, 0.5, 0.3], [0.2, 0.8, 0.05, 0.6]
    turn = quarter_turns(3)
    states = torch.randn(61, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = linear_stack(
        states, attention=[r * turn for r in attention], mlp=[r * turn for r in mlp]
    )
    texts = ["t5 t5 t5", "t9 t9", "t60 t60 t60 t60"]
    ids = [letters(t, add_special_tokens=False)["input_ids"] for t in texts]
    letters_without_start = _bare(letters)
    found = layer_similarity(model, texts, tokenizer=letters_without_start, progress=False)
    assert len(set(map(len, ids))) == 3
    for part, ratios in (("attention", attention), ("mlp", mlp)):
        for layer, ratio in enumerate(ratios):
            expected = 1 / math.sqrt(1 + ratio**2)  # f(x) orthogonal to x, of length r |x|
            assert value(found, part)[layer] == pytest.approx(expected, abs=1e-6)
    by_ratio = sorted(
        [(r, "attention", i) for i, r in enumerate(attention)]
        + [(r, "mlp", i) for i, r in enumerate(mlp)]
    )
    assert found.joint_order() == [(part, layer) for _, part, layer in by_ratio]


def _bare(tokenizer: Any) -> Any:
    """The same tokenizer without the token before each text."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    raw = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    raw.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<s>")


def test_three_turns_of_120_degrees_are_found_as_a_run_and_never_one_by_one(letters: Any) -> None:
    degrees = [100, 80, 1, 120, 120, 120, 70]  # block 2 nearly still: a gap off by one starts there
    model = circling(degrees, seed=2)
    found = layer_similarity(model, TEXTS, tokenizer=letters, progress=False)
    assert set(found.order()[-3:]) == {3, 4, 5}
    assert value(found, "block")[4] == pytest.approx(-0.5, abs=1e-6)
    start, run = found.window(3)
    assert (start, run) == (3, pytest.approx(1.0, abs=1e-6))
    assert found.window(1)[0] == 2
    with pytest.raises(LookupError, match="runs of 9 blocks were not compared; the longest: 7"):
        found.window(9)
    # Every run turns by the sum of its angles.
    for line in found.part("window").itertuples():
        total = sum(degrees[line.layer : line.layer + line.blocks])
        assert line.value == pytest.approx(math.cos(math.radians(total)), abs=1e-6)


def test_the_planted_stack_is_the_product_of_its_matrices() -> None:
    generator = torch.Generator().manual_seed(3)

    def draw(n: int) -> list[Tensor]:
        return [torch.randn(4, 4, generator=generator, dtype=torch.float64) / 4 for _ in range(n)]

    states, attention, mlp = torch.randn(5, 4, generator=generator).double(), draw(2), draw(3)
    model = linear_stack(states, attention=attention, mlp=mlp)
    ids = torch.arange(5)[:, None].expand(5, 6)
    with torch.no_grad():
        logits = model(ids).logits
    expected = final_states(states, attention, mlp)[-1]
    torch.testing.assert_close(
        logits[..., :4], expected[:, None].expand(5, 6, 4), atol=1e-6, rtol=1e-6
    )


# A second way of getting the numbers


FAMILIES = ["llama", "gpt2", "gpt_neox", "gemma2", "mixtral", "gptj", "olmo2", "bert", "mamba"]


@pytest.mark.parametrize("family", FAMILIES)
def test_block_cosines_equal_plain_hooks_text_by_text(family: str, letters: Any) -> None:
    model = families.build(family)
    found = layer_similarity(model, TEXTS, tokenizer=letters, progress=False)
    expected = pd.DataFrame(_block_cosines(model, TEXTS, letters))
    for layer, lines in expected.groupby("layer"):
        own = found.part("block").set_index("layer").loc[layer]
        assert own["value"] == pytest.approx(lines["cosine"].mean(), abs=2e-6)
        later, first = (lines["cosine"][lines["position"].eq(0) == f].mean() for f in (False, True))
        assert own["without_first"] == pytest.approx(later, abs=2e-6)
        assert own["first_only"] == pytest.approx(first, abs=2e-6)
        assert own["n"] == len(lines)


def _block_cosines(model: Any, texts: list[str], tokenizer: Any) -> list[dict[str, float]]:
    """Every text alone, plain hooks on the blocks, one token after the other."""
    stack = max(
        (m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == 3),
        key=lambda m: sum(p.numel() for p in m.parameters()),
    )
    lines: list[dict[str, float]] = []

    def hook(layer: int) -> Any:
        def seen(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            y = output[0] if isinstance(output, tuple) else output
            for position, (a, b) in enumerate(zip(x[0], y[0], strict=True)):
                cos = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0)
                lines.append({"layer": layer, "position": position, "cosine": float(cos)})

        return seen

    handles = [b.register_forward_hook(hook(i), with_kwargs=True) for i, b in enumerate(stack)]
    with torch.no_grad():
        for text in texts:
            model(torch.tensor([tokenizer(text)["input_ids"]]))
    for handle in handles:
        handle.remove()
    return lines


def test_sandwich_norms_belong_to_their_sublayer(letters: Any) -> None:
    """In Gemma-2 the state before the MLP is the input of pre_feedforward_layernorm."""
    model: Any = families.build("gemma2")
    found = layer_similarity(model, TEXTS, tokenizer=letters, progress=False)
    cosines: dict[str, list[Tensor]] = {"attention": [], "mlp": []}
    block = model.model.layers[1]
    kept: dict[str, Tensor] = {}
    block.register_forward_pre_hook(
        lambda m, a, k: kept.update(x=(a or tuple(k.values()))[0]), with_kwargs=True
    )
    block.pre_feedforward_layernorm.register_forward_pre_hook(lambda m, a: kept.update(mid=a[0]))
    block.register_forward_hook(lambda m, a, out: kept.update(y=out))
    with torch.no_grad():
        for text in TEXTS:
            model(torch.tensor([letters(text)["input_ids"]]))
            cosines["attention"].append(cosine(kept["x"][0], kept["mid"][0]))
            cosines["mlp"].append(cosine(kept["mid"][0], kept["y"][0]))
    for part, seen in cosines.items():
        assert value(found, part)[1] == pytest.approx(float(torch.cat(seen).mean()), abs=2e-6)


# What must not change the numbers


def test_a_store_gives_the_same_numbers_as_the_model(letters: Any) -> None:
    model = families.build("llama")
    corpus = read(TEXTS)
    store = extract(model, corpus, STATES, tokenizer=letters, special_tokens=True, progress=False)
    ours = layer_similarity(model, corpus, tokenizer=letters, progress=False).table
    theirs = layer_similarity(store, progress=False).table
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-6)
    assert layer_similarity(store.path, windows=False, progress=False).table["blocks"].max() == 1


def test_a_store_says_what_it_lacks(letters: Any) -> None:
    model = families.build("llama")
    options = {"tokenizer": letters, "progress": False}
    some = extract(model, TEXTS, [0, 1], **options)  # type: ignore[arg-type]
    found = layer_similarity(some, progress=False)
    assert list(found.table["part"]) == ["block"]
    assert list(found.table["before"]) == ["blocks.0.resid_post"]
    told = " ".join(found.notes)
    assert "missing: embed" in told
    assert "neither resid_mid nor attn_out" in told
    assert "No row is the first token" in told  # BOS makes no row
    alone = extract(model, TEXTS, [1], **options)  # type: ignore[arg-type]
    with pytest.raises(
        LookupError, match=r"no block has both its input and its output among blocks\.1"
    ):
        layer_similarity(alone, progress=False)


def test_what_attention_added_stands_in_for_the_state_after_it(letters: Any) -> None:
    model = families.build("llama")
    kinds = {}
    for part in ("resid_mid", "attn_out", "mlp_out"):
        sites = ["embed", "all", f"blocks.*.{part}"]
        store = extract(model, TEXTS, sites, tokenizer=letters, progress=False)
        kinds[part] = layer_similarity(store, progress=False)
    for part in ("attn_out", "mlp_out"):
        assert list(kinds[part].table["value"]) == pytest.approx(
            list(kinds["resid_mid"].table["value"]), abs=1e-6
        )
        assert any(f"{part}, since no resid_mid" in note for note in kinds[part].notes)


def test_parallel_blocks_are_marked(letters: Any) -> None:
    found = layer_similarity(families.build("gptj"), TEXTS, tokenizer=letters, progress=False)
    assert found.has("attention")
    assert any("not what the MLP reads" in note for note in found.notes)


def test_the_twin_is_the_untrained_model(letters: Any) -> None:
    from layerscope.hooks.twin import untrained_twin

    model = families.build("gpt2")
    both = layer_similarity(model, TEXTS, twin=True, tokenizer=letters, seed=3, progress=False)
    fresh = untrained_twin(model, seed=3)
    alone = layer_similarity(fresh, TEXTS, tokenizer=letters, seed=3, progress=False)
    assert list(both.table["twin"]) == list(alone.table["value"])
    assert list(both.table["twin_low"]) == list(alone.table["ci_low"])


# Sums and edges


def test_sums_do_not_depend_on_the_pieces() -> None:
    from layerscope.analyses.skipping.similarity_sources import plan

    chosen = plan([*(f"blocks.{i}.resid_post" for i in range(4)), "embed"])
    generator = torch.Generator().manual_seed(0)
    states = {
        site: torch.randn(50, 8, generator=generator)
        for site in ("embed", *(f"blocks.{i}.resid_post" for i in range(4)))
    }
    groups, positions = np.repeat(np.arange(10), 5).astype(object), np.tile(np.arange(5), 10)
    whole, cut = (Cosines(chosen.pairs, chosen.stream) for _ in range(2))
    whole.update(states, groups, positions)
    for part in (slice(0, 7), slice(7, 31), slice(31, 50)):
        cut.update({s: x[part] for s, x in states.items()}, groups[part], positions[part])
    np.testing.assert_allclose(whole.sums, cut.sums, rtol=1e-12)
    np.testing.assert_array_equal(whole.counts, cut.counts)
    # Gaps by a matrix product, against the plain cosine.
    for number, (i, n) in enumerate(whole.gaps):
        x, y = (states[chosen.stream[k][0]] for k in (i, i + n))
        total = float(torch.nn.functional.cosine_similarity(x.double(), y.double()).sum())
        assert whole.sums[:, :, len(chosen.pairs) + number].sum() == pytest.approx(total)


def test_cosine_of_equal_rows_is_one_to_the_last_bit() -> None:
    x = torch.randn(500, 37, generator=torch.Generator().manual_seed(0)) * 1e3
    assert (cosine(x, x) == 1).all()
    assert (cosine(x, -x) == -1).all()
    assert cosine(torch.zeros(1, 3), torch.zeros(1, 3)) == 1
    assert cosine(torch.zeros(1, 3), torch.ones(1, 3)) == 0


def test_nan_is_reported_with_its_site(letters: Any) -> None:
    model: Any = families.build("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"blocks\.1\.resid_post has NaN or infinite activations"):
        layer_similarity(model, TEXTS, tokenizer=letters, progress=False)


def test_what_does_not_fit_is_refused(letters: Any) -> None:
    store = extract(families.build("llama"), TEXTS, STATES, tokenizer=letters, progress=False)
    with pytest.raises(ValueError, match="a store has its own rows"):
        layer_similarity(store, TEXTS)
    with pytest.raises(ValueError, match="twin=True needs the model"):
        layer_similarity(store, twin=True)
    with pytest.raises(TypeError, match="compare a model, a store or its folder, not int"):
        layer_similarity(3)  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="no stack of blocks"):
        layer_similarity(nn.Linear(3, 3), TEXTS, tokenizer=letters)


def test_the_finding_is_saved_whole_and_drawn(letters: Any, tmp_path: Any) -> None:
    model = families.build("llama")
    found = layer_similarity(model, TEXTS, twin=True, tokenizer=letters, progress=False)
    again = Finding.load(found.save(tmp_path / "finding"))
    assert isinstance(again, SimilarityFinding)
    assert again.answer() == found.answer()
    assert again.order() == found.order()
    figure = found.figure()
    cells = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(cells) == 1
    assert np.isfinite(cells[0].z.astype(float)).sum() == 6  # 3 + 2 + 1 runs
    assert "block" in found.answer()
    assert any("Only 5 texts" in note for note in found.notes)


def test_images_have_cosines_too() -> None:
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    samples = Samples({"pixel_values": x})
    found = layer_similarity(families.build("vit"), samples, twin=True, progress=False)
    assert found.has("attention")
    assert int(found.table["n"].iloc[0]) == 6 * 17  # 16 patches and the class token


def test_parts_have_names_and_one_text_has_no_interval(letters: Any) -> None:
    model = families.build("llama")
    found = layer_similarity(model, TEXTS[:1], tokenizer=letters, progress=False)
    with pytest.raises(ValueError, match="part is one of 'block', 'attention', 'mlp', not 'attn'"):
        found.order("attn")
    assert len(found.order("attention")) == families.LAYERS
    assert "nan" not in found.answer()
