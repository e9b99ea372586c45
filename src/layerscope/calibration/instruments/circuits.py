"""What the answer hangs on: in a decoder with a circuit of two hops wired in by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.layers import listed

if TYPE_CHECKING:
    from layerscope.planted.two_hop import TwoHop

WHAT_IF = "What if"
IDLE = "nothing reads it"
HANDS = "the circuit, wired by hand: weights of a stock Llama set one by one"


def known(seed: int) -> TwoHop:
    """The first hop in block 1, the copy in block 3, the second hop in block 5."""
    from layerscope.planted.two_hop import two_hop

    return two_hop(1, 3, 5, seed=seed)


def _pairs(planted: TwoHop) -> tuple[Any, ...]:
    """Every entity against its neighbour: clean and corrupt prompts, right and wrong answers."""
    answers = planted.answers
    clean, corrupt = planted.prompts, planted.prompts.roll(1, 0)
    return planted.model, clean, corrupt, answers.tolist(), answers.roll(1).tolist()


def _where(table: Any, column: str = "value") -> str:
    """Layers at which a column is not zero at all."""
    return listed(table["layer"][table[column] != 0])


def _back_patching(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import back_patching
    from layerscope.planted.two_hop import ENTITY, rewired, two_hop

    def answered(planted: TwoHop) -> dict[str, str]:
        """The pairs after which all six prompts are answered right, with each kind of states."""
        found = back_patching(
            planted.model,
            planted.prompts,
            planted.answers.tolist(),
            at=ENTITY,
            seed=seed,
            progress=False,
        ).table
        pairs = found[found["kind"] == "pair"]
        right = pairs[pairs["value"] == 1]
        return {
            states: _named(zip(own["source"], own["target"], strict=True))
            for states in pairs["states"].unique()
            for own in [right[right["states"] == states]]
        }

    # The first hop comes after the copy: too late, unless its state is put back.
    planted = two_hop(4, 2, 6, seed=seed)
    found = answered(planted)
    yield Reading("pairs that repair", _named(planted.back_patch(ENTITY)), found["own"])
    yield Reading("pairs that repair, states of other prompts", "none", found["other prompt"])
    # The second hop comes first: no state helps, wherever it is put.
    never = rewired(planted.model, 5, 4, 2, seed=seed)
    yield Reading("pairs that repair where none can", "none", answered(never)["own"])


def _named(pairs: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{source}>{target}" for source, target in sorted(pairs)) or "none"


def _patching(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import patching
    from layerscope.planted.two_hop import ENTITY, LAST

    planted = known(seed)
    table = patching(*_pairs(planted), sites="resid_pre", progress=False).table
    for name, position in (("entity", ENTITY), ("last token", LAST)):
        curve = table[table["position"] == position].sort_values("layer")["value"]
        yield Reading(
            f"share restored by the {name}, blocks 0 to 7",
            listed(planted.restored(i, (position,)) for i in range(planted.n_blocks)),
            " ".join(f"{value:.6g}" for value in curve),
        )
    parts = patching(*_pairs(planted), sites=("attn_out", "mlp_out"), progress=False).table
    circuit = {("attn_out", LAST, 3), ("mlp_out", ENTITY, 1), ("mlp_out", LAST, 5)}
    own = [
        key in circuit for key in zip(parts["kind"], parts["position"], parts["layer"], strict=True)
    ]
    # Norms see what the parts wrote, a little: 1e-4 of the answer.
    yield Reading(
        "least share restored by the circuit's three parts", 1.0, parts[own]["value"].min(), 1e-4
    )
    rest = parts[[not one for one in own]]["value"].abs()
    yield Reading("largest share restored by any other part", 0.0, rest.max(), 1e-12)


def _attribution_patching(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import attribution_patching
    from layerscope.hooks.anatomy import anatomy
    from layerscope.planted.linear_decoder import VOCAB, linear_decoder

    model = linear_decoder(seed=seed)
    ids = torch.randint(VOCAB, (3, 5), generator=torch.Generator().manual_seed(seed))
    ids[0], ids[2] = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([6, 7, 8, 9, 10])
    anatomy(model, example={"input_ids": ids})
    given = (model, ids[[0, 2]], ids[[2, 0]], [1, 2], [4, 5])
    found = attribution_patching(*given, sites="resid_pre", check=1.0, progress=False).table
    sums = found.groupby("layer")["value"].sum()
    farthest = max(sums.tolist(), key=lambda total: abs(total - 1))
    yield Reading("share restored, all positions of a layer, farthest from 1", 1.0, farthest, 1e-9)
    missed = (found["value"] - found["exact"]).abs().max()
    yield Reading("largest gap to patching itself", 0.0, missed, 1e-9)
    planted = known(seed)
    idle = attribution_patching(
        *_pairs(planted), sites="blocks.7.mlp_out", check=0, progress=False
    ).table
    yield Reading(f"share restored where {IDLE}", 0.0, idle["value"].abs().max(), 1e-12)


def _causal_tracing(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import causal_tracing
    from layerscope.planted.two_hop import ENTITY, LAST

    planted = known(seed)
    table = causal_tracing(
        planted.model,
        planted.prompts,
        planted.answers.tolist(),
        [ENTITY] * len(planted.prompts),
        kinds=["resid_post"],
        samples=2,
        seed=seed,
        progress=False,
    ).table
    for name, position in (("entity", ENTITY), ("last token", LAST)):
        curve = table[table["position"] == position].sort_values("layer")["share"]
        yield Reading(
            f"share restored by the {name}, blocks 0 to 7",
            listed(planted.restored(i + 1, (position,)) for i in range(planted.n_blocks)),
            " ".join(f"{value:.6g}" for value in curve),
        )


def _knock_out(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import knock_out
    from layerscope.planted.two_hop import two_hop

    planted = known(seed)
    given = (planted.model, planted.prompts, planted.answers.tolist())
    for width in (1, 3):
        table = knock_out(
            *given, flows={"last to entity": (-1, 0)}, window=width, progress=False
        ).table
        matters = [
            layer
            for layer, first, end in table[["layer", "first", "end"]]
            .astype(int)
            .to_numpy()
            .tolist()
            if planted.knock_out_matters((first, end))
        ]
        yield Reading(
            f"blocks whose cut changes the answer, windows of {width}",
            listed(matters),
            _where(table),
        )
    # The copy comes before the first hop, and so copies nothing.
    idle = two_hop(4, 2, 6, seed=seed)
    table = knock_out(
        idle.model,
        idle.prompts,
        idle.answers.tolist(),
        flows={"last to entity": (-1, 0)},
        window=1,
        known=False,
        progress=False,
    ).table
    yield Reading("blocks whose cut changes it, nothing to copy", "none", _where(table))


def _erasure(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import erasure
    from layerscope.planted.two_hop import ENTITY

    planted = known(seed)
    table = erasure(
        planted.model,
        planted.prompts[:2],
        planted.answers[:2].tolist(),
        by="zero",
        progress=False,
    ).table
    cells = table[(table["scope"] == "token") & (table["position"] == ENTITY)]
    largest = cells.groupby("layer")["value"].max()
    yield Reading(
        "residuals of the entity that the answer needs",
        listed(i - 1 for i in range(planted.n_blocks + 1) if planted.erasure_matters(i)),
        listed(layer for layer, value in largest.items() if value != 0),
    )
    yield Reading("change by erasing it later", 0.0, largest.loc[3:].max())


def _layer_programs(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import layer_programs
    from layerscope.planted.counter import counter

    # Five blocks count up by 1, 2, 4, 8 and 16; block 3 spoils the count, and has to go.
    planted = counter(steps=(1, 2, 4, 32, 8, 16), modulus=64)
    right = (0, 1, 2, 4, 5)
    wanted = planted.result(right)
    # All 63 programs are tried: 64 asks for no more.
    table = layer_programs(
        planted.model,
        [[0], [0]],
        [wanted, 0],
        tries=64,
        repeat=False,
        control=False,
        seed=seed,
        progress=False,
    ).table
    own = table[table["search"] == "answer"]
    found = own[(own["prompt"] == 0) & own["correct"]]["program"]
    yield Reading("programs that give the answer", listed(right), "; ".join(found))
    never = own[(own["prompt"] == 1)]
    yield Reading("programs that give an answer out of reach", 0.0, float(never["correct"].sum()))


CIRCUIT = "The first hop in block 1, a copy in block 3, the second hop in block 5."
INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "back_patching",
        WHAT_IF,
        "The first hop in block 4, after the copy in block 2; and a circuit that nothing repairs.",
        HANDS,
        _back_patching,
    ),
    Instrument("patching", WHAT_IF, CIRCUIT, HANDS, _patching),
    Instrument(
        "attribution_patching",
        WHAT_IF,
        "A decoder without any nonlinearity, where the first-order estimate is exact.",
        "linearity: shares of all positions add up to 1, and equal those of real patches",
        _attribution_patching,
    ),
    Instrument("causal_tracing", WHAT_IF, CIRCUIT, HANDS, _causal_tracing),
    Instrument("knock_out", WHAT_IF, CIRCUIT, HANDS, _knock_out),
    Instrument("erasure", WHAT_IF, CIRCUIT, HANDS, _erasure),
    Instrument(
        "layer_programs",
        WHAT_IF,
        "Six blocks that count by 1, 2, 4, 32, 8 and 16: one of them has to be left out.",
        "sums modulo 64",
        _layer_programs,
    ),
)
