"""Tiny seeded models of every family, built in code: real architectures, random weights, no download.

Weights are drawn wide enough that every part visibly changes what passes through it, so that a
wrong location cannot hide behind a part that does next to nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

VOCAB = 61
WIDTH = 32
HEADS = 4
LAYERS = 3

Make = Callable[[], nn.Module]

# Ids inside the small vocabulary, kept away from each other.
_SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def names(kind: str | None = None) -> tuple[str, ...]:
    """Names that `build` knows; `kind` is decoder, encoder, seq2seq, vision, recurrent or plain."""
    return tuple(name for name, (of, _) in _FAMILIES.items() if kind in (None, of))


def build(name: str, *, seed: int = 0) -> nn.Module:
    """A tiny model of one family in eval mode; the global random state is left alone.

    Raises:
        LookupError: no family of that name.
    """
    if name not in _FAMILIES:
        raise LookupError(f"no family {name!r}; there are {', '.join(_FAMILIES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _FAMILIES[name][1]().eval()
        loosen_(model)
    return model


def batch(name: str, *, seed: int = 0) -> dict[str, Tensor] | tuple[Tensor, ...]:
    """A small input for `build(name)`: keyword arguments, or positional ones for plain modules."""
    generator = torch.Generator().manual_seed(seed)
    if name in _PLAIN_INPUTS:
        return (torch.randn(*_PLAIN_INPUTS[name], generator=generator),)
    ids = torch.randint(3, VOCAB, (2, 9), generator=generator)
    kind = _FAMILIES[name][0]
    if kind == "vision":
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
    if name == "whisper":
        sound = torch.randn(2, 8, 24, generator=generator)
        return {"input_features": sound, "decoder_input_ids": ids}
    if kind == "seq2seq":
        return {"input_ids": ids[:, :6], "decoder_input_ids": ids}
    return {"input_ids": ids}


def loosen_(model: nn.Module) -> None:
    """Draw matrices at scale 1/sqrt(fan in) and shake gains and biases, in place."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn_like(parameter) / fan_in**0.5)


def _of(config: type[Any], model: type[Any], **settings: Any) -> Make:
    return lambda: model(config(**_SPECIAL, **settings))


def _llama_like(config: type[Any], model: type[Any], **more: Any) -> Make:
    return _of(config, model, **_COMMON, **more)


def _cnn() -> nn.Module:
    stages = [
        ("stem", nn.Conv2d(3, 8, 3, padding=1)),
        ("stage1", nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())),
        ("stage2", nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU())),
        ("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
        ("head", nn.Linear(16, 10)),
    ]
    return nn.Sequential(OrderedDict(stages))


