"""States that know nothing of the prompt: those of other prompts, and noise of the same norm."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.back_patches.back_patching_finding import NOISE, OTHER
from layerscope.analyses.back_patches.back_patching_places import Places
from layerscope.analyses.material.answers import Answers
from layerscope.hooks.capture import capture
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts
from layerscope.hooks.quiet import evaluating


@dataclass(frozen=True, eq=False)
class Control:
    """States to bring in place of a prompt's own, for as many tries."""

    kind: str
    states: Callable[[Sequence[int], Tensor], Tensor]
    """``states(prompts, own)``: what to bring, of the shape of `own` ``[L, b, k, d]``."""


@dataclass(frozen=True, eq=False)
class Donors:
    """For each draw and prompt, the unrelated prompt whose states are brought to it."""

    of: tuple[tuple[int, ...], ...]
    """Draws of one donor for each prompt; empty where all prompts are the same."""
    notes: tuple[str, ...]


def donors(
    prompts: Prompts,
    answers: Answers,
    alike: Sequence[Hashable] | None,
    *,
    draws: int,
    seed: int,
) -> Donors:
    """Draw for each prompt another one that differs from it, of the same label in `alike`."""
    labels = [None] * len(prompts) if alike is None else list(alike)
    tokens = [tuple(ids.tolist()) for ids in prompts.ids]
    if len(set(tokens)) < 2:
        why = "there is only one prompt" if len(tokens) == 1 else "all prompts are the same"
        return Donors((), (f"{why}, so there are no states of other prompts for the control",))
    members: dict[Hashable, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    generator = np.random.default_rng(seed)
    found, alone = [], set()
    for _ in range(draws):
        draw = []
        for i, label in enumerate(labels):
            donor = _drawn(i, members[label], tokens, generator)
            if donor is None:
                alone.add(i)
                donor = _drawn(i, range(len(tokens)), tokens, generator)
            assert donor is not None  # at least two prompts differ
            draw.append(donor)
        found.append(tuple(draw))
    return Donors(tuple(found), tuple(_donor_notes(found, answers, alike, alone)))


def other_states(
    model: nn.Module, prompts: Prompts, places: Places, found: Donors, *, max_rows: int
) -> list[Control]:
    """One control for each draw of donors; runs every prompt once, up to the last block."""
    if not found.of:
        return []
    states = _states(model, prompts, places, max_rows)

    def control(draw: Sequence[int]) -> Control:
        def bring(whose: Sequence[int], own: Tensor) -> Tensor:
            donated = [_of_size(states[draw[i]], own.shape[2]) for i in whose]
            return torch.stack(donated, 1).to(own)

        return Control(OTHER, bring)

    return [control(draw) for draw in found.of]


def noise_states(*, draws: int, seed: int) -> list[Control]:
    """Random directions, each with the norm of the state it stands for; own ones for each draw."""

    def control(draw: int) -> Control:
        def bring(whose: Sequence[int], own: Tensor) -> Tensor:
            blocks, _, size, width = own.shape
            drawn = [_noise((seed, draw, i), (blocks, size, width)) for i in whose]
            directions = torch.stack(drawn, 1).to(own.device)
            norms = own.float().norm(dim=-1, keepdim=True)
            noise: Tensor = directions / directions.norm(dim=-1, keepdim=True) * norms
            return noise.to(own.dtype)

        return Control(NOISE, bring)

    return [control(draw) for draw in range(draws)]


def _drawn(
    i: int, among: Sequence[int], tokens: Sequence[tuple[int, ...]], generator: np.random.Generator
) -> int | None:
    """A member whose prompt differs; None where there is none."""
    for _ in range(10):
        one = among[int(generator.integers(len(among)))]
        if tokens[one] != tokens[i]:
            return one
    different = [j for j in among if tokens[j] != tokens[i]]
    return different[int(generator.integers(len(different)))] if different else None


def _donor_notes(
    found: Sequence[Sequence[int]],
    answers: Answers,
    alike: Sequence[Hashable] | None,
    alone: set[int],
) -> list[str]:
    same = [
        bool(set(answers.ids[i]) & set(answers.ids[donor]))
        for draw in found
        for i, donor in enumerate(draw)
    ]
    among = "any other prompt" if alike is None else "another prompt of the same kind"
    what = (
        f"control 'other prompt': the same tries with the states of {among}, drawn at random; "
        f"{np.mean(same):.0%} of those drawn have the same right answer"
    )
    notes = [what]
    if alone:
        notes.append(f"{len(alone)} prompts are the only ones of their kind; any other was drawn")
    return notes


def _states(model: nn.Module, prompts: Prompts, places: Places, max_rows: int) -> dict[int, Tensor]:
    """Output of every block at the places of each prompt, [L, k, d]."""
    found = {}
    for indices, batch in prompts.batches(max_rows):
        ids = batch["input_ids"].to(device_of(model))
        with evaluating(model), torch.no_grad(), capture(model, "all", stop=True) as seen:
            model(input_ids=ids)
        stream = torch.stack(list(seen.values()))
        for row, i in enumerate(indices.tolist()):
            found[i] = stream[:, row, list(places[i])]
    return found


def _of_size(states: Tensor, size: int) -> Tensor:
    """The last `size` positions; where a donor has fewer, its first one again."""
    missing = size - states.shape[1]
    if missing > 0:
        states = torch.cat([states[:, :1].expand(-1, missing, -1), states], 1)
    return states[:, -size:]


def _noise(seed: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return torch.randn(shape, generator=torch.Generator().manual_seed(number))
