"""The lens over many tokens: planted switches, every family, a second computation, bad input."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from layerscope.analyses.lens import lens
from layerscope.analyses.lenses.lens_finding import LensFinding
from layerscope.analyses.lenses.lens_measures import MEASURES
from layerscope.analyses.lenses.translators import AffineLens
from layerscope.analyses.material.texts import as_texts, residuals
from layerscope.finding import Finding
from layerscope.hooks.load import load_model
from layerscope.hooks.unembed import Unembed
from layerscope.planted import families
from layerscope.planted.two_hop import rewired, two_hop


@pytest.mark.parametrize("name", [*families.names("decoder"), *families.names("recurrent")])
def test_at_the_last_residual_the_lens_is_the_model(name: str) -> None:
    model, batch = families.build(name), families.batch(name)
    with torch.no_grad():
        logits = model(**batch).logits
    states = residuals(model, batch["input_ids"])
    assert len(states) == families.LAYERS + 1
    torch.testing.assert_close(Unembed(model)(states[-1]).detach(), logits, rtol=1e-5, atol=1e-5)


def test_the_planted_answer_switches_on_after_its_block() -> None:
    """Logit lens of P2H at the last position, in all 512 settings."""
    model = two_hop(0, 0, 0).model
    for setting in product(range(8), repeat=3):
        planted = rewired(model, *setting)
        states = residuals(model, planted.prompts)[:, :, -1]
        with torch.no_grad():
            said = Unembed(model)(states).argmax(-1)
        for index in range(9):
            right = bool((said[index] == planted.answers).all())
            assert right == planted.lens_correct(index), (setting, index)


def test_the_planted_curve_is_a_step() -> None:
    planted = two_hop(1, 3, 5)
    found = lens(planted.model, planted.prompts, twin=False, progress=False)
    agreement = found.curve("agreement")
    assert agreement["layer"].tolist() == list(range(-1, 8))
    # Index 0 is the embedding, index c + 1 the state after block c.
    assert agreement["value"].tolist() == [float(i > 5) for i in range(9)]
    assert (
        agreement["ci_low"].tolist() == agreement["ci_high"].tolist() == agreement["value"].tolist()
    )
    assert "from blocks.5.resid_post on" in found.answer()


@pytest.fixture(scope="module")
def trained(shared_data: Any) -> torch.nn.Module:
    return load_model(shared_data / "stories260K" / "hf")


STORIES = [
    "Once upon a time, there was a little girl named Lily.",
    "Tom had a red ball. He liked to play with it in the park.",
    "The dog saw a cat and ran after it.",
    "One day, the sun was very hot and the bird wanted to drink.",
    "Mia and her mom went to the shop to buy apples.",
]


def plain(model: Any, ids: torch.Tensor, k: int) -> dict[str, torch.Tensor]:
    """Every measure `[L + 1, p]` of one text by transformers' own states and plain torch."""
    kept: list[torch.Tensor] = []
    hook = model.model.norm.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    with torch.no_grad():
        out = model(ids[None], output_hidden_states=True)
        hook.remove()
        states = torch.stack([*out.hidden_states[:-1], kept[0]])[:, 0]
        logits = model.lm_head(model.model.norm(states)).double()
    logq, logp = logits.log_softmax(-1), out.logits[0].double().log_softmax(-1)
    best = logits.topk(k, -1).indices.tolist()
    final = logp.topk(k, -1).indices.tolist()
    shared = [[len(set(a) & set(b)) / k for a, b in zip(row, final, strict=True)] for row in best]
    chosen = logits[:, :-1].gather(-1, ids[1:].expand(len(states), -1)[..., None])
    return {
        "kl_final_lens": F.kl_div(
            logq, logp.expand_as(logq), log_target=True, reduction="none"
        ).sum(-1),
        "kl_lens_final": F.kl_div(
            logp.expand_as(logq), logq, log_target=True, reduction="none"
        ).sum(-1),
        "agreement": (logq.argmax(-1) == logp.argmax(-1)).double(),
        "overlap": torch.tensor(shared).double(),
        "rank": (logits[:, :-1] > chosen).sum(-1).double(),
        "surprisal": -logq[:, :-1].gather(-1, ids[1:].expand(len(states), -1)[..., None])[..., 0],
    }


def test_a_second_way_to_every_number(trained) -> None:
    found = lens(trained, STORIES, k=3, twin=False, progress=False)
    texts = as_texts(trained, STORIES)
    measured = [plain(trained, ids, 3) for ids in texts.prompts.ids]
    for measure in MEASURES:
        later = torch.cat([one[measure][:, 1:] for one in measured], 1)
        every = torch.cat([one[measure] for one in measured], 1)
        means = [later.mean(1), every.mean(1)]
        if measure == "rank":
            means = [x.log1p().mean(1).expm1() for x in (later, every)]
        curve = found.curve(measure)
        # Single precision, on sums over the vocabulary.
        np.testing.assert_allclose(curve["value"], means[0], rtol=2e-4, atol=1e-5, err_msg=measure)
        np.testing.assert_allclose(curve["with_first"], means[1], rtol=2e-4, atol=1e-5)
        assert (curve["n"] == later.shape[1]).all()


