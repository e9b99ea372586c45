"""`causal_tracing`: noise on the subject breaks the answer; which clean state mends it?

Meng et al. 2022, "Locating and Editing Factual Associations in GPT" (ROME).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from layerscope.analyses.material.answers import AnswerBatch, Answers, as_answers, extended, score
from layerscope.analyses.material.decoders import require_decoder
from layerscope.analyses.patches.causal_tracing_finding import CausalTracingFinding
from layerscope.analyses.patches.causal_tracing_table import Trace, known_only, table_of
from layerscope.analyses.patches.patch_cells import kinds_of
from layerscope.analyses.patches.windows import window as blocks_of
from layerscope.finding import Provenance
from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts, as_prompts
from layerscope.hooks.quiet import undisturbed
from layerscope.hooks.replay import Recording, record
from layerscope.hooks.replaying.inputs import accepted

KINDS = ("resid_post", "mlp_out", "attn_out")
WINDOW = 10 / 48
"""The window of Meng et al. as a share of the blocks: 10 of the 48 of GPT-2 XL."""
ANSWER_BYTES = 2**28


def causal_tracing(
    model: nn.Module,
    prompts: Any,
    answers: Sequence[Any],
    subjects: Sequence[Any],
    *,
    noise: float = 3.0,
    samples: int = 10,
    kinds: Sequence[str] | None = None,
    window: int | None = None,
    known: bool = True,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> CausalTracingFinding:
    """Break an answer by noise on its subject, then mend it by one clean state at a time.

    Gaussian noise is added to the token embeddings of the subject. Then, at one position, the
    output of one block (or what the attention or MLP of a window of blocks adds) is set to what it
    was without noise. How much of the lost probability comes back is the indirect effect.

    Args:
        model: A decoder with logits; it is left as it was.
        prompts: Texts, ids or a batch, of any lengths.
        answers: For each prompt its right answer.
        subjects: For each prompt the part that is the subject, or a list of positions.
        noise: Standard deviation of the noise, in standard deviations of the embeddings of all the
            subjects' tokens.
        samples: Draws of the noise; the same ones in every cell.
        kinds: Of ``"resid_post"`` (one block), ``"mlp_out"`` and ``"attn_out"`` (windows of
            blocks); None: all that the model has.
        window: Blocks in a window; None: in the proportion of Meng et al., 10 in 48.
        known: Leave out prompts that the model does not answer right.
        tokenizer: Defaults to the model's own.
        seed: Of the noise and the intervals.
        progress: Whether to show a bar over prompts.

    Returns:
        A `CausalTracingFinding`; docs/patching.md explains its columns.

    Raises:
        LookupError: a subject that its prompt does not have.
        ValueError: counts that do not fit, no prompt that is answered right, a model that takes no
            embeddings as input.
    """
    started = time.perf_counter()
    if samples < 1:
        raise ValueError(f"samples is at least 1, got {samples}")
    if not noise > 0:
        raise ValueError(f"noise is a positive number, got {noise}")
    asked = as_prompts(model, prompts, tokenizer)
    wanted = as_answers(model, asked, answers)
    require_decoder(model, asked)
    _require_embeddings(model)
    spans = _spans(asked, subjects)
    blocks = len(anatomy(model).blocks)
    width = max(1, round(WINDOW * blocks)) if window is None else window
    chosen = tuple(kinds or (kind for kind in KINDS if kind in kinds_of(model)))
    tracer = Tracer(model, asked, wanted, spans, chosen, width, noise, samples, seed)
    with undisturbed(model):
        tracer.run(known, progress)
    kept, said = known_only(tracer.traces, known)
    table = table_of(kept, asked, chosen, width, seed=seed)
    return CausalTracingFinding(
        table=table,
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(asked):,} prompts",
            parameters={
                "noise": noise,
                "noise_sd": tracer.sigma,
                "samples": samples,
                "kinds": list(chosen),
                "window": width,
                "known": known,
                **tracer.costs(),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*said, *_notes(kept, samples), *asked.notes, *wanted.notes, *tracer.notes),
    )


@dataclass(eq=False)
class Tracer:
    """Traces prompts one by one: all cells and noises of a prompt are rows of one sweep."""

    model: nn.Module
    prompts: Prompts
    answers: Answers
    spans: Sequence[Sequence[int]]
    kinds: tuple[str, ...]
    width: int
    noise: float
    samples: int
    seed: int
    sigma: float = 0.0
    """Standard deviation of the noise, in units of the embeddings."""
    evaluations: float = 0.0
    naive: float = 0.0
    floor: float = 0.0
    notes: tuple[str, ...] = ()
    traces: list[Trace] = field(default_factory=list)

    def run(self, known: bool, progress: bool) -> None:
        """Fill `traces`, one for each prompt."""
        from tqdm.auto import tqdm

        self.blocks = len(anatomy(self.model).blocks)
        self.device = device_of(self.model)
        self.embed: Any = cast(Any, self.model).get_input_embeddings()
        with torch.no_grad():
            self.sigma = self.noise * float(self._subject_embeddings().std())
            draws = self._draws()
            batches = {int(b.prompt[0]): b for b in self._single()}
            for i in tqdm(
                range(len(self.prompts)), desc="tracing", unit="prompt", disable=not progress
            ):
                self.traces.append(self._trace(i, batches[i], draws[i], known))

    def costs(self) -> dict[str, Any]:
        """What was computed, and what a loop of whole passes would have."""
        return {
            "layer_evaluations": round(self.evaluations, 3),
            "layer_evaluations_by_whole_passes": self.naive,
            "noise_floor": self.floor,
        }

    def _single(self) -> list[AnswerBatch]:
        """One batch for each prompt, with the first alternative of its answer."""
        firsts = Answers(
            tuple(options[:1] for options in self.answers.ids),
            tuple(options[:1] for options in self.answers.texts),
        )
        return list(extended(self.prompts, firsts, max_rows=1))

    def _subject_embeddings(self) -> Tensor:
        """`[tokens, d]` of all subjects."""
        ids = torch.cat([x[list(s)] for x, s in zip(self.prompts.ids, self.spans, strict=True)])
        found: Tensor = self.embed(ids.to(self.device)).float()
        if found.numel() < 2 or float(found.std()) == 0:
            raise ValueError("the embeddings of the subjects do not vary, so noise has no scale")
        return found

    def _draws(self) -> list[Tensor]:
        """For each prompt `[samples, subject tokens, d]`; its own, whatever prompts come with it."""
        width = self.embed.weight.shape[1]
        found = []
        for span in self.spans:
            generator = torch.Generator().manual_seed(self.seed)
            found.append(torch.randn(self.samples, len(span), width, generator=generator))
        return found

    def _trace(self, i: int, batch: AnswerBatch, draw: Tensor, known: bool) -> Trace:
        ids = batch.input_ids.to(self.device)
        clean = record(self.model, {"input_ids": ids}, keep=self._sites())
        self.evaluations += self.blocks
        whole = score(clean.logits[:, -batch.k :], batch.answer_ids)
        trace = Trace(i, self.spans[i], batch.length, float(whole.prob[0]), bool(whole.correct[0]))
        if known and not trace.correct:
            return trace
        broken = record(self.model, {"inputs_embeds": self._noised(ids, self.spans[i], draw)})
        self.evaluations += self.blocks * self.samples
        lost = score(broken.logits[:, -batch.k :], batch.answer_ids.expand(self.samples, -1))
        trace.corrupt = float(lost.prob.double().mean())
        trace.restored = self._restored(clean, broken, batch)
        self.naive += self.blocks * self.samples * (1 + trace.restored.numel()) + self.blocks
        return trace

    def _sites(self) -> list[str]:
        return [f"blocks.*.{kind}" for kind in self.kinds]

    def _noised(self, ids: Tensor, span: Sequence[int], draw: Tensor) -> Tensor:
        """`[samples, p, d]` what the embedding module gives, with noise on the subject."""
        embedded: Tensor = self.embed(ids).repeat(self.samples, 1, 1)
        embedded[:, list(span)] += self.sigma * draw.to(embedded)
        return embedded

    def _restored(self, clean: Recording, broken: Recording, batch: AnswerBatch) -> Tensor:
        """`[kinds, blocks, positions]` probability of the answer, mean over the noises."""
        cells = [
            self._change(clean, kind, block, at)
            for kind in self.kinds
            for block in range(self.blocks)
            for at in range(batch.length)
        ]
        size = max(1, ANSWER_BYTES // (4 * batch.k * self.samples * clean.logits.shape[-1]))
        found = []
        for start in range(0, len(cells), size):
            out = broken.lanes(cells[start : start + size], last=batch.k)
            rated = score(out.logits, batch.answer_ids.expand(len(out), -1))
            found.append(rated.prob.double().view(-1, self.samples).mean(1).cpu())
            self.evaluations += out.evaluations
            self.floor = max(self.floor, out.noise)
            self.notes = tuple(dict.fromkeys([*self.notes, *out.notes]))
        return torch.cat(found).view(len(self.kinds), self.blocks, batch.length)

    def _change(
        self, clean: Recording, kind: str, block: int, at: int
    ) -> dict[int | str, edits.Change]:
        first, end = (block, block + 1)
        if not kind.startswith("resid"):
            first, end = blocks_of(block, self.width, self.blocks)
        sites = [f"blocks.{i}.{kind}" for i in range(first, end)]
        return {site: edits.swap({site: clean[site]}, at=at) for site in sites}


def _require_embeddings(model: nn.Module) -> None:
    if "inputs_embeds" not in accepted(model) or not hasattr(model, "get_input_embeddings"):
        raise ValueError(
            f"{type(model).__name__} takes no inputs_embeds, so noise cannot be put on its token "
            "embeddings; patching() compares it with a prompt that names another subject"
        )


def _spans(prompts: Prompts, subjects: Sequence[Any]) -> list[list[int]]:
    if isinstance(subjects, str) or len(subjects) != len(prompts):
        count = "a single text" if isinstance(subjects, str) else len(subjects)
        raise ValueError(f"there are {len(prompts)} prompts, but the subjects are {count}")
    found = []
    for i, subject in enumerate(subjects):
        parts = subject if isinstance(subject, (list, tuple, range)) else [subject]
        found.append(sorted({p for part in parts for p in prompts.positions(i, part)}))
        if not found[-1]:
            raise ValueError(
                f"the subject of prompt {i} names no token; write it as it stands in the prompt"
            )
    return found


def _notes(kept: Sequence[Trace], samples: int) -> tuple[str, ...]:
    notes = [f"Each value is a mean over {samples} draws of noise, the same in every cell."]
    weak = sum(trace.clean - trace.corrupt < 0.1 * trace.clean for trace in kept)
    if weak:
        notes.append(
            f"In {weak} of {len(kept)} prompts the noise takes less than a tenth of the answer's "
            "probability, so there is little to mend; more noise may break more."
        )
    if len(kept) == 1:
        notes.append("One prompt: there is no interval, and nothing here is known to be general.")
    return tuple(notes)
