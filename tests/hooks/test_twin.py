"""The untrained twin: fresh weights, everything else as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from layerscope.hooks.twin import untrained_twin
from layerscope.store import identity_of


def gpt2(**more: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=50, n_positions=32, **more)
    config._name_or_path = "some/folder"
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # as if training had changed everything
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def test_weights_are_those_of_a_new_model_of_this_config() -> None:
    model = gpt2()
    twin = untrained_twin(model, seed=3)
    torch.manual_seed(3)
    fresh = GPT2LMHeadModel(copy.deepcopy(model.config))
    for (name, a), b in zip(twin.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b), name
    # GPT-2 scales the projections into the residual stream by depth; a plain reset would not.
    assert (
        twin.transformer.h[0].mlp.c_proj.weight.std()
        < 0.8 * twin.transformer.h[0].mlp.c_fc.weight.std()
    )


def test_the_model_and_the_global_generators_are_left_alone() -> None:
    model = gpt2()
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    untrained_twin(model)
    assert torch.equal(state, torch.random.get_rng_state())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_mode_dtype_ties_and_name_stay() -> None:
    model = gpt2().to(torch.bfloat16).train()
    model.transformer.h[1].eval()
    twin = untrained_twin(model)
    assert {p.dtype for p in twin.parameters()} == {torch.bfloat16}
    assert [m.training for m in twin.modules()] == [m.training for m in model.modules()]
    assert twin.lm_head.weight is twin.transformer.wte.weight
    assert twin.name_or_path == "some/folder"
    assert twin(torch.tensor([[1, 2]])).logits.shape == (1, 2, 50)


def test_seeds_make_twins_and_identities() -> None:
    model = gpt2()
    first, again, other = (identity_of(untrained_twin(model, seed=s)) for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert first != identity_of(model)


def test_embeddings_can_be_kept() -> None:
    model = gpt2()
    twin = untrained_twin(model, keep_embeddings=True)
    for name in ("wte", "wpe"):
        a, b = (getattr(m.transformer, name).weight for m in (model, twin))
        assert torch.equal(a, b)
        assert a is not b
    a, b = (m.transformer.h[0].attn.c_attn.weight for m in (model, twin))
    assert not torch.equal(a, b)
    with pytest.raises(ValueError, match=r"keep_embeddings: Sequential has no nn\.Embedding"):
        untrained_twin(mlp(), keep_embeddings=True)


def test_plain_modules_are_reset_with_their_statistics() -> None:
    model = mlp()
    model(torch.randn(64, 4) * 5 + 3)
    model[0].weight.requires_grad_(False)
    twin = untrained_twin(model)
    assert (twin[1].running_mean == 0).all()
    assert (model[1].running_mean != 0).any()
    assert not torch.equal(twin[0].weight, model[0].weight)
    assert not twin[0].weight.requires_grad
    bound = 4**-0.5
    assert twin[0].weight.abs().max() <= bound


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(3, 5, num_layers=2),
        nn.MultiheadAttention(8, 2),
        nn.Conv2d(1, 2, 3),
        nn.GRUCell(2, 2),
    ],
    ids=lambda module: type(module).__name__,
)
def test_layers_of_torch(module: nn.Module) -> None:
    twin = untrained_twin(module, seed=1)
    weights = [name for name, p in module.named_parameters() if p.ndim > 1]
    assert weights
    for name in weights:
        assert not torch.equal(twin.get_parameter(name), module.get_parameter(name)), name


def test_a_transformers_model_inside_a_module_and_rmsnorm() -> None:
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=30,
    )  # fmt: skip
    model = nn.ModuleDict({"body": LlamaForCausalLM(config), "head": nn.Linear(16, 3)})
    with torch.no_grad():
        model["body"].model.norm.weight.fill_(7)
    twin = untrained_twin(model)
    assert (twin["body"].model.norm.weight == 1).all()
    assert not torch.equal(twin["head"].weight, model["head"].weight)


def test_parameters_that_nobody_can_initialise_are_named() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2))
            self.inner = nn.Linear(2, 2)

    model = nn.Sequential(nn.Linear(2, 2), Scaled())
    with pytest.raises(ValueError, match=r"cannot initialise 1\.gain of Sequential: .*define it"):
        untrained_twin(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_stays_and_the_cuda_generator_rests() -> None:
    model = gpt2().cuda()
    before = torch.cuda.get_rng_state()
    twin = untrained_twin(model)
    assert {p.device.type for p in twin.parameters()} == {"cuda"}
    assert torch.equal(before, torch.cuda.get_rng_state())
