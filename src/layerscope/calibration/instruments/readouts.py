"""What is read off the stream, and what each part owes the answer: in decoders of known matrices."""

from __future__ import annotations

from collections.abc import Iterator

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.circuits import CIRCUIT, HANDS, WHAT_IF, known
from layerscope.calibration.instruments.layers import listed, texts


def _lens(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import lens

    planted = known(seed)
    found = lens(planted.model, planted.prompts, twin=False, progress=False)
    agreement = found.curve("agreement").sort_values("layer")["value"]
    yield Reading(
        "share of tokens decoded as the model will say, embed to block 7",
        listed(planted.lens_correct(i) for i in range(planted.n_blocks + 1)),
        " ".join(f"{value:.6g}" for value in agreement),
    )
    divergence = found.curve("kl_final_lens").sort_values("layer")["value"]
    yield Reading("divergence at the last block", 0.0, divergence.iloc[-1], 1e-9, "nats")
    yield from _affine_lens(seed)


def _affine_lens(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import lens
    from layerscope.planted.linear_end import MIXED, VOCAB, linear_end

    data = texts(VOCAB, 40, 12, seed)
    found = lens(
        linear_end(seed=seed), data, kind="affine", ridge=1e-12, twin=False, progress=False
    )
    divergence = found.curve("kl_final_lens").set_index("layer")["value"]
    yield Reading(
        "affine lens: largest divergence where the rest is linear",
        0.0,
        divergence.loc[MIXED - 1 :].max(),
        1e-9,
        "nats",
    )


def _lens_tokens(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import lens_tokens
    from layerscope.planted.two_hop import LAST

    planted = known(seed)
    answer = str(int(planted.answers[0]))
    table = lens_tokens(planted.model, planted.prompts[0].tolist(), progress=False).table
    last = table[table["position"] == LAST].sort_values("layer")
    right = listed(planted.lens_correct(i) for i in range(planted.n_blocks + 1))
    yield Reading(
        "first choice is the answer, embed to block 7", right, listed(last["prediction"] == answer)
    )
    yield Reading(
        "rank of the model's own answer is 0, embed to block 7",
        right,
        listed(last["final_rank"] == 0),
    )


def _direct_logits(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import direct_logits
    from layerscope.planted.linear_stack import final_states, linear_stack
    from layerscope.planted.turns import states

    generator = torch.Generator().manual_seed(seed)
    tokens, width, answer = 31, 6, 2
    maps = [0.5 * torch.randn(width, width, generator=generator).double(), None]
    embedded = states(tokens, width, seed=seed)
    ids = torch.randperm(tokens, generator=generator)[:5]
    table = direct_logits(linear_stack(embedded, mlp=maps), [ids.tolist()], [answer]).table

    def above_mean(state: torch.Tensor) -> float:
        """Logit of the answer above the mean: the state's numbers are the first logits, others are 0."""
        return float(state[answer] - state.sum() / tokens)

    before, after, _ = (x[ids[-1]] for x in final_states(embedded, [], maps))
    cells = table.set_index(["part", "layer"])["value"]
    yield Reading("logit of the answer above the mean", above_mean(after), table["total"][0], 1e-5)
    yield Reading(
        "written by the MLP of block 0", above_mean(after - before), cells["mlp", 0], 1e-5
    )
    idle = [("mlp", 1), ("attention", 0), ("attention", 1)]
    yield Reading("largest from parts that write nothing", 0.0, cells[idle].abs().max(), 1e-12)


def _integrated_gradients(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import integrated_gradients
    from layerscope.planted.linear_stack import linear_stack
    from layerscope.planted.turns import states

    generator = torch.Generator().manual_seed(seed)
    tokens, width, answer = 31, 6, 2
    maps = [0.5 * torch.randn(width, width, generator=generator).double() for _ in range(3)]
    embedded = states(tokens, width, seed=seed)
    ids = torch.randperm(tokens, generator=generator)[:5]
    found = integrated_gradients(
        linear_stack(embedded, mlp=maps),
        [ids.tolist()],
        [answer],
        rule="gauss",
        steps=16,
        progress=False,
    ).table
    cells = found[found["scope"] == "token"]
    for layer in (0, 1):
        x, rest = embedded[ids], torch.eye(width, dtype=torch.float64)
        for number, matrix in enumerate(maps):
            if number <= layer:
                x = x + x @ matrix.T
            else:
                rest = rest + matrix @ rest
        logits = torch.zeros(2, tokens, dtype=torch.float64)
        logits[:, :width] = torch.stack([x[-1], x.mean(0)]) @ rest.T
        reached, start = logits.softmax(-1)[:, answer].tolist()
        own = cells[cells["layer"] == layer].set_index("position")["value"]
        yield Reading(
            f"probability owed to the last token, block {layer}", reached - start, own[4], 1e-5
        )
        yield Reading(f"owed to any other, block {layer}", 0.0, own[:4].abs().max(), 1e-12)


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument("lens", WHAT_IF, CIRCUIT, HANDS, _lens),
    Instrument("lens_tokens", WHAT_IF, CIRCUIT, HANDS, _lens_tokens),
    Instrument(
        "direct_logits",
        WHAT_IF,
        "One block that writes a known matrix product into the stream, and one that writes nothing.",
        "matrix products",
        _direct_logits,
    ),
    Instrument(
        "integrated_gradients",
        WHAT_IF,
        "Three blocks that apply known matrices to each token, and let no token see another.",
        "completeness: what is owed sums to the probability gained (arXiv 1703.01365), by matrix products",
        _integrated_gradients,
    ),
)
