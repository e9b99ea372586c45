"""`concept_erasure`: take a label out of a layer; can it still be read, and does the model miss it?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from layerscope.analyses.erasing.concept_erasure_finding import ConceptErasureFinding
from layerscope.analyses.erasing.concept_erasure_table import Lines
from layerscope.analyses.erasing.decodable import Held
from layerscope.analyses.erasing.effects import Job
from layerscope.analyses.erasing.erasers import Erased, erasers_at
from layerscope.analyses.erasing.jobs import job_of, texts_of
from layerscope.analyses.erasing.scrubbing import Scrubbed, scrub
from layerscope.finding import Provenance
from layerscope.hooks.prompts import in_force
from layerscope.probes.erasers.fitting import METHODS
from layerscope.probes.reading.labels import Task, label_of
from layerscope.probes.reading.rows import Pieces, plan
from layerscope.probes.reading.sources import Layers, Source, source_of, spelled
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.probes.solving.engine import Solver
from layerscope.store.origin import provenance_of

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples

DEFAULT_TEXTS = 1000
"""Of the bundled sentences, where no data are given."""


def concept_erasure(
    model: nn.Module,
    data: Corpus | Samples | Any = None,
    layer: Layers = "all",
    *,
    label: str | None = None,
    methods: str | Sequence[str] = ("leace", "inlp"),
    task: Task | None = None,
    draws: int = 5,
    where: str | None = None,
    scrubbing: bool = False,
    loss: Callable[[Any, Any], Tensor] | None = None,
    pieces: Pieces = "all",
    folds: int = 5,
    max_rows: int = 20_000,
    max_texts: int = 200,
    solver: Solver = "auto",
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> ConceptErasureFinding:
    """Erase a label at each site, and see what a probe and what the model itself loses.

    Erasers are fitted on four fifths of the groups. On the others, a fresh linear probe says whether
    the label can still be read, and the model runs with the eraser at that site (every position
    but special tokens), one site at a time.

    Args:
        model: A language model, of the next token or of gaps; any other with `loss`. Not altered.
        data: A corpus with the label, or what `layerscope.read` accepts; None takes the first 1,000
            bundled sentences.
        layer: Sites, as `probe` takes them.
        label: What is erased, classes or numbers; None takes the only one, or ``upos``.
        methods: Of ``leace``, ``inlp``, ``mean_difference``.
        task: ``"class"`` or ``"number"``; None decides by the values.
        draws: Controls of either kind: as many random directions, and as many random directions
            that carry as much variance.
        where: A pandas query on the store's rows, such as ``"upos == 'AUX'"``: the loss on predictions of
            those tokens gets lines of its own.
        scrubbing: Also erase every site at once, each fitted while those below are erased; the
            sites should be ``resid_post``.
        loss: ``loss(output, batch)`` -> ``[batch]``, instead of the loss on tokens.
        pieces: As in `probe`; all pieces of a word, since the eraser meets them all.
        folds: One fold of groups is held out.
        max_rows: Rows for erasers and probes; above it, whole groups are left out at random.
        max_texts: Held-out texts that the model reads, at random.
        solver: As in `probe`.
        tokenizer: As in `probe`.
        seed: Of folds, controls, texts, gaps and intervals.
        progress: Whether to show bars.

    Returns:
        A `ConceptErasureFinding`: ``decodable`` and ``used`` lines for each site and method.

    Raises:
        LookupError: no such label or site.
        ValueError: a method that does not exist, a model that predicts no tokens without `loss`,
            and what `probe` refuses.
    """
    from tqdm.auto import tqdm

    started = time.perf_counter()
    chosen = _checked(methods, draws)
    corpus = _corpus(data)
    source = source_of(
        model, layer, corpus, label=label, tokenizer=tokenizer, seed=seed, progress=progress
    )
    held = Held(
        plan(
            source.store,
            label_of(source.store, label),
            task=task,
            pieces=pieces,
            folds=folds,
            max_rows=max_rows,
            seed=seed,
        ),
        solver,
        seed,
    )
    job, notes = job_of(model, corpus, source.store, held, where, loss, tokenizer, max_texts, seed)
    lines = Lines(held, own_loss=loss is not None)
    sites = tqdm(source.sites, "concept_erasure", unit="site", disable=not progress)
    for site in sites:
        x = source.store[site][held.plan.index]
        check_finite(site, x, held.plan.index)
        found = erasers_at(site, x.float().cpu(), held, chosen, draws, seed)
        _measure(lines, site, x, found, held, job)
    if scrubbing:
        texts = texts_of(model, corpus, tokenizer)
        steps = scrub(model, texts, source.store.rows, held, source.sites, draws, seed)
        _scrub(
            lines,
            tqdm(steps, "scrubbing", len(source.sites), unit="site", disable=not progress),
            job,
        )
    return ConceptErasureFinding(
        table=lines.table(),
        provenance=_provenance(source, held, chosen, draws, where, scrubbing, layer, seed, started),
        notes=tuple(
            dict.fromkeys(
                [*source.store.notes, *held.plan.notes, *in_force(model), *notes, *lines.notes()]
            )
        ),
    )


def _checked(methods: str | Sequence[str], draws: int) -> tuple[str, ...]:
    listed = (methods,) if isinstance(methods, str) else tuple(methods)
    known = tuple(name for name in METHODS if name != "random")
    wrong = [name for name in listed if name not in known]
    if wrong or not listed:
        raise ValueError(f"methods are of {', '.join(known)}, not {', '.join(wrong) or 'none'}")
    if draws < 2:
        raise ValueError(f"draws must be at least 2, to see how controls vary; got {draws}")
    return listed


def _corpus(data: Any) -> Any:
    from layerscope.corpus import bundled, read

    return bundled().take(DEFAULT_TEXTS) if data is None else read(data)


def _measure(
    lines: Lines, site: str, x: Tensor, found: dict[str, Erased], held: Held, job: Job
) -> None:
    before = held.score(x)
    everything = [one for erased in found.values() for one in erased.all]
    effects = job.effects([{site: one} for one in everything])
    taken = 0
    for method, erased in found.items():
        scores = [held.score(one(x), before.weights) for one in erased.all]
        lines.decodable(site, method, erased, before, scores)
        part = np.arange(taken, taken + len(erased.all))
        lines.used(site, method, erased, effects, part)
        taken += len(part)


def _scrub(lines: Lines, steps: Iterable[Scrubbed], job: Job) -> None:
    done = list(steps)
    for step in done:
        lines.rederived(step)
    draws = min(len(step.erased.random) for step in done)
    kinds = [
        {step.site: step.erased.eraser for step in done},
        *({step.site: step.erased.random[i] for step in done} for i in range(draws)),
        *({step.site: step.erased.matched[i] for step in done} for i in range(draws)),
    ]
    lines.scrubbed(done, job.effects(kinds))


def _provenance(
    source: Source,
    held: Held,
    methods: Sequence[str],
    draws: int,
    where: str | None,
    scrubbing: bool,
    layer: Layers,
    seed: int,
    started: float,
) -> Provenance:
    parameters = {
        "layer": spelled(layer),
        "label": held.plan.label,
        "task": held.plan.task,
        "methods": list(methods),
        "draws": draws,
        "where": where,
        "scrubbing": scrubbing,
        "folds": held.plan.folds,
    }
    said = ("label", "methods", "draws", "where", "scrubbing")
    options = "".join(f", {name}={parameters[name]!r}" for name in said)
    return provenance_of(
        source.store,
        call=f"concept_erasure(model, data, {parameters['layer']!r}{options}, seed={seed})",
        parameters=parameters,
        seed=seed,
        started=started,
    )
