"""A training run in a few lines, for a prompt and for a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.distribution import many
from layerscope.notebook import card, cared, listing

if TYPE_CHECKING:
    from layerscope.analyses.training.training_run import TrainingRun

MOST_STEPS = 8


def describe(run: TrainingRun) -> str:
    """Networks, snapshots, rows, sites, and the calls to make next."""
    ends = f"{run.steps[0]:,} to {run.steps[-1]:,}" if run.steps else "none yet"
    noise = f"\n  noise: {run.noise}" if run.noise else ""
    return (
        f"{type(run).__name__} {run.name}: {many(len(run.seeds), 'network')}, "
        f"{many(len(run.steps), 'snapshot')} ({run.clock} {ends})\n"
        f"  {_rows(run)}; sites: {', '.join(run.sites)}{noise}\n"
        f"  next: {_next(run)}"
    )


def run_card(run: TrainingRun) -> str:
    """The same as HTML, with the scores at a few snapshots."""
    columns, lines = _scores(run)
    facts = [many(len(run.seeds), "network"), _rows(run), f"sites: {', '.join(run.sites)}"]
    body = listing((run.clock, *columns), lines) + cared(run.notes)
    return card(type(run).__name__, run.name, facts, body, after=_next(run))


def _rows(run: TrainingRun) -> str:
    return f"{many(len(run.rows), 'row')} of {len(run.rows.classes)} classes"


def _next(run: TrainingRun) -> str:
    step, site = run.steps[-1:] or (0,), run.sites[-1:] or ("",)
    return f'analyses.information_plane(run), or run.activations({step[0]}, "{site[0]}")'


def _scores(run: TrainingRun) -> tuple[list[str], list[tuple[float, ...]]]:
    """Names of columns, and for a few snapshots the step and mean scores over networks."""
    last, count = len(run.steps) - 1, min(len(run.steps), MOST_STEPS)
    some = sorted({run.steps[round(i * last / max(count - 1, 1))] for i in range(count)})
    if run.scores is None:
        return [], [(step,) for step in some]
    means = run.scores.groupby(["split", "step"])[["loss", "accuracy"]].mean()
    asked = [(s, name) for s in dict.fromkeys(run.scores["split"]) for name in means]
    lines = [
        (step, *(float(means[name].get((split, step), float("nan"))) for split, name in asked))
        for step in some
    ]
    return [f"{split} {name}" for split, name in asked], lines