class Tagger(nn.Module):
    """An LSTM over vectors and a linear readout at each step: [b, p, 6] to [b, p, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 12, num_layers=2, batch_first=True)
        self.readout = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x)
        return self.readout(states)  # type: ignore[no-any-return]


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4)
    )


_PLAIN_INPUTS = {"cnn": (2, 3, 16, 16), "lstm": (2, 7, 6), "sequential": (4, 6)}
_GQA = {"num_key_value_heads": 2, "head_dim": 8}
_GPT = {"vocab_size": VOCAB, "n_embd": WIDTH, "n_head": HEADS, "n_layer": LAYERS, "n_positions": 64}
_MOE = {"num_experts_per_tok": 2}
_STACK = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
_HEADED = _STACK | {"num_attention_heads": HEADS}
_COMMON = _HEADED | {"intermediate_size": 48, "max_position_embeddings": 64}
_VIT = {k: v for k, v in _COMMON.items() if k not in ("vocab_size", "max_position_embeddings")}
_VIT |= {"image_size": 16, "patch_size": 4}
_SEQ = {
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 2,
    "max_position_embeddings": 64,
}
_T5 = {
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": LAYERS,
    "num_heads": HEADS,
    "decoder_start_token_id": 0,
}
_FAMILIES: dict[str, tuple[str, Make]] = {
    "gpt2": ("decoder", _of(hf.GPT2Config, hf.GPT2LMHeadModel, **_GPT)),
    "llama": ("decoder", _llama_like(hf.LlamaConfig, hf.LlamaForCausalLM, num_key_value_heads=2)),
    "qwen3": ("decoder", _llama_like(hf.Qwen3Config, hf.Qwen3ForCausalLM, **_GQA)),
    "mistral": ("decoder", _llama_like(hf.MistralConfig, hf.MistralForCausalLM, **_GQA)),
    "mixtral": (
        "decoder",
        _llama_like(hf.MixtralConfig, hf.MixtralForCausalLM, num_local_experts=4, **_GQA, **_MOE),
    ),
    "qwen3_moe": (
        "decoder",
        _llama_like(
            hf.Qwen3MoeConfig,
            hf.Qwen3MoeForCausalLM,
            num_experts=4,
            moe_intermediate_size=24,
            **_GQA,
            **_MOE,
        ),
    ),
    "gemma2": (
        "decoder",
        _llama_like(hf.Gemma2Config, hf.Gemma2ForCausalLM, sliding_window=4, **_GQA),
    ),
    "gemma3": (
        "decoder",
        _llama_like(hf.Gemma3TextConfig, hf.Gemma3ForCausalLM, sliding_window=4, **_GQA),
    ),
    "olmo2": ("decoder", _llama_like(hf.Olmo2Config, hf.Olmo2ForCausalLM)),
    "gpt_neox": ("decoder", _llama_like(hf.GPTNeoXConfig, hf.GPTNeoXForCausalLM)),
    "gptj": ("decoder", _of(hf.GPTJConfig, hf.GPTJForCausalLM, rotary_dim=4, **_GPT)),
    "falcon": (
        "decoder",
        _of(hf.FalconConfig, hf.FalconForCausalLM, **_HEADED),
    ),
    "phi": ("decoder", _llama_like(hf.PhiConfig, hf.PhiForCausalLM)),
    "cohere": ("decoder", _llama_like(hf.CohereConfig, hf.CohereForCausalLM, logit_scale=0.25)),
    "opt": (
        "decoder",
        _of(
            hf.OPTConfig,
            hf.OPTForCausalLM,
            ffn_dim=48,
            word_embed_proj_dim=WIDTH,
            max_position_embeddings=64,
            **_HEADED,
        ),
    ),
    "bloom": (
        "decoder",
        _of(
            hf.BloomConfig,
            hf.BloomForCausalLM,
            vocab_size=VOCAB,
            hidden_size=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
        ),
    ),
    "mpt": (
        "decoder",
        _of(
            hf.MptConfig,
            hf.MptForCausalLM,
            vocab_size=VOCAB,
            d_model=WIDTH,
            n_layers=LAYERS,
            n_heads=HEADS,
            max_seq_len=64,
        ),
    ),
    "mamba": (
        "recurrent",
        _of(hf.MambaConfig, hf.MambaForCausalLM, state_size=4, **_STACK),
    ),
    "rwkv": (
        "recurrent",
        _of(
            hf.RwkvConfig,
            hf.RwkvForCausalLM,
            attention_hidden_size=WIDTH,
            intermediate_size=48,
            context_length=64,
            **_STACK,
        ),
    ),
    "bert": ("encoder", _of(hf.BertConfig, hf.BertForMaskedLM, **_COMMON)),
    "roberta": ("encoder", _of(hf.RobertaConfig, hf.RobertaForMaskedLM, **_COMMON)),
    "distilbert": (
        "encoder",
        _of(
            hf.DistilBertConfig,
            hf.DistilBertForMaskedLM,
            vocab_size=VOCAB,
            dim=WIDTH,
            hidden_dim=48,
            n_layers=LAYERS,
            n_heads=HEADS,
            max_position_embeddings=64,
        ),
    ),
    "albert": (
        "encoder",
        _of(hf.AlbertConfig, hf.AlbertForMaskedLM, embedding_size=16, **_COMMON),
    ),
    "vit": ("vision", lambda: hf.ViTForImageClassification(hf.ViTConfig(num_labels=5, **_VIT))),
    "deit": ("vision", lambda: hf.DeiTForImageClassification(hf.DeiTConfig(num_labels=5, **_VIT))),
    "t5": ("seq2seq", lambda: hf.T5ForConditionalGeneration(hf.T5Config(**_T5))),
    "bart": ("seq2seq", _of(hf.BartConfig, hf.BartForConditionalGeneration, **_SEQ)),
    "whisper": (
        "seq2seq",
        _of(
            hf.WhisperConfig,
            hf.WhisperForConditionalGeneration,
            num_mel_bins=8,
            max_source_positions=12,
            max_target_positions=64,
            **_SEQ,
        ),
    ),
    "cnn": ("plain", _cnn),
    "lstm": ("plain", Tagger),
    "sequential": ("plain", _mlp),
}
