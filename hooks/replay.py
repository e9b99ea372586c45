"""``run = record(model, batch)``: remember one pass; then ask what if, from any of its layers.

A what-if continues the recorded pass exactly: blocks before its first change are not run, positions
before it are not computed again (their keys and values are remembered), and many what-ifs are rows
of one batch with the baseline beside them. Where a model's blocks cannot be run one by one, whole
passes with hooks give the same result, and the outcome says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.edits import set_to
from layerscope.hooks.replaying.batches import Recorded, Sweep
from layerscope.hooks.replaying.lanes import EachBlock
from layerscope.hooks.replaying.outcome import Outcome
from layerscope.hooks.replaying.program import programs
from layerscope.hooks.replaying.recording import (
    Pass,
    Play,
    logits_of,
    passing,
    run_once,
    stream_sites,
)
from layerscope.hooks.replaying.rewire import alone
from layerscope.hooks.replaying.sweep import require_last, sweep
from layerscope.hooks.replaying.trust import untrusted
from layerscope.hooks.replaying.what_if import Entries, prompts_of, stream_index, what_if
from layerscope.hooks.sites import resolve

BUDGET = 2**30
"""Bytes that one batch of what-ifs may take, by default."""


def record(
    model: nn.Module, batch: Any, *, keep: int | str | Sequence[int | str] = (), grad: bool = False
) -> Recording:
    """Run the model once and remember what passed between its blocks.

    Args:
        model: Any model with blocks that `anatomy` finds. It runs in eval mode, untouched.
        batch: Token ids [p] or [b, p], or the arguments of the model as a dict. Prompts of unequal
            length are padded, with `attention_mask`; positions are those of each prompt alone.
        keep: Sites to keep besides the residual stream between blocks.
        grad: Keep the graph of this pass, for gradients with respect to the weights or inputs.

    Raises:
        LookupError: no stack of blocks, or a site that the model does not have.
        ValueError: an empty batch.
    """
    with alone:
        work = passing(model, batch)
        kept = _several(model, keep)
        wanted = dict.fromkeys([*stream_sites(work.anatomy), *kept])
        untrusted(work)  # tried now, so that replays run nothing but what they need
        logits, seen = run_once(work, list(wanted), grad=grad)
    return Recording(work, logits if grad else logits.detach(), {s: seen[s] for s in wanted})


def lanes(
    model: nn.Module, batch: Any, changes: Sequence[Mapping[int | str, Any]], **choices: Any
) -> Outcome:
    """What-ifs beside their baseline in one pass from a cold start; see `Recording.lanes`.

    All L single-block interventions cost L + L(L-1)/2 layer-evaluations in L block calls.
    """
    with alone:
        return Recording(passing(model, batch), None, {}).lanes(changes, **choices)


class Recording:
    """One remembered pass of a model. ``run[site]`` is what a site held, [b, p, d]."""

    def __init__(self, work: Pass, logits: Tensor | None, kept: Mapping[str, Tensor]) -> None:
        self._pass = work
        self._logits = logits
        self._kept = dict(kept)
        self._reasons: list[str] = []

    @property
    def model(self) -> nn.Module:
        """The model that was recorded."""
        return self._pass.model

    @property
    def n_blocks(self) -> int:
        """L, the number of blocks."""
        return self._pass.blocks

    @property
    def length(self) -> int:
        """Positions of each prompt, padding included."""
        return self._pass.positions

    @property
    def logits(self) -> Tensor:
        """What the model answered, [b, p, vocab]."""
        if self._logits is None:
            raise LookupError(
                "nothing was recorded here; run = record(model, batch) keeps the logits"
            )
        return self._logits

    @property
    def residuals(self) -> Tensor:
        """The residual stream [L + 1, b, p, d]: 0 enters block 0, L leaves the last block."""
        return torch.stack([self._kept[site] for site in stream_sites(self._pass.anatomy)])

    @property
    def exact(self) -> bool:
        """Whether every what-if so far was run block by block."""
        return not self._reasons

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about this recording."""
        return (*self._pass.inputs.notes, *self._reasons)

    def __len__(self) -> int:
        return self._pass.inputs.prompts

    def __contains__(self, site: object) -> bool:
        return isinstance(site, str) and self._name(site) in self._kept

    def __getitem__(self, site: int | str) -> Tensor:
        if site in self._kept:
            return self._kept[str(site)]
        names = resolve(self.model, site)
        if len(names) != 1:
            raise LookupError(f"{site!r} stands for {len(names)} sites: ask for one at a time")
        name = self._name(names[0])
        if name not in self._kept:
            raise LookupError(
                f"{site!r} was not recorded; ask with record(model, batch, keep=[{site!r}])"
            )
        return self._kept[name]

    def __repr__(self) -> str:
        from layerscope.hooks.replaying.recording_card import recording_lines

        return recording_lines(self, self._kept)

    def _repr_html_(self) -> str:
        from layerscope.hooks.replaying.recording_card import recording_card

        return recording_card(self, self._kept)

    def _ipython_key_completions_(self) -> list[str]:
        """What Jupyter offers after ``run["``."""
        return list(self._kept)

    def replay(
        self,
        site: int | str,
        value: Tensor,
        *,
        at: Any = None,
        of: int | Sequence[int] | Tensor | None = None,
        **choices: Any,
    ) -> Outcome:
        """Continue the recorded pass with `value` written at a site.

        Args:
            site: Where, such as ``"blocks.3.resid_post"``: then blocks 0 to 3 are not run.
            value: [n, positions, d] for n what-ifs (or what broadcasts to it).
            at: Positions that are written: an int, a slice, several ints; None: all.
            of: The prompt that each of the n rows continues. By default the prompts in order if
                there are n, or the only one.
            choices: As in `lanes`.

        Raises:
            ValueError: `value` has rows that no prompt belongs to.
        """
        rows = len(value) if value.ndim > 2 else 1
        if of is None and rows not in (1, len(self)) and len(self) > 1:
            raise ValueError(
                f"value has {rows} rows, the recording {len(self)} prompts; say with of= which "
                "prompt each row continues"
            )
        chosen = [0] * rows if of is None and len(self) == 1 else of
        return self.lanes([{site: set_to(value, at=at)}], of=[chosen], **choices)

    def lanes(
        self,
        changes: Sequence[Mapping[int | str, Any]],
        *,
        of: Sequence[int | Sequence[int] | Tensor | None] | None = None,
        keep: int | str | Sequence[int | str] = (),
        last: int | None = None,
        generate: int = 0,
        each_block: EachBlock | None = None,
        budget: int = BUDGET,
        grad: bool = False,
        progress: bool = False,
    ) -> Outcome:
        """Answer many what-ifs in as few layer-evaluations as can be.

        Args:
            changes: Each what-if is ``{site: change}`` with changes of `layerscope.edits`.
            of: For each what-if the prompts it is made to (an int or several); None: all of them.
            keep: Sites to return, for all rows.
            last: Return logits of this many last positions only; 0: none, and the head is not run.
            generate: Continue every what-if greedily by this many tokens.
            each_block: ``each_block(block, before, after, what_if)`` sees the streams of all live
                rows around each block, where keeping them would take too much memory.
            budget: Bytes that one batch may take; more what-ifs are run in several.
            grad: Keep the graph, so that outcomes can be differentiated by what was written.
            progress: Whether to show a bar over batches.

        Raises:
            IndexError: a prompt or position that does not exist.
            LookupError: a site that the model does not have.
            ValueError: no what-if.
        """
        require_last(self._pass, last, generate)
        if isinstance(changes, Mapping) or not changes:
            raise ValueError(
                "give a list of what-ifs, such as [{'blocks.3.resid_post': edits.skip()}]"
            )
        given = [None] * len(changes) if of is None else list(of)
        if len(given) != len(changes):
            raise ValueError(f"{len(changes)} what-ifs were given, with of= for {len(given)}")
        with alone:
            entries = Entries(self.model)
            what_ifs = [
                what_if(entries, one, prompts_of(rows, len(self)), self.length)
                for one, rows in zip(changes, given, strict=True)
            ]
            asked = Sweep(
                what_ifs=what_ifs,
                keep=_several(self.model, keep),
                last=last,
                generate=generate,
                each_block=each_block,
                budget=budget,
                grad=grad,
                progress=progress,
            )
            outcome, reasons = sweep(self._pass, asked, self._recorded())
        self._reasons = list(dict.fromkeys([*self._reasons, *reasons]))
        return outcome

    def program(self, blocks: Sequence[int], **choices: Any) -> Outcome:
        """Run blocks in another order: skipped, repeated, moved. See `programs`."""
        return self.programs([blocks], **choices)

    def programs(
        self, several: Sequence[Sequence[int]], *, last: int | None = None, generate: int = 0
    ) -> Outcome:
        """Run several programs on every prompt; what they begin with alike is computed once.

        Args:
            several: Each a sequence of block numbers, such as ``[0, 1, 1, 3]``.
            last: Return logits of this many last positions only.
            generate: Continue greedily by this many tokens; every visit of a block has its own
                keys and values.

        Returns:
            One row for each program and prompt, programs first.

        Raises:
            IndexError: a block the model does not have.
            RuntimeError: blocks of this model cannot be run one by one.
        """
        require_last(self._pass, last, generate)
        if not all(isinstance(one, Sequence) for one in several):
            raise ValueError(f"programs takes several programs; for one, program({several!r})")
        with alone:
            return programs(self._pass, several, last=last, generate=generate, logits=self._logits)

    def perform(self, play: Play, *, last: int | None = None, grad: bool = False) -> Tensor | None:
        """Run blocks by hand: ``play(stage)`` calls ``stage.block(index, stream)`` as it likes.

        Returns:
            The logits of the stream [n, p, d] that `play` returned; None if it returned None.
        """
        with alone, torch.set_grad_enabled(grad):
            output, _ = self._pass.perform(play, last=last)
        return None if output is None else logits_of(self._pass, output)

    def _name(self, site: str) -> str:
        """One name for each place of the residual stream: what leaves a block enters the next."""
        index = stream_index(site)
        return site if index is None else stream_sites(self._pass.anatomy)[index]

    def _recorded(self) -> Recorded | None:
        if self._logits is None:
            return None
        return Recorded([self._kept[s] for s in stream_sites(self._pass.anatomy)], self._logits)


def _several(model: nn.Module, sites: int | str | Sequence[int | str]) -> tuple[str, ...]:
    """The sites to keep; an empty list is none."""
    named = isinstance(sites, (int, str))
    return resolve(model, sites) if named or len(sites) else ()  # type: ignore[arg-type]
