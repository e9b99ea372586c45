"""One changed bit in one weight changes the identity; another folder or another mode does not."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from layerscope.store import differences, identity_of, key_of, tokenizer_identity
from layerscope.store.fingerprint import fingerprint


def tiny(**changes: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 50, "n_positions": 32}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**settings, **ends, **changes))


def key(model: nn.Module) -> str:
    return key_of(identity_of(model))


# The content of a tensor

DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.float8_e4m3fn,
    torch.int8,
    torch.int64,
    torch.uint8,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_changed_bit_changes_the_fingerprint(dtype: torch.dtype, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 3, 17, 4097, 40_000]))
    bits = torch.randint(0, 256, (size * dtype.itemsize,), dtype=torch.uint8)
    before = fingerprint(bits.view(dtype))
    place = data.draw(st.integers(0, len(bits) - 1))
    bits[place] ^= 1 << data.draw(st.integers(0, 7))
    assert fingerprint(bits.view(dtype)) != before


def test_exchanged_rows_columns_and_values_change_the_fingerprint() -> None:
    """A plain sum would not see these."""
    x = torch.randn(512, 384)
    prints = {fingerprint(x)}
    for rows in ([1, 0], [0, 511], [3, 100]):
        swapped = x.clone()
        swapped[rows] = x[rows[::-1]]
        prints.add(fingerprint(swapped))
        swapped = x.clone()
        swapped[:, [c % 384 for c in rows]] = x[:, [c % 384 for c in rows[::-1]]]
        prints.add(fingerprint(swapped))
    other = x.flatten().clone()
    other[[7, 8]] = other[[8, 7]]
    prints.add(fingerprint(other.view_as(x)))
    assert len(prints) == 8


def test_exchanged_rows_of_wide_matrices_change_the_fingerprint() -> None:
    """Rows of exactly 4,096 words: every column sum stays the same."""
    x = torch.randn(6, 8192)
    assert len({fingerprint(x), fingerprint(x.flip(0)), fingerprint(x[[1, 0, 2, 3, 4, 5]])}) == 3


def test_the_fingerprint_is_of_the_values_not_of_how_they_lie() -> None:
    x = torch.randn(100, 130)
    assert fingerprint(x.T.contiguous().T) == fingerprint(x)
    window = torch.cat([torch.zeros(3), x.flatten()])[3:].view_as(x)
    assert window.storage_offset() % 2
    assert fingerprint(window) == fingerprint(x)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert fingerprint(x) == fingerprint(x.clone().requires_grad_())
    finally:
        torch.set_num_threads(threads)


def test_shape_and_dtype_are_part_of_it() -> None:
    x = torch.arange(12.0)
    prints = [fingerprint(t) for t in (x, x.view(3, 4), x.view(4, 3), x.view(torch.int32), x[:0])]
    assert len(set(prints)) == 5
    assert prints[1].startswith("float32 3x4 ")
    assert fingerprint(torch.tensor(1.0)).startswith("float32 scalar ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_fingerprint_is_the_same_on_the_gpu() -> None:
    for dtype in DTYPES:
        bits = torch.randint(0, 256, (40_000 * dtype.itemsize,), dtype=torch.uint8)
        assert fingerprint(bits.view(dtype)) == fingerprint(bits.cuda().view(dtype))


# Models


def test_changing_any_one_weight_or_buffer_changes_the_key() -> None:
    model = tiny()
    model.register_buffer("extra", torch.zeros(3, dtype=torch.bool))
    before = key(model)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        place = torch.randint(tensor.numel(), ()).item()
        flat = tensor.detach().view(-1)
        kept = flat[place].clone()
        flat[place] = torch.nextafter(kept, kept + 1) if tensor.is_floating_point() else ~kept
        assert key(model) != before, name
        flat[place] = kept
    assert key(model) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_of_the_weights_changes_the_key(dtype: torch.dtype) -> None:
    assert key(tiny().to(dtype)) != key(tiny())


def test_configuration_changes_the_key_where_it_changes_the_numbers() -> None:
    base = key(tiny())
    assert key(tiny(activation_function="relu")) != base
    assert key(tiny(layer_norm_epsilon=1e-6)) != base
    assert key(tiny(attn_implementation="eager")) != base
    assert key(tiny(use_cache=False)) == base
    assert key(tiny(output_hidden_states=True)) == base


def test_the_same_weights_from_another_folder_have_the_same_key(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny()
    keys = {key(model)}
    for place in ("here", "there"):
        model.save_pretrained(tmp_path / place)
        keys.add(key(AutoModelForCausalLM.from_pretrained(tmp_path / place)))
    assert len(keys) == 1


def test_mode_gradients_and_use_leave_the_key_alone() -> None:
    model = tiny()
    before = key(model)
    model.train()
    model(torch.arange(8)[None], output_hidden_states=True).logits.sum().backward()
    assert key(model) == before
    assert model.training
    model.eval().requires_grad_(False)
    model.name_or_path = "elsewhere"
    model.config._name_or_path = "elsewhere"
    assert key(model) == before


def test_differences_between_two_models_name_the_weight() -> None:
    one, two = tiny(), tiny()
    with torch.no_grad():
        two.transformer.h[1].mlp.c_fc.weight[3, 4] += 1e-3
    (line,) = differences(identity_of(one), identity_of(two))
    assert line.startswith("tensors.transformer.h.1.mlp.c_fc.weight: float32 16x64 ")


# Plain modules, whose settings no configuration tells


class Plain(nn.Module):
    def __init__(self, heads: int = 2, act: Any = torch.relu) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads, self.act = heads, act
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), nn.Conv1d(4, 4, 3, padding=1))


def test_plain_modules_are_told_apart_by_settings_without_weights() -> None:
    base = key(Plain())
    assert key(Plain()) == base
    other = Plain()
    other.body[2].stride = (2,)
    looser = Plain()
    looser.body[1] = nn.Dropout(0.2)
    swapped = Plain()
    swapped.body = nn.Sequential(*swapped.body[:1], nn.Identity(), *swapped.body[2:])
    models = [Plain(heads=4), Plain(act=torch.tanh), other, looser, swapped]
    assert len({base, *map(key, models)}) == 6


def test_the_code_of_a_module_is_part_of_what_it_is(tmp_path: Path) -> None:
    """The same class name and weights with another forward, as after an edit of model.py."""

    def from_source(number: int, sign: str) -> nn.Module:
        path = tmp_path / str(number) / "model.py"
        path.parent.mkdir()
        path.write_text(
            "from torch import nn\n"
            "class Base(nn.Module):\n"
            f"    def forward(self, x):\n        return {sign}x\n"
            "class Net(Base):\n    pass\n"
        )
        name = f"model_{number}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        model: nn.Module = module.Net()
        return model

    plus, again, minus = from_source(1, "+"), from_source(2, "+"), from_source(3, "-")
    assert key(plus) == key(again), "the place of the file does not matter"
    assert key(plus) != key(minus), "what it computes does"


def test_shared_weights_and_modules_are_no_problem() -> None:
    block = nn.Linear(3, 3)
    shared = nn.ModuleDict({"a": block, "b": block})
    apart = nn.ModuleDict({"a": block, "b": copy.deepcopy(block)})
    assert key(shared) != key(apart)
    assert key(shared) == key(nn.ModuleDict({"a": block, "b": block}))


# Weights that are not plain tensors in memory


def test_weights_on_meta_have_no_identity() -> None:
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    with pytest.raises(
        ValueError, match="weight is on the meta device: the weights are not loaded"
    ):
        identity_of(model)


def test_offloaded_weights_are_read_where_accelerate_keeps_them() -> None:
    real = nn.Sequential(nn.Linear(2, 2))
    away = copy.deepcopy(real).to("meta")
    weights = {"weight": real[0].weight.detach(), "bias": real[0].bias.detach()}
    away[0]._hf_hook = SimpleNamespace(weights_map=weights)
    assert identity_of(away)["tensors"] == identity_of(real)["tensors"]


def test_lazy_modules_must_run_first() -> None:
    with pytest.raises(ValueError, match="weight is not initialised yet; run the model once"):
        identity_of(nn.LazyLinear(2))


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_weights_count_values_and_scales(per_channel: bool) -> None:
    def model(scale: float, change: float = 0.0) -> nn.Module:
        x = torch.linspace(-1, 1, 16).view(4, 4)
        x[0, 0] += change
        if per_channel:
            scales = torch.full((4,), scale)
            q = torch.quantize_per_channel(x, scales, torch.zeros(4), 0, torch.qint8)
        else:
            q = torch.quantize_per_tensor(x, scale, 0, torch.qint8)
        module = nn.Module()
        module.register_buffer("w", q)
        return module

    assert key(model(0.1)) == key(model(0.1))
    assert len({key(model(0.1)), key(model(0.2)), key(model(0.1, 0.3))}) == 3


def test_sparse_weights_count_places_and_values() -> None:
    def model(column: int, value: float) -> nn.Module:
        module = nn.Module()
        module.register_buffer("w", torch.sparse_coo_tensor([[0], [column]], [value], (3, 3)))
        return module

    assert len({key(model(1, 2.0)), key(model(2, 2.0)), key(model(1, 3.0))}) == 3
    assert key(model(1, 2.0)) == key(model(1, 2.0))


def test_wrapped_weights_are_opened() -> None:
    """Tensor subclasses that hold others, as quantised and distributed ones do."""

    class Wrapped(torch.Tensor):
        inner: torch.Tensor

        @staticmethod
        def __new__(cls, inner: torch.Tensor) -> Any:
            made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
            made.inner = inner
            return made

        @classmethod
        def __torch_dispatch__(cls, function: Any, *_: Any) -> Any:
            raise TypeError(f"{function}: a wrapper holds nothing itself")

        def __tensor_flatten__(self) -> tuple[list[str], None]:
            return ["inner"], None

    module = nn.Module()
    module.register_buffer("w", Wrapped(torch.ones(3)))
    (name, value), *_ = identity_of(module)["tensors"].items()
    assert (name, value) == ("w.inner", fingerprint(torch.ones(3)))


# Tokenizers


def tokenizer(words: str = "a b c", **special: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(words.split())} | {"?": 9}
    rules = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=rules, unk_token="?", **special)


def test_the_tokenizer_counts_by_vocabulary_rules_and_special_tokens() -> None:
    from tokenizers import normalizers

    lowered = tokenizer()
    lowered.backend_tokenizer.normalizer = normalizers.Lowercase()
    kinds = [tokenizer(), tokenizer("a c b"), tokenizer(pad_token="a"), lowered]
    assert len({key_of(tokenizer_identity(kind)) for kind in kinds}) == 4


def test_using_and_moving_a_tokenizer_leaves_it_the_same(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    one = tokenizer(pad_token="a")
    before = tokenizer_identity(one)
    one(["a", "b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer_identity(one) == before
    one.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer_identity(loaded)["rules"] == before["rules"]


def test_no_tokenizer_and_no_tokenizer_at_all() -> None:
    assert tokenizer_identity(None) == {}
    with pytest.raises(
        TypeError, match="str is not a transformers tokenizer: it has no vocabulary"
    ):
        tokenizer_identity("gpt2")
