"""Integrated gradients: how many evaluations the midpoint rule needs to be as complete as 256 left ends.

For every prompt and layer, the fewest midpoints whose completeness error is at most that of the
left rule with 256 steps (Csordás et al. 2025), counted in layer-evaluations. Three kinds of answers: those of the
bundled model's facts, which are certain (left ends then hardly err, for the function is flat at both
ends of the path), and next tokens of a story and a book model, which are not; those two are skipped
where ../shared/data is absent.
`python benchmarks/integrated_gradients.py [--quick]`
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _common import save
from torch import nn

from layerscope import demo
from layerscope.analyses.depth.token_maps import Case, cases
from layerscope.analyses.integrated_gradients import path
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import load_model
from layerscope.hooks.prompts import as_prompts
from layerscope.hooks.replay import Recording, record

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LEFT = 256
MIDPOINTS = (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 256)
TEXTS = (
    "Once upon a time, there was a little girl named Lily. She liked to play",
    "Tom had a red ball. He liked to play with it in the",
    "The dog saw a cat and ran",
    "One day, the sun was very hot and the bird wanted to",
    "It was a dark night, and the rain fell upon",
    "She said that she would not go to the",
)


def facts(count: int) -> Iterator[tuple[Recording, Case, list[str]]]:
    """Questions that the bundled model answers."""
    model, tokenizer = demo.load_model(), demo.load_tokenizer()
    asked = [q for q in demo.questions() if q.hops == 2 and q.seen][:count]
    prompts = as_prompts(model, [q.prompt for q in asked], tokenizer)
    found, _ = cases(model, prompts, [q.answer for q in asked])
    for case in found:
        yield record(model, case.ids), case, sites(model)


def stories(folder: Path, count: int) -> Iterator[tuple[Recording, Case, list[str]]]:
    """Texts, and the likeliest next token of each."""
    model = load_model(folder)
    prompts = as_prompts(model, list(TEXTS[:count]))
    for i, ids in enumerate(prompts.ids):
        run = record(model, ids)
        likeliest = run.logits[0, -1].argmax()[None]
        yield run, Case(i, ids, len(ids), likeliest), sites(model)


def sites(model: nn.Module) -> list[str]:
    """The last block's output is left out: nothing but the head follows."""
    return [f"blocks.{i}.resid_post" for i in range(len(anatomy(model).blocks) - 1)]


def measure(kind: str, given: Iterator[tuple[Recording, Case, list[str]]]) -> dict[str, Any]:
    """Over all prompts and layers of one kind."""
    ratios, steps, errors = [], [], []
    for run, case, where in given:
        for site in where:
            choices: dict[str, Any] = {"last": case.k}
            left = path(run, site, case.probability, steps=LEFT, rule="left", **choices)
            for count in MIDPOINTS:
                found = path(run, site, case.probability, steps=count, **choices)
                if abs(found.error) <= abs(left.error):
                    break
            steps.append(count)
            errors.append(abs(left.error))
            ratios.append(left.evaluations / found.evaluations)
    line = {
        "kind": kind,
        "paths": len(steps),
        "left_error_median": statistics.median(errors),
        "midpoints_median": statistics.median(steps),
        "fewer_evaluations_median": round(statistics.median(ratios), 2),
        "fewer_evaluations_least": round(min(ratios), 2),
    }
    print(
        f"{kind}: {line['paths']} paths; error of {LEFT} left ends {line['left_error_median']:.1e} "
        f"(median), reached by {line['midpoints_median']:.0f} midpoints: "
        f"{line['fewer_evaluations_median']:.1f} times fewer layer-evaluations "
        f"(least {line['fewer_evaluations_least']:.1f})"
    )
    return line


def main() -> None:
    count = 2 if "--quick" in sys.argv else 6
    lines = [measure("facts, answer certain", facts(count))]
    for kind, folder in (
        ("stories, next token", DATA / "stories260K" / "hf"),
        ("books, next token", DATA / "gpt2_books_steps" / "step2048"),
    ):
        if folder.is_dir():
            lines.append(measure(kind, stories(folder, count)))
    if "--quick" not in sys.argv:
        save("integrated_gradients", {"left_steps": LEFT, "kinds": lines})


if __name__ == "__main__":
    main()
