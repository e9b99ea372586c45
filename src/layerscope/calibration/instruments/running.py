"""At the running model: finding its parts, reading, storing, writing, continuing a recorded pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.layers import listed

MODEL = "The model and the data"
WIDTH, TOKENS = 6, 31
FLOAT32 = 1e-5
"""Norms compute in float32: states of size 10 are right to 1e-6."""


def _matrices(seed: int) -> list[Any]:
    """Three maps ``[6, 6]``: what the MLPs of the planted decoder apply."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [0.4 * torch.randn(WIDTH, WIDTH, generator=generator).double() for _ in range(3)]


def _decoder(seed: int) -> tuple[Any, Any, Any]:
    """The decoder, ids ``[4, 5]``, and the states ``[4, 4, 5, 6]`` at embed and after each block."""
    import torch

    from layerscope.planted.linear_stack import final_states, linear_stack
    from layerscope.planted.turns import states

    table, maps = states(TOKENS, WIDTH, seed=seed), _matrices(seed)
    ids = torch.randint(TOKENS, (4, 5), generator=torch.Generator().manual_seed(seed))
    truth = torch.stack([x[ids] for x in final_states(table, [], maps)])
    return linear_stack(table, mlp=maps), ids, truth


def _gap(a: Any, b: Any) -> float:
    """Largest difference of two tensors."""
    return float((a.double() - b.double()).abs().max())


def _anatomy(seed: int) -> Iterator[Reading]:
    from layerscope.hooks.anatomy import anatomy
    from layerscope.planted import families

    kinds = {
        "llama": "attn + mlp",
        "gpt_neox": "attn | mlp",
        "gemma2": "attn + mlp",
    }
    for family, kind in kinds.items():
        found = anatomy(families.build(family, seed=seed))
        yield Reading(
            f"blocks of a tiny {family}",
            f"{families.LAYERS} x {kind}",
            " and ".join(
                f"{n} x {own}" for own, n in Counter(b.kind for b in found.blocks).items()
            ),
        )
        failed = [check.name for check in found.checks if check.passed is False]
        yield Reading(f"checks of {family} that fail", "none", ", ".join(failed) or "none")
    model: Any = families.build("gpt2", seed=seed)
    # Logits are no longer what the head makes of the final norm: one check must say so.
    handle = model.register_forward_hook(_cubed)
    found = anatomy(model)
    handle.remove()
    failed = [check.name for check in found.checks if check.passed is False]
    yield Reading("checks that fail where logits are cubed", 1.0, float(len(failed)))


def _cubed(module: Any, args: Any, output: Any) -> Any:
    output.logits = output.logits**3
    return output


