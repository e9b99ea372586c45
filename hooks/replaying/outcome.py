"""What came of many what-ifs, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from layerscope.hooks.replaying.recording import Pass, logits_of


@dataclass(frozen=True, eq=False)
class Outcome:
    """Results of what-ifs, one row each, beside the baseline that ran in the same batch.

    ``out[site]`` is what a kept site holds, [n, positions, ...]; a row that had not left the
    baseline there has the baseline's value.
    """

    logits: Tensor
    """[n, positions, vocab]; positions are `positions`, or the last ones that were asked for."""
    baseline: Tensor
    """The same of the unchanged prompts, computed in the same batch, [b, positions, vocab]."""
    of: Tensor
    """The prompt that each row continues, [n]."""
    what_if: Tensor
    """The number of the what-if that each row belongs to, [n]."""
    positions: range
    """The absolute positions that were computed again."""
    noise: float
    """Largest difference between logits of the baseline in this batch and of the recorded pass;
    differences of outcomes below it mean nothing. NaN where nothing was recorded."""
    evaluations: float
    """Layer-evaluations: one is one block on all positions of one prompt. Baselines count; tokens that
    were generated afterwards do not."""
    block_calls: int
    exact: bool
    """Whether blocks were really run one by one; False: whole passes with hooks, same result."""
    notes: tuple[str, ...] = ()
    generated: Tensor | None = None
    """Greedy continuations [n, tokens], where they were asked for."""
    base: Mapping[str, Tensor] = field(default_factory=dict)
    """Kept sites of the baseline, [b, positions, ...]."""
    _kept: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, site: str) -> Tensor:
        if site not in self._kept:
            there = ", ".join(self._kept) or "none"
            raise LookupError(f"{site!r} was not kept; ask with keep=[{site!r}]. Kept: {there}")
        return self._kept[site]

    def __contains__(self, site: object) -> bool:
        return site in self._kept

    def _ipython_key_completions_(self) -> list[str]:
        """What Jupyter offers after ``out["``."""
        return list(self._kept)

    def __repr__(self) -> str:
        how = "blocks run one by one" if self.exact else "whole passes with hooks"
        return (
            f"Outcome of {len(self)} rows: positions {self.positions.start} to "
            f"{self.positions.stop - 1}, {self.evaluations:.4g} layer-evaluations in "
            f"{self.block_calls} block calls ({how}), noise {self.noise:.2g}"
        )


@dataclass(eq=False)
class Part:
    """The outcome of one batch of rows."""

    where: Tensor
    """Which of all rows these are."""
    offset: int
    bases: Tensor
    logits: Tensor
    """Baseline rows first."""
    kept: Mapping[str, Tensor]
    base: Mapping[str, Tensor]
    evaluations: float
    block_calls: int
    noise: float
    generated: Tensor | None


def put_together(
    parts: Sequence[Part],
    of: Tensor,
    what_if: Tensor,
    positions: range,
    *,
    exact: bool,
    notes: Sequence[str],
) -> Outcome:
    """One outcome of all parts, rows in the order they were asked for."""
    order = torch.argsort(torch.cat([part.where for part in parts]))
    bases = torch.cat([part.bases for part in parts])
    first = torch.tensor([int((bases == b).nonzero()[0]) for b in torch.unique(bases)])

    def rows(pieces: Sequence[Tensor]) -> Tensor:
        return _chosen(pieces, order)

    generated = [part.generated for part in parts if part.generated is not None]
    sites = list(parts[0].kept)
    return Outcome(
        logits=rows([part.logits[len(part.bases) :] for part in parts]),
        baseline=_chosen([part.logits[: len(part.bases)] for part in parts], first),
        of=of,
        what_if=what_if,
        positions=positions,
        noise=max(part.noise for part in parts),
        evaluations=sum(part.evaluations for part in parts),
        block_calls=sum(part.block_calls for part in parts),
        exact=exact,
        notes=tuple(dict.fromkeys(notes)),
        generated=rows(same_length(generated)) if generated else None,
        base={s: _chosen([part.base[s] for part in parts], first) for s in sites},
        _kept={s: rows([part.kept[s] for part in parts]) for s in sites},
    )


def answers_of(work: Pass, output: Any, rows: int, last: int | None) -> Tensor:
    """The logits in a model's output, [rows, positions, vocab]; none where the head was not run."""
    if output is None:
        return torch.zeros(rows, 0, 0)
    logits = logits_of(work, output)
    return logits if last is None or logits.ndim < 3 else logits[:, logits.shape[1] - last :]


def noise_of(answers: Tensor, recorded: Tensor | None, bases: Tensor) -> float:
    """Largest difference of a baseline's logits from the recorded ones; NaN without either."""
    if recorded is None or not answers.numel():
        return float("nan")
    known = recorded[bases.to(recorded.device)]
    if answers.ndim > 2:
        known = known[:, known.shape[1] - answers.shape[1] :]
    return float((answers - known).detach().abs().max())


def _chosen(pieces: Sequence[Tensor], order: Tensor) -> Tensor:
    whole = pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))
    if torch.equal(order, torch.arange(len(whole))):
        return whole
    return whole.index_select(0, order.to(whole.device))


def same_length(pieces: Sequence[Tensor]) -> list[Tensor]:
    """Generations that ended early, filled with their last token (the end token)."""
    longest = max(piece.shape[1] for piece in pieces)
    return [
        torch.cat([piece, piece[:, -1:].expand(-1, longest - piece.shape[1])], 1)
        for piece in pieces
    ]