def test_the_baseline_is_the_mean_of_the_final_distributions(trained) -> None:
    found = lens(trained, STORIES, k=3, twin=False, progress=False)
    ids = as_texts(trained, STORIES).prompts.ids
    with torch.no_grad():
        logps = [trained(one[None]).logits[0].double().log_softmax(-1) for one in ids]
    logp = torch.cat(logps)
    mean = logp.exp().mean(0)
    wanted = {
        "kl_final_lens": (logp.exp() * (logp - mean.log())).sum(-1).mean(),
        "kl_lens_final": (mean * (mean.log() - logp)).sum(-1).mean(),
        "agreement": logp.argmax(-1).bincount().max() / len(logp),
        "overlap": logp.topk(3).indices.flatten().bincount().topk(3).values.sum() / (3 * len(logp)),
        "surprisal": -torch.cat([mean.log()[one[1:]] for one in ids]).mean(),
        "rank": torch.cat([(mean > mean[one[1:], None]).sum(-1).double().log1p() for one in ids])
        .mean()
        .expm1(),
    }
    for measure, value in wanted.items():
        assert found.curve(measure)["baseline"].iloc[0] == pytest.approx(float(value), rel=1e-3)


def test_order_and_batching_do_not_matter(trained) -> None:
    one = lens(trained, STORIES, twin=False, progress=False).table
    other = lens(trained, STORIES[::-1], twin=False, progress=False).table
    np.testing.assert_allclose(one["value"], other["value"], rtol=1e-4, atol=1e-6)


def test_training_makes_the_drop_and_the_twin_has_none(shared_data: Any) -> None:
    folder = shared_data / "gpt2_books_steps"
    texts = ["It was a dark and stormy night, and the rain fell upon the house.", *STORIES]

    def curve(step: int) -> Any:
        model = load_model(folder / f"step{step}")
        found = lens(model, texts, progress=False)
        return found.curve("kl_final_lens")

    untrained, trained = curve(0), curve(2048)
    assert untrained["value"].max() < 0.1
    assert trained["value"].iloc[0] > 5
    assert trained["value"].iloc[-2] < trained["value"].iloc[0] / 3
    assert trained["twin"].max() < 0.1


def test_lenses_side_by_side_and_a_saved_one(trained, tmp_path) -> None:
    options: dict[str, Any] = {"twin": False, "progress": False, "steps": 20, "fit_tokens": 64}
    found = lens(trained, STORIES, kind=["logit", "tuned", "affine"], test=0.4, **options)
    assert found.lenses == ["logit", "tuned", "affine"]
    assert any("3 groups, none of which is measured" in note for note in found.notes)
    assert set(found.table["n_groups"]) == {2}
    last = found.table[found.table["site"] == "blocks.4.resid_post"]
    assert (last[last["measure"] == "kl_final_lens"]["value"] == 0).all()
    blocks, width = 5, 64
    zero = AffineLens.load(AffineLens.zeros(blocks, width).save(tmp_path / "x.safetensors"))
    same = lens(trained, STORIES, kind=["logit", zero, zero], twin=False, progress=False)
    assert same.lenses == ["logit", "tuned", "tuned 2"]
    ours, theirs = (same.table[same.table["lens"] == x]["value"] for x in ("logit", "tuned"))
    assert ours.tolist() == theirs.tolist()


def test_other_texts_to_fit_on(trained) -> None:
    found = lens(trained, STORIES[:2], kind="affine", fit=STORIES[2:], twin=False, progress=False)
    assert set(found.table["n_groups"]) == {2}
    assert found.provenance.parameters["fitted"]["affine"]["texts"] == 3
    # Two measured and three fitted texts of five blocks.
    assert found.provenance.parameters["layer_evaluations"] == 25


def test_the_finding_is_saved_and_drawn(trained, tmp_path) -> None:
    found = lens(trained, STORIES, progress=False)
    again = Finding.load(found.save(tmp_path / "lens"))
    assert isinstance(again, LensFinding)
    assert again.answer() == found.answer()
    drawn = {trace.name for trace in again.figure().data if trace.name}
    assert drawn == {"logit lens", "untrained twin", "the same guess everywhere"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(dtype: torch.dtype) -> None:
    model = families.build("llama").to(dtype)
    ids = torch.randint(3, families.VOCAB, (6, 9), generator=torch.Generator().manual_seed(0))
    kinds = ["logit", "tuned", "affine"]
    found = lens(model, ids, kind=kinds, steps=5, fit_tokens=20, test=0.5, progress=False)
    wide = lens(model.float(), ids, kind=kinds, steps=5, fit_tokens=20, test=0.5, progress=False)
    for name in kinds:
        ours, theirs = (x.curve("kl_final_lens", name)["value"] for x in (found, wide))
        np.testing.assert_allclose(ours, theirs, rtol=0.1, atol=0.02)


def test_models_that_read_both_ways(tokenizer) -> None:
    model = families.build("bert")
    ids = torch.randint(3, families.VOCAB, (4, 9), generator=torch.Generator().manual_seed(0))
    found = lens(model, ids, twin=False, progress=False)
    assert set(found.table["measure"]) == set(MEASURES) - {"rank", "surprisal"}
    assert any("reads both ways" in note for note in found.notes)
    assert len(found.figure().data) > 0


def test_refusals(trained) -> None:
    with pytest.raises(
        ValueError, match=r"kind 'tunnel' is unknown; there is: logit, tuned, affine"
    ):
        lens(trained, STORIES, kind="tunnel")
    with pytest.raises(ValueError, match="is one group, so nothing can be held out"):
        lens(trained, STORIES[:1], kind="tuned", progress=False)
    with pytest.raises(ValueError, match="every text is a single token"):
        lens(trained, [[5], [7]], progress=False)
    with pytest.raises(ValueError, match="Was it fitted on another model"):
        lens(trained, STORIES, kind=AffineLens.zeros(5, 8), twin=False, progress=False)
    broken = families.build("llama")
    torch.nn.init.constant_(broken.model.layers[1].mlp.down_proj.weight, torch.nan)
    with pytest.raises(ValueError, match=r"blocks\.1\.resid_post is NaN or infinite at position 0"):
        lens(broken, torch.tensor([[5, 6, 7]]), twin=False, progress=False)