def _capture(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.hooks.capture import capture
    from layerscope.planted import families

    model, ids, truth = _decoder(seed)
    hooks = _hooks(model)
    with (
        torch.no_grad(),
        capture(model, ["embed", "blocks.*.resid_post", "blocks.*.mlp_out"]) as seen,
    ):
        model(ids)
    found = torch.stack([seen["embed"], *(seen[f"blocks.{i}.resid_post"] for i in range(3))])
    yield Reading("largest error of the states", 0.0, _gap(found[..., :WIDTH], truth), FLOAT32)
    added = torch.stack([seen[f"blocks.{i}.mlp_out"] for i in range(3)])[..., :WIDTH]
    yield Reading("largest error of what MLPs added", 0.0, _gap(added, truth.diff(dim=0)), FLOAT32)
    yield Reading("hooks left in the model afterwards", 0.0, float(_hooks(model) - hooks))
    yield Reading(
        "padded batch against single texts",
        0.0,
        _padding_error(families.build("gpt2", seed=seed)),
        FLOAT32,
    )


def _hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def _padding_error(model: Any) -> float:
    """Learned positions and a mask: texts of 9 and 4 tokens together, and each alone."""
    import torch

    from layerscope.hooks.capture import capture

    long, short = torch.arange(3, 12)[None], torch.arange(20, 24)[None]
    ids = torch.cat([long, torch.nn.functional.pad(short, (0, 5))])
    mask = torch.arange(9)[None] < torch.tensor([[9], [4]])
    with torch.no_grad():
        with capture(model, "blocks.2.resid_post") as both:
            model(input_ids=ids, attention_mask=mask.long())
        with capture(model, "blocks.2.resid_post") as alone:
            model(input_ids=short)
    return _gap(both["blocks.2.resid_post"][1, :4], alone["blocks.2.resid_post"][0])


def _extract(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.hooks.extract import extract

    def stored() -> Any:
        return extract(model, TEXTS, "all", tokenizer=_tokenizer(), progress=False)

    model, _, _ = _decoder(seed)
    ids = [int(word[1:]) for text in TEXTS for word in text.split()]
    store = stored()
    yield Reading("tokens of the rows", listed(ids), listed(store.rows["token_id"]))
    found = store["blocks.2.resid_post"][:][:, :WIDTH]
    yield Reading(
        "largest error of the stored states", 0.0, _gap(found, _truth(seed)[-1][ids]), FLOAT32
    )
    same = stored().key == store.key
    yield Reading("key of the same again", "the same", "the same" if same else "another")
    with torch.no_grad():
        model.model.embed_tokens.weight[3, 0] += 1.0
    same = stored().key == store.key
    yield Reading("key after one weight changed", "another", "the same" if same else "another")


TEXTS = ["t3 t5 t9 t3", "t30", "t7 t7 t1 t12 t13 t14 t2"]


def _truth(seed: int) -> Any:
    from layerscope.planted.linear_stack import final_states
    from layerscope.planted.turns import states

    return final_states(states(TOKENS, WIDTH, seed=seed), [], _matrices(seed))


def _tokenizer() -> Any:
    """One token for each word `t0` ... `t30`, its number."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"t{i}": i for i in range(TOKENS)}
    raw = Tokenizer(models.WordLevel(words, unk_token="t0"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="t0")


def _edit(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.hooks import edits

    model, ids, truth = _decoder(seed)
    direction = torch.randn(WIDTH + 1, generator=torch.Generator().manual_seed(seed + 1)).double()
    direction[WIDTH] = 0.0  # the coordinate that opens the gates stays as it is
    moved = direction[:WIDTH]
    for matrix in _matrices(seed)[1:]:
        moved = moved + matrix @ moved
    with torch.no_grad():
        plain = model(ids).logits
        with edits.edit(model, {"blocks.0.resid_post": edits.add(direction, scale=2.0)}):
            steered = model(ids).logits
        with edits.edit(model, {"blocks.1.mlp_out": edits.skip()}):
            skipped = model(ids).logits
        after = model(ids).logits
    shift = (steered - plain)[..., :WIDTH]
    yield Reading(
        "largest error of the shift by a direction",
        0.0,
        _gap(shift, (2 * moved).expand_as(shift)),
        FLOAT32,
    )
    last = truth[1] + truth[1] @ _matrices(seed)[2].T
    yield Reading("largest error without MLP 1", 0.0, _gap(skipped[..., :WIDTH], last), FLOAT32)
    yield Reading("change of the logits afterwards", 0.0, _gap(after, plain))


def _record(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.hooks.replay import record

    model, ids, truth = _decoder(seed)
    run = record(model, ids, keep="all")
    with torch.no_grad():
        plain = model(ids).logits
    yield Reading("recorded logits against a plain pass", 0.0, _gap(run.logits, plain), 1e-9)
    same = run.replay("blocks.0.resid_post", run["blocks.0.resid_post"])
    yield Reading("replay with nothing changed", 0.0, _gap(same.logits, plain), 1e-9)
    # The last token gets what the first one was: from there on it is as if it had been that token.
    other = run.replay("blocks.1.resid_post", run["blocks.1.resid_post"][:, :1], at=-1)
    wanted = truth[3][:, 0]
    yield Reading(
        "largest error with another token's state",
        0.0,
        _gap(other.logits[:, -1, :WIDTH], wanted),
        FLOAT32,
    )
    # Blocks 0 and 1 are not run again, and of five positions only the last is; four prompts, each
    # beside its baseline.
    yield Reading("layer-evaluations of it", 4 * 2 / 5, other.evaluations, 1e-9)


STACK = "Three blocks that apply known matrices to each token's state."
PRODUCTS = "matrix products"
INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "anatomy",
        MODEL,
        "Three blocks of attention and MLP, one after the other, side by side, with norms on both "
        "sides; and a model whose logits are tampered with.",
        "by construction: tiny models of each architecture",
        _anatomy,
    ),
    Instrument("capture", MODEL, STACK, PRODUCTS, _capture),
    Instrument("extract", MODEL, STACK, PRODUCTS, _extract),
    Instrument("edit", MODEL, STACK, PRODUCTS, _edit),
    Instrument("record", MODEL, STACK, PRODUCTS, _record),
)
