"""`layer_skip`: what later blocks and the output lose when a block is skipped, repeated or swapped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.material.texts import Texts, looks_ahead, tokens_at_once
from layerscope.analyses.skipping.layer_skip_finding import SkipFinding
from layerscope.analyses.skipping.skip_effects import Later, Output, counts
from layerscope.analyses.skipping.skip_inputs import chosen_texts, refuse_model
from layerscope.analyses.skipping.skip_lanes import (
    CHANGES,
    SITES,
    Lane,
    all_lanes,
    obstacle,
    run_direct,
    run_lanes,
)
from layerscope.analyses.skipping.skip_totals import Totals, table
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import device_of
from layerscope.hooks.locating.structure import title
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.unembed import Unembed

STREAMS = 2**30
"""Bytes of streams that run at once."""
CUT_EVERY = 8


def layer_skip(
    model: nn.Module,
    data: Any = None,
    *,
    change: Literal["skip", "repeat", "swap"] = "skip",
    part: Literal["block", "attention", "mlp"] = "block",
    cuts: int = 4,
    direct: bool = True,
    no_skip_front: int = 1,
    twin: bool = False,
    max_texts: int = 32,
    max_tokens: int | None = 256,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> SkipFinding:
    """Change each block alone, and measure every later block and the output (Csordás et al. 2025).

    All texts and all blocks of a batch are lanes of one pass: L + L(L-1)/2 layer-evaluations for
    each text, where a loop over blocks takes L squared.

    Args:
        model: A model with blocks; it is not altered.
        data: Texts, ids or a corpus; None takes bundled sentences.
        change: ``skip`` the block, ``repeat`` it (it runs twice), or ``swap`` it with the next.
        part: For skips, the whole ``block``, its ``attention`` or its ``mlp``. Without attention
            the MLP of the same block reads the stream without it.
        cuts: Future-only effects: at so many random positions t of a text, change only tokens
            before t and read only from t on. 0 leaves them out.
        direct: For skips of blocks, also feed each later block the unchanged stream less what the
            skipped block added: the direct effect, without what blocks in between pass on.
        no_skip_front: So many first tokens are neither changed nor read; models keep large states
            there that dominate everything.
        twin: Also measure the same architecture with fresh weights.
        max_texts: More texts are drawn from at random.
        max_tokens: Longer texts are cut; None: only at the context. The largest value over tokens
            grows with their number, so compare runs of equal length.
        tokenizer: Object or path; None takes the model's own.
        seed: Of texts, cuts, intervals and twin.
        progress: Whether to show bars.

    Returns:
        A `SkipFinding`.

    Raises:
        LookupError: a model without blocks, or without the part.
        RuntimeError: repeats and swaps of a model whose blocks cannot be run one by one.
        ValueError: unknown options, or no text that is long enough.
    """
    started = time.perf_counter()
    _refuse(model, change, part, no_skip_front)
    texts = chosen_texts(
        model, data, no_skip_front, max_texts, max_tokens, tokenizer=tokenizer, seed=seed
    )
    options: dict[str, Any] = {
        "change": change,
        "part": part,
        "cuts": cuts,
        "direct": direct and change == "skip" and part == "block",
        "no_skip_front": no_skip_front,
        "seed": seed,
    }
    found = _Skips(model, texts, options, progress).totals()
    fresh = None
    if twin:
        from layerscope.hooks.twin import untrained_twin

        fresh = _Skips(untrained_twin(model, seed=seed), texts, options, progress).totals()
    parameters = {k: v for k, v in options.items() if k != "seed"} | {
        "twin": twin,
        "max_texts": max_texts,
        "max_tokens": max_tokens,
        "layer_evaluations": round(found.evaluations, 2),
    }
    return SkipFinding(
        table=table(found, fresh, change, part, seed),
        provenance=Provenance(
            model=title(model),
            data=f"{texts.name}, {len(texts)} texts of {texts.tokens:,} tokens",
            call=_call(options, twin, data),
            parameters=parameters,
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=tuple(dict.fromkeys([*texts.notes, *found.notes])),
    )


def _refuse(model: nn.Module, change: str, part: str, front: int) -> None:
    if change not in CHANGES:
        raise ValueError(f"change is {', '.join(CHANGES)}, not {change!r}")
    if part not in SITES:
        raise ValueError(f"part is {', '.join(SITES)}, not {part!r}")
    if change != "skip" and part != "block":
        raise ValueError(
            f"change={change!r} is for whole blocks; part={part!r} can be skipped only"
        )
    if front < 0:
        raise ValueError(f"no_skip_front is 0 or more, not {front}")
    refuse_model(model, part)


class _Skips:
    """One model on all texts."""

    def __init__(self, model: nn.Module, texts: Texts, options: dict[str, Any], bar: bool) -> None:
        self.model, self.texts, self.options, self.bar = model, texts, options, bar
        found = anatomy(model)
        self.blocks = len(found.blocks) - (options["change"] == "swap")
        self.all_blocks, self.width = len(found.blocks), found.width or 1
        self.totals_ = Totals(self.all_blocks, texts.n_groups)
        self.decode = self._decoder()
        self.generator = torch.Generator().manual_seed(options["seed"])

    def totals(self) -> Totals:
        from tqdm.auto import tqdm

        tokens = tokens_at_once(self.model)
        with (
            evaluating(self.model),
            torch.no_grad(),
            tqdm(
                total=len(self.texts),
                desc=self.options["change"],
                unit="text",
                disable=not self.bar,
            ) as bar,
        ):
            for number, (index, ids) in enumerate(self.texts.batches(tokens)):
                ids = ids.to(device_of(self.model))
                self._batch(ids, self.texts.groups[index], noise=number == 0)
                bar.update(len(index))
        self._say()
        return self.totals_

    def _batch(self, ids: Tensor, groups: NDArray[np.int64], *, noise: bool) -> None:
        front, length = self.options["no_skip_front"], ids.shape[1]
        wanted = all_lanes(self.blocks, length, front, self._cuts(length))
        if noise:
            wanted.append(Lane(-1, 0, length, front))
        for lanes in _portions(wanted, STREAMS // (32 * ids.numel() * self.width)):
            self._propagated(ids, groups, lanes)
            if self.options["direct"] and not self._hindered(ids):
                self._direct(ids, groups, [lane for lane in lanes if lane.block >= 0])

    def _propagated(self, ids: Tensor, groups: NDArray[np.int64], wanted: list[Lane]) -> None:
        change, part = self.options["change"], self.options["part"]
        later = self._later(wanted, ids)
        streams = run_lanes(self.model, ids, wanted, change, part, later)
        total, n = self.totals_, counts(wanted, ids.shape[1])
        total.evaluations += streams.evaluations
        total.notes += streams.notes
        total.add("later", wanted, later.sums, later.most, n, groups)
        if self.decode is None:
            return
        output = Output(self.decode, streams.base, ids)
        for measure, (sums, most) in output.of(streams.lanes, wanted).items():
            read = (n - 1).clamp_min(0) if measure == "loss" else n
            total.add(measure, wanted, sums, most, read, groups)

    def _direct(self, ids: Tensor, groups: NDArray[np.int64], wanted: list[Lane]) -> None:
        later = self._later(wanted, ids)
        self.totals_.evaluations += run_direct(self.model, ids, wanted, later)
        n = counts(wanted, ids.shape[1])
        self.totals_.add("direct", wanted, later.sums, later.most, n, groups)

    def _hindered(self, ids: Tensor) -> bool:
        why = obstacle(self.model, ids)
        if why:
            self.totals_.notes.append(
                f"Direct effects were not measured: blocks cannot be run one by one ({why})."
            )
        return bool(why)

    def _later(self, wanted: Sequence[Lane], ids: Tensor) -> Later:
        own = self.options["change"] == "skip" and self.options["part"] == "block"
        return Later(wanted, self.all_blocks, ids, own=own)

    def _cuts(self, length: int) -> list[int]:
        """Random positions t, multiples of 8 where the text is long enough for one."""
        front = self.options["no_skip_front"]
        there = [t for t in range(CUT_EVERY, length - 3, CUT_EVERY) if t > front]
        there = there or list(range(front + 1, length - 1))
        order = torch.randperm(len(there), generator=self.generator)
        return sorted(there[i] for i in order[: self.options["cuts"]].tolist())

    def _decoder(self) -> Unembed | None:
        try:
            return Unembed(self.model)
        except (LookupError, ValueError) as why:
            self.totals_.notes.append(f"Effects on the output were not measured: {why}.")
            return None

    def _say(self) -> None:
        total, front = self.totals_, self.options["no_skip_front"]
        first = "first token is" if front == 1 else f"first {front} tokens are"
        if front:
            total.notes.append(f"The {first} neither changed nor read (no_skip_front).")
        longest = max(self.texts.prompts.ids, key=len)
        if looks_ahead(self.model, longest):
            for key in [k for k in total.found if k[0] == "loss"]:
                del total.found[key]
            total.notes.append(
                "Tokens see later ones in this model, so there is no loss to measure."
            )
        if self.options["part"] == "attention" and any(
            b.parallel for b in anatomy(self.model).blocks
        ):
            total.notes.append(
                "Attention and MLP of a block run in parallel here: the MLP never saw the attention "
                "that was skipped."
            )


def _portions(wanted: list[Lane], size: int) -> Iterator[list[Lane]]:
    size = max(1, size)
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def _call(options: dict[str, Any], twin: bool, data: Any) -> str:
    usual = {"change": "skip", "part": "block", "cuts": 4, "no_skip_front": 1, "seed": 0}
    changed = {k: v for k, v in options.items() if k in usual and v != usual[k]}
    if twin:
        changed["twin"] = True
    more = "".join(f", {name}={value!r}" for name, value in changed.items())
    return f"layer_skip(model{', data' if data is not None else ''}{more})"
