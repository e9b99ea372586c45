"""learning_regime on language models: hands off, a second computation, a real run."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from layerscope.analyses.learning_regime import learning_regime
from layerscope.analyses.measures.kernels import alignment
from layerscope.analyses.regimes.learning_regime_finding import LearningRegimeFinding

WHOLE = "whole network"
QUIET: dict[str, Any] = {"progress": False}


def last(found: LearningRegimeFinding, measure: str, site: str = WHOLE) -> float:
    lines = found.measured(measure, site)
    return float(lines["value"].iloc[int(lines["step"].argmax())])


def moved(model: Any, amount: float, seed: int = 0) -> Any:
    """The model with noise added to every weight."""
    other = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p += amount * torch.randn(p.shape, generator=generator)
    return other


def test_a_model_comes_back_as_it_was(gpt2: Any, tokenizer: Any, sentences: list[str]) -> None:
    gpt2.train()
    gpt2.requires_grad_(False)
    state = torch.random.get_rng_state()
    before = {n: p.clone() for n, p in gpt2.named_parameters()}
    found = learning_regime(
        {5: gpt2, 0: gpt2}, sentences, tokenizer=tokenizer, samples=4, outputs=2, **QUIET
    )
    assert gpt2.training
    assert not any(p.requires_grad or p.grad is not None for p in gpt2.parameters())
    assert all(torch.equal(before[n], p) for n, p in gpt2.named_parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module._forward_hooks for module in gpt2.modules())
    assert sorted(set(found.table["step"])) == [0, 5]
    assert last(found, "tangent_kernel_alignment") == pytest.approx(1, abs=1e-9)


def test_language_models_by_hand(gpt2: Any, tokenizer: Any, sentences: list[str]) -> None:
    other = moved(gpt2, 0.05)
    found = learning_regime(
        [gpt2, other], sentences, tokenizer=tokenizer, samples=5, outputs=2, **QUIET
    )
    assert set(found.measured("representation_alignment")["site"]) == {
        "embed", *(f"blocks.{i}.resid_post" for i in range(3)),
    }  # fmt: skip
    assert {"blocks.0", "blocks.1", "blocks.2"} < set(found.measured("weight_change")["site"])
    sums = tokens = 0.0
    states: list[list[Tensor]] = [[], []]
    for text in sentences:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            for kept, model in zip(states, (gpt2, other), strict=True):
                kept.append(model(ids, output_hidden_states=True).hidden_states[1][0])
            sums += float(other(ids, labels=ids).loss) * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    assert last(found, "loss") == pytest.approx(sums / tokens, rel=1e-5)
    a, b = (torch.cat(kept).double() for kept in states)
    expected = float(alignment(a @ a.T, b @ b.T))
    measured = last(found, "representation_alignment", "blocks.0.resid_post")
    assert measured == pytest.approx(expected, abs=1e-6)


def test_a_real_run_of_a_language_model(shared_data: Path) -> None:
    """GPT-2 on books: far from lazy; what is left of the kernel is what its mean gives."""
    folder = shared_data / "gpt2_books_steps"
    found = learning_regime(
        [folder / "step0", folder / "step64", folder / "step2048"],
        samples=16, outputs=2, rows=200, texts=60, **QUIET,
    )  # fmt: skip
    assert sorted(set(found.table["step"])) == [0, 64, 2048]
    change = found.measured("relative_weight_change", WHOLE).set_index("step")["value"]
    assert change[64] == pytest.approx(0.199, abs=0.001)
    assert change[2048] == pytest.approx(1.439, abs=0.001)
    loss = found.measured("loss").set_index("step")["value"]
    assert loss[0] == pytest.approx(6.95, abs=0.05)  # the NOTE, on other text
    assert loss[0] > loss[64] > loss[2048]
    assert last(found, "centred_representation_alignment", "blocks.3.resid_post") < 0.3
    kernel = found.measured("tangent_kernel_alignment", WHOLE)
    kernel = kernel[kernel["step"] == 2048].iloc[0]
    assert kernel["value"] < 0.8
    assert kernel["value"] - kernel["null_mean"] < 0.1
