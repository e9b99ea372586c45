"""Answers of other prompts, for controls that make the same tries for a wrong answer."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from random import Random

from layerscope.analyses.material.answers import Answers, Ids

Targets = dict[int, tuple[Ids, ...]]
"""Prompt -> the alternatives that count."""


def targets_of(answers: Answers) -> Targets:
    """Every prompt with its own answers."""
    return dict(enumerate(answers.ids))


def shuffled(answers: Answers, alike: Sequence[Hashable] | None, seed: int) -> Targets:
    """For each prompt the answers of another one, of which none is its own.

    Args:
        alike: Labels; the other prompt has the same one. Prompts for which there is no other answer
            are left out.
    """
    random = Random(f"{seed}/shuffled")
    found = {}
    for i, own in enumerate(answers.ids):
        others = [
            options
            for j, options in enumerate(answers.ids)
            if not set(options) & set(own) and (alike is None or alike[j] == alike[i])
        ]
        if others:
            found[i] = random.choice(others)
    return found
