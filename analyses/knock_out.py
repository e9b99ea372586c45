"""`knock_out`: which tokens does a token have to see, and in which blocks?

Attention knock-out over windows of blocks: Geva et al. 2023 ("Dissecting Recall of Factual
Associations"), Kim et al. 2026 ("Map the Flow").
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.analyses.material.answers import AnswerBatch, Answers, as_answers, extended, score
from layerscope.analyses.material.decoders import require_decoder
from layerscope.analyses.patches.flows import Flow, flows_of
from layerscope.analyses.patches.knock_out_finding import KnockOutFinding
from layerscope.analyses.patches.knock_out_table import Cut, table_of
from layerscope.analyses.patches.windows import window as blocks_of
from layerscope.finding import Provenance
from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts, as_prompts
from layerscope.hooks.quiet import undisturbed
from layerscope.hooks.replay import record

WINDOW = 9
STYLES = ("centre", "top_down", "bottom_up")


def knock_out(
    model: nn.Module,
    prompts: Any,
    answers: Sequence[Any] | None = None,
    *,
    flows: Mapping[str, tuple[Any, Any]] | None = None,
    window: int = WINDOW,
    style: str = "centre",
    heads: Any = None,
    known: bool = True,
    tokenizer: Any = None,
    max_rows: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> KnockOutFinding:
    """Forbid some positions to attend to others in a window of blocks, and see what becomes of the
    answer.

    Args:
        model: A decoder with logits; it is left as it was.
        prompts: Texts, ids or a batch.
        answers: The right answers. None: the token that the model finds likeliest, of each prompt.
        flows: ``{name: (queries, keys)}``, each a position, a part of the prompts (all tokens of
            its last occurrence), or a tuple or range of these; a list has one entry for each
            prompt. None: from the last position to every position, one by one (prompts of equal
            length).
        window: Blocks in a window around each centre; at the ends of the model it is cut off.
        style: ``"centre"``; ``"top_down"``: from the block to the last; ``"bottom_up"``: from the
            first to the block.
        heads: Query heads that are blinded; None: all.
        known: Leave out prompts that the model does not answer right.
        tokenizer: Defaults to the model's own.
        max_rows: Prompts that are recorded together.
        seed: Of the intervals.
        progress: Whether to show a bar over prompts.

    Returns:
        A `KnockOutFinding`; docs/patching.md explains its columns.

    Raises:
        IndexError: a position outside a prompt.
        LookupError: a part that a prompt does not have; a model without attention patterns.
        ValueError: a query that is left without any key, no prompt that is answered right, an
            unknown style.
    """
    started = time.perf_counter()
    if style not in STYLES:
        raise ValueError(f"style is one of {', '.join(STYLES)}, not {style!r}")
    asked = as_prompts(model, prompts, tokenizer)
    require_decoder(model, asked)
    wanted = _answers(model, asked, answers)
    found = flows_of(asked, flows)
    cutter = Cutter(model, asked, wanted, found, window, style, heads)
    with undisturbed(model), torch.no_grad():
        cutter.run(max_rows, known, progress)
    table, said = table_of(cutter.cuts, found, cutter.windows(), own=answers is None, seed=seed)
    return KnockOutFinding(
        table=table,
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(asked):,} prompts",
            parameters={
                "flows": [flow.name for flow in found],
                "window": window,
                "style": style,
                "heads": heads,
                "known": known,
                **cutter.costs(),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*said, *asked.notes, *wanted.notes, *cutter.notes),
    )


@dataclass(eq=False)
class Cutter:
    """Runs every window of every flow on every prompt."""

    model: nn.Module
    prompts: Prompts
    answers: Answers
    flows: Sequence[Flow]
    width: int
    style: str
    heads: Any
    evaluations: float = 0.0
    naive: float = 0.0
    floor: float = 0.0
    notes: tuple[str, ...] = ()
    cuts: list[Cut] = field(default_factory=list)
    """One for each prompt that counts."""
    left_out: int = 0

    def run(self, max_rows: int, known: bool, progress: bool) -> None:
        """Fill `cuts`."""
        from tqdm.auto import tqdm

        self.blocks = len(anatomy(self.model).blocks)
        self.device = device_of(self.model)
        with tqdm(
            total=len(self.prompts), desc="knock-out", unit="prompt", disable=not progress
        ) as bar:
            for batch in extended(self.prompts, _firsts(self.answers), max_rows):
                self._batch(batch, known)
                bar.update(len(batch.prompt))
        self.cuts.sort(key=lambda cut: cut.prompt)
        if not any(cut.counts for cut in self.cuts):
            raise ValueError(
                "the model answers none of the prompts right, so there is nothing to lose; "
                "known=False cuts all the same, and answers=None follows the model's own answers"
            )

    def windows(self) -> list[tuple[int, int]]:
        """For each block the window around it, first and end."""
        if self.style == "centre":
            return [blocks_of(i, self.width, self.blocks) for i in range(self.blocks)]
        down = self.style == "top_down"
        return [(i, self.blocks) if down else (0, i + 1) for i in range(self.blocks)]

    def costs(self) -> dict[str, Any]:
        """What was computed, and what a loop of whole passes would have."""
        return {
            "layer_evaluations": round(self.evaluations, 3),
            "layer_evaluations_by_whole_passes": self.naive,
            "noise_floor": self.floor,
        }

    def _batch(self, batch: AnswerBatch, known: bool) -> None:
        ids = batch.input_ids.to(self.device)
        run = record(self.model, ids)
        self.evaluations += len(run) * self.blocks
        whole = score(run.logits[:, -batch.k :], batch.answer_ids)
        counts = whole.correct.cpu() | torch.tensor(not known)
        cuts = [
            Cut(int(i), bool(counts[row]), float(whole.logprob[row]), len(self.flows), self.blocks)
            for row, i in enumerate(batch.prompt)
        ]
        self.cuts += cuts
        # Windows that are cut off at the ends of the model may be the same: they run once.
        windows = list(dict.fromkeys(self.windows()))
        rows = torch.nonzero(counts).flatten()
        if not len(rows):
            return
        for number, flow in enumerate(self.flows):
            for part in flow.alike(batch.prompt, rows):
                logprob, correct = self._lanes(run, batch, flow, part, windows)
                for column, row in enumerate(part.tolist()):
                    cuts[row].fill(
                        number, self.windows(), windows, logprob[:, column], correct[:, column]
                    )
        self.naive += len(rows) * self.blocks * self.blocks * len(self.flows)

    def _lanes(
        self, run: Any, batch: AnswerBatch, flow: Flow, rows: Tensor, windows: Sequence[Any]
    ) -> tuple[Tensor, Tensor]:
        """`[windows, rows]` log probability, and whether the answer is still the likeliest."""
        queries, keys = flow.at(int(batch.prompt[rows[0]]), batch.length, batch.k)
        change = edits.cut(queries, keys, self.heads)
        what_ifs = [{f"blocks.{i}.pattern": change for i in range(*ends)} for ends in windows]
        out = run.lanes(what_ifs, of=[rows] * len(what_ifs), last=batch.k)
        self.evaluations += out.evaluations
        self.floor = max(self.floor, out.noise)
        self.notes = tuple(dict.fromkeys([*self.notes, *out.notes]))
        rated = score(out.logits, batch.answer_ids[out.of])
        shape = (len(windows), len(rows))
        return rated.logprob.double().cpu().view(shape), rated.correct.cpu().view(shape)


def _answers(model: nn.Module, prompts: Prompts, answers: Sequence[Any] | None) -> Answers:
    if answers is not None:
        return as_answers(model, prompts, answers)
    own: list[int] = [0] * len(prompts)
    with undisturbed(model), torch.no_grad():
        for indices, batch in prompts.batches():
            logits = record(model, batch["input_ids"].to(device_of(model))).logits[:, -1]
            for i, token in zip(indices.tolist(), logits.argmax(-1).tolist(), strict=True):
                own[i] = token
    return as_answers(model, prompts, own)


def _firsts(answers: Answers) -> Answers:
    return Answers(
        tuple(options[:1] for options in answers.ids),
        tuple(options[:1] for options in answers.texts),
    )
