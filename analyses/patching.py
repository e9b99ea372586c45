"""`patching`: which activations of a run that answers right make another run answer right.

Activation patching (interchange): Vig et al. 2020, Geiger et al. 2021, Wang et al. 2023; the
normalised logit difference follows Zhang and Nanda 2024.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.analyses.material.pairs import PairBatch, Pairs, as_pairs
from layerscope.analyses.material.token_axis import places_of
from layerscope.analyses.patches.answer_metric import Measure
from layerscope.analyses.patches.patch_cells import Cell, cells_of, head_places, sites_of
from layerscope.analyses.patches.patching_finding import PatchingFinding
from layerscope.analyses.patches.patching_table import notes_of, table_of
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.quiet import undisturbed
from layerscope.hooks.replay import Recording, record

DIRECTIONS = ("denoise", "noise")
ANSWER_BYTES = 2**28
"""Bytes of logits that one call of the engine may return."""


def patching(
    model: nn.Module,
    clean: Any,
    corrupt: Any,
    answers: Sequence[Any] | None = None,
    wrong: Sequence[Any] | None = None,
    *,
    sites: str | Sequence[str] | None = None,
    positions: Any = None,
    together: bool = False,
    direction: str | Sequence[str] = "denoise",
    metric: str | None = None,
    tokenizer: Any = None,
    max_rows: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> PatchingFinding:
    """Put activations of one run into the other, site by site and position by position.

    To denoise, the corrupt run gets one activation of the clean run: how much of the right answer
    comes back? To noise, the clean run gets one of the corrupt run: how much is lost? 0 is nothing,
    1 is all that lies between the two runs.

    Args:
        model: A decoder with logits; it is left as it was.
        clean: Prompts that the model answers right: texts, ids or a batch.
        corrupt: For each clean prompt one of as many tokens that asks for something else.
        answers: The right answers to the clean prompts.
        wrong: The right answers to the corrupt prompts.
        sites: Kinds (``"resid_post"``, ``"mlp_out"``, ``"z"``), sites or patterns; None: the stream
            into each block, attention and MLP. ``z q k v`` are patched head by head, at all
            positions at once unless positions are named.
        positions: Where; None: at every position, each by itself (all prompts then have the same
            length). Also a number, a part of the prompts, a list of these, ``"all"`` for all
            positions at once, or ``{name: position or one position for each prompt}``.
        together: Also patch all positions at once.
        direction: ``"denoise"``, ``"noise"`` or ``"both"``.
        metric: ``"logit_diff"`` (right against wrong answer; the default where wrong answers are
            given), ``"logprob"``, ``"prob"`` of the right answer, or ``"kl"`` from the clean run.
            Answers of several tokens are scored as sequences.
        tokenizer: Defaults to the model's own.
        max_rows: Pairs that are recorded together.
        seed: Of the intervals.
        progress: Whether to show a bar.

    Returns:
        A `PatchingFinding`; docs/patching.md explains its columns.

    Raises:
        IndexError: a position outside a prompt.
        LookupError: a site the model does not have; a part that a prompt does not have.
        ValueError: pairs of unequal length, answers that do not fit, an unknown metric or direction.
    """
    started = time.perf_counter()
    ways = ways_of(direction)
    pairs = as_pairs(model, clean, corrupt, answers, wrong, metric=metric, tokenizer=tokenizer)
    places = places_of(pairs.clean, positions, others=pairs.corrupt, together=together)
    with undisturbed(model):
        chosen = sites_of(model, sites)
        shapes = shapes_of(model, pairs, chosen)
        cells = cells_of(chosen, places, shapes, head_places(places, positions))
        patcher = Patcher(model, pairs, cells, ways)
        patcher.run(max_rows, progress)
    found = table_of(pairs, cells, patcher.ends, patcher.values, seed=seed)
    return PatchingFinding(
        table=found,
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(pairs):,} pairs of prompts",
            parameters={
                "sites": sites or list(dict.fromkeys(cell.kind for cell in cells)),
                "positions": [place.label for place in places],
                "direction": ways,
                "metric": pairs.metric,
                **patcher.costs(),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*notes_of(pairs, patcher.ends, ways), *pairs.notes, *patcher.notes),
    )


def shapes_of(model: nn.Module, pairs: Pairs, sites: Sequence[str]) -> dict[str, torch.Size]:
    """What the sites hold, from one short pass."""
    with capture(model, list(sites)) as seen:
        model(input_ids=pairs.clean.ids[0][None, :1].to(pairs.device))
    return {site: seen[site].shape for site in sites}


@dataclass(eq=False)
class Patcher:
    """Runs every cell on every pair."""

    model: nn.Module
    pairs: Pairs
    cells: Sequence[Cell]
    ways: Sequence[str]
    evaluations: float = 0.0
    """Layer-evaluations so far."""
    noise: float = 0.0
    notes: tuple[str, ...] = ()
    rows: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)
    """Direction -> `[cells, pairs]` metric after the patch."""
    ends: dict[str, Tensor] = field(default_factory=dict)
    """``"clean"`` and ``"corrupt"`` -> `[pairs]` metric of the untouched runs."""

    def __post_init__(self) -> None:
        pairs, cells = len(self.pairs), len(self.cells)
        self.values = {way: torch.zeros(cells, pairs, dtype=torch.double) for way in self.ways}
        self.ends = {end: torch.zeros(pairs, dtype=torch.double) for end in ("clean", "corrupt")}

    def run(self, max_rows: int, progress: bool) -> None:
        """Fill `values` and `ends`."""
        from tqdm.auto import tqdm

        steps = len(self.pairs) * len(self.ways)
        with tqdm(total=steps, desc="patching", unit="pair", disable=not progress) as bar:
            for batch in self.pairs.batches(max_rows):
                self._batch(batch, bar)

    def costs(self) -> dict[str, Any]:
        """What was computed, and what a loop of whole passes would have."""
        blocks = len(anatomy(self.model).blocks)
        passes = self.rows * (2 + len(self.cells) * len(self.ways))
        return {
            "layer_evaluations": round(self.evaluations, 3),
            "layer_evaluations_by_whole_passes": passes * blocks,
            "noise_floor": self.noise,
        }

    def _batch(self, batch: PairBatch, bar: Any) -> None:
        sites = list(dict.fromkeys(cell.site for cell in self.cells))
        runs = {
            "clean": record(self.model, batch.clean, keep=sites),
            "corrupt": record(self.model, batch.corrupt, keep=sites),
        }
        self.rows += len(batch.prompt)
        self.evaluations += sum(len(run) * run.n_blocks for run in runs.values())
        measure = with_reference(batch, runs["clean"])
        for end, run in runs.items():
            self.ends[end] += measure(run.logits[:, -measure.last :])[0].cpu()
        for way in self.ways:
            to, other = ("corrupt", "clean") if way == "denoise" else ("clean", "corrupt")
            source = {site: runs[other][site] for site in sites}
            what_ifs = [cell.change(source, batch.prompt) for cell in self.cells]
            for start, logits in self._answers(runs[to], what_ifs, measure.last):
                value = measure(logits).cpu()
                self.values[way][start : start + len(value)] += value
            bar.update(len(batch.prompt) / max(1, self._shared(batch)))

    def _shared(self, batch: PairBatch) -> float:
        """How many rows a pair has, for the bar: right and wrong answer may need one each."""
        return len(batch.prompt) / len(set(batch.prompt.tolist()))

    def _answers(
        self, run: Recording, what_ifs: Sequence[Any], last: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Logits of all what-ifs, as many at once as are easily held."""
        size = max(1, ANSWER_BYTES // (4 * last * len(run) * run.logits.shape[-1]))
        for start in range(0, len(what_ifs), size):
            out = run.lanes(what_ifs[start : start + size], last=last)
            self.evaluations += out.evaluations
            self.noise = max(self.noise, out.noise)
            self.notes = tuple(dict.fromkeys([*self.notes, *out.notes]))
            yield start, out.logits


def with_reference(batch: PairBatch, clean: Recording) -> Measure:
    """The batch's measure, knowing what the clean run said."""
    reference = clean.logits[:, -1].double().log_softmax(-1)
    return (
        replace(batch.measure, reference=reference)
        if batch.measure.answers is None
        else batch.measure
    )


def ways_of(direction: str | Sequence[str]) -> list[str]:
    """The directions that were asked for.

    Raises:
        ValueError: an unknown one.
    """
    asked = [direction] if isinstance(direction, str) else list(direction)
    asked = list(DIRECTIONS) if asked == ["both"] else asked
    wrong = [way for way in asked if way not in DIRECTIONS]
    if wrong or not asked:
        raise ValueError(f"direction is 'denoise', 'noise' or 'both', not {direction!r}")
    return list(dict.fromkeys(asked))
