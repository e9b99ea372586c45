"""The tiny models: seeded, small, runnable, and wide awake in every part."""

from __future__ import annotations

import pytest
import torch

from layerscope.planted.families import batch, build, names


@pytest.mark.parametrize("name", names())
def test_runs_on_its_batch(name: str) -> None:
    model, given = build(name), batch(name)
    with torch.no_grad():
        out = model(*given) if isinstance(given, tuple) else model(**given)
    first = out if isinstance(out, torch.Tensor) else out[0]
    assert first.isfinite().all()
    assert sum(p.numel() for p in model.parameters()) < 100_000
    assert not model.training


@pytest.mark.parametrize("name", ["gpt2", "mamba", "t5", "lstm"])
def test_seeded_without_touching_the_global_state(name: str) -> None:
    state = torch.get_rng_state()
    one, same, other = build(name), build(name), build(name, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    key = next(iter(one.state_dict()))
    assert torch.equal(one.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])


def test_unknown_family_is_told_what_there_is() -> None:
    with pytest.raises(LookupError, match="no family 'gpt5'; there are gpt2, llama"):
        build("gpt5")


def test_kinds_cover_all_names() -> None:
    kinds = ("decoder", "recurrent", "encoder", "vision", "seq2seq", "plain")
    assert sorted(name for kind in kinds for name in names(kind)) == sorted(names())
