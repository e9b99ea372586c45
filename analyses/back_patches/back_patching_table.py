"""From what every try did to every prompt to the table of the finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from layerscope.analyses.back_patches.back_patching_finding import (
    ALL,
    COLUMNS,
    LIKELIEST,
    NOISE,
    OTHER,
    OWN,
    RIGHT,
    TEXT,
    WRONG,
)
from layerscope.analyses.back_patches.back_patching_places import Pair
from layerscope.analyses.material.shares import mean_interval, wilson

if TYPE_CHECKING:
    import pandas as pd

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
FOLDS = 5
"""Parts of the prompts, for the pair that is chosen on the others."""


@dataclass(frozen=True, eq=False)
class Tries:
    """How n prompts are answered in m tries each. Arrays `[n, m]`."""

    logprob: Floats
    """Natural log of the probability of the likeliest right answer."""
    rank: NDArray[np.int64]
    """Of the answer's first token; 0 is the top."""
    likeliest: Bools
    """Every token of a right answer is the likeliest one."""
    said: NDArray[np.int64]
    """The likeliest next token."""
    text: Bools
    """The generated text holds a right answer; False throughout where nothing is generated."""

    @classmethod
    def empty(cls, prompts: int, tries: int) -> Self:
        """To be filled in."""
        shape = (prompts, tries)
        no = np.zeros(shape, dtype=bool)
        return cls(
            logprob=np.full(shape, -np.inf),
            rank=np.full(shape, np.iinfo(np.int64).max),
            likeliest=no,
            said=np.full(shape, -1),
            text=no.copy(),
        )

    def right(self, estimator: str) -> Bools:
        """Whether the answer counts as right."""
        return self.text if estimator == TEXT else self.likeliest

    def of(self, prompts: Bools) -> Self:
        """Only some of the prompts."""
        return type(self)(**{f.name: getattr(self, f.name)[prompts] for f in fields(self)})


@dataclass(frozen=True, eq=False)
class Sweep:
    """All tries at one position: untouched (one each), own states, and the draws of each control."""

    before: Tries
    tries: dict[str, list[Tries]]
    """`OWN`, `OTHER`, `NOISE` -> draws (one for the own states)."""


@dataclass(frozen=True)
class Asked:
    """What was asked: the words that stand beside the numbers."""

    pairs: tuple[Pair, ...]
    prompts: Sequence[str]
    answers: Sequence[str]
    guesses: NDArray[np.int64] | None
    """`[n]` among how many answers one would guess; None where unknown."""
    seed: int


def table(asked: Asked, sweeps: dict[str, Sweep], *, generated: bool) -> pd.DataFrame:
    """One line for each pair, rate and prompt, at each position, by each way of counting."""
    import pandas as pd

    lines: list[dict[str, Any]] = []
    for position, sweep in sweeps.items():
        for estimator in (LIKELIEST, TEXT) if generated else (LIKELIEST,):
            for line in _lines(asked, sweep, estimator):
                lines.append({"position": position, "estimator": estimator} | line)
    found = pd.DataFrame(lines).reindex(columns=COLUMNS)
    for column in ("source", "target", "n", "tries"):
        found[column] = found[column].astype("Int64")
    return found


def _lines(asked: Asked, sweep: Sweep, estimator: str) -> Iterator[dict[str, Any]]:
    first = sweep.before.right(estimator)[:, 0]
    choices = _choices(sweep, estimator, asked.seed)
    for group, inside in ((WRONG, ~first), (RIGHT, first), (ALL, np.ones_like(first))):
        if not inside.any():
            continue
        part = _Part(asked, sweep, estimator, inside, choices)
        rates = [part.untouched(), *part.rates(_KINDS[group]), *part.fixed()]
        if group == WRONG:
            rates += part.guessing()
        for line in [*rates, *(part.pairs() if group != ALL else ())]:
            yield {"group": group, "unit": "share of prompts"} | line
    yield from _prompt_lines(asked, sweep, estimator)


_WAYS: dict[str, Callable[[Bools], Any]] = {
    "any pair": lambda right: right.any(1),
    "every pair": lambda right: right.all(1),
    "average pair": lambda right: right.mean(1),
}
_KINDS = {
    WRONG: ("any pair", "average pair"),
    RIGHT: ("every pair", "average pair"),
    ALL: (),
}
"""What is of interest: that some pair repairs, that every pair keeps."""


@dataclass(frozen=True, eq=False)
class _Part:
    """One group of prompts, counted one way."""

    asked: Asked
    sweep: Sweep
    estimator: str
    inside: Bools
    choices: dict[str, list[NDArray[np.int64]]]

    def untouched(self) -> dict[str, Any]:
        return {"kind": "untouched"} | _share(self._before().astype(float))

    def rates(self, kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Any, every or the average pair, for own states and for the controls."""
        for kind in kinds:
            each = {
                states: np.mean([_WAYS[kind](right) for right in self._right(states)], axis=0)
                for states in self.sweep.tries
            }
            for line in self._beside(each):
                yield {"kind": kind, "tries": len(self.asked.pairs)} | line

    def fixed(self) -> Iterator[dict[str, Any]]:
        """The pair that was best on other prompts."""
        each = {}
        for states, chosen in self.choices.items():
            draws = zip(self._right(states), chosen, strict=True)
            rows = np.arange(int(self.inside.sum()))
            each[states] = np.mean([r[rows, c[self.inside]] for r, c in draws], axis=0)
        for line in self._beside(each):
            often = np.bincount(np.concatenate(self.choices[line["states"]]))
            source, target = self.asked.pairs[int(often.argmax())]
            yield {"kind": "fixed pair", "tries": 1, "source": source, "target": target} | line

    def guessing(self) -> Iterator[dict[str, Any]]:
        """Drawing as many answers at random as the tries gave different ones."""
        if self.asked.guesses is None:
            return
        said = self.sweep.tries[OWN][0].said[self.inside]
        different = np.array([len(set(row)) for row in said.tolist()])
        missed = (1 - 1 / self.asked.guesses[self.inside]) ** different
        yield {"kind": "guessing", "value": float((1 - missed).mean()), "n": len(said)}

    def pairs(self) -> Iterator[dict[str, Any]]:
        """One line for each pair."""
        before = float(self.sweep.before.logprob[self.inside].mean())
        for states, draws in self.sweep.tries.items():
            right = np.mean(self._right(states), axis=0)
            logprob = np.mean([d.logprob[self.inside] for d in draws], axis=(0, 1))
            rank = np.median(np.concatenate([d.rank[self.inside] for d in draws]), axis=0)
            for number, (source, target) in enumerate(self.asked.pairs):
                yield {
                    "kind": "pair",
                    "states": states,
                    "source": source,
                    "target": target,
                    "logprob": float(logprob[number]),
                    "logprob_before": before,
                    "rank": float(rank[number]),
                    "tries": 1,
                } | _share(right[:, number])

    def _before(self) -> Bools:
        right: Bools = self.sweep.before.right(self.estimator)[self.inside, 0]
        return right

    def _right(self, states: str) -> list[Bools]:
        return [d.right(self.estimator)[self.inside] for d in self.sweep.tries[states]]

    def _beside(self, each: dict[str, Floats]) -> Iterator[dict[str, Any]]:
        """Each rate; the own one with its excess over the higher control."""
        controls = [values for states, values in each.items() if states != OWN]
        for states, values in each.items():
            line = {"states": states} | _share(values)
            if states == OWN and controls:
                highest = max(controls, key=lambda one: float(one.mean()))
                line |= _excess(values, highest, self.asked.seed)
            yield line


def _share(values: Floats) -> dict[str, Any]:
    low, high = wilson(float(values.sum()), len(values))
    return {"value": float(values.mean()), "ci_low": low, "ci_high": high, "n": len(values)}


def _excess(own: Floats, control: Floats, seed: int) -> dict[str, Any]:
    difference = own.astype(float) - control
    low, high = mean_interval(difference, seed=seed)
    return {
        "control": float(control.mean()),
        "excess": float(difference.mean()),
        "excess_low": low,
        "excess_high": high,
    }


def _choices(sweep: Sweep, estimator: str, seed: int) -> dict[str, list[NDArray[np.int64]]]:
    """For each prompt the pair that repairs most of the wrong prompts in the other parts.

    Empty where fewer than two prompts are wrong: there is nothing to choose on.
    """
    wrong = ~sweep.before.right(estimator)[:, 0]
    if wrong.sum() < 2:
        return {}
    parts = _parts(wrong, seed)
    return {
        states: [_chosen(draw, sweep.before, estimator, wrong, parts) for draw in draws]
        for states, draws in sweep.tries.items()
    }


def _parts(wrong: Bools, seed: int) -> NDArray[np.int64]:
    """The part each prompt is in; wrong and right ones are spread evenly."""
    generator = np.random.default_rng(seed)
    count = min(FOLDS, int(wrong.sum()))
    parts = np.empty(len(wrong), dtype=np.int64)
    for group in (wrong, ~wrong):
        parts[group] = generator.permutation(int(group.sum())) % count
    return parts


def _chosen(
    tries: Tries, before: Tries, estimator: str, wrong: Bools, parts: NDArray[np.int64]
) -> NDArray[np.int64]:
    repaired = tries.right(estimator)
    gain = np.nan_to_num(tries.logprob - before.logprob)
    best = np.empty(len(wrong), dtype=np.int64)
    for part in np.unique(parts):
        train = wrong & (parts != part)
        # Ties go to the pair that makes the answers likelier.
        order = np.lexsort((gain[train].mean(0), repaired[train].sum(0)))
        best[parts == part] = order[-1]
    return best


def _prompt_lines(asked: Asked, sweep: Sweep, estimator: str) -> Iterator[dict[str, Any]]:
    own = sweep.tries[OWN][0]
    right, first = own.right(estimator), sweep.before.right(estimator)[:, 0]
    for i, (prompt, answer) in enumerate(zip(asked.prompts, asked.answers, strict=True)):
        best = int(own.logprob[i].argmax())
        source, target = asked.pairs[best]
        yield {
            "kind": "prompt",
            "group": RIGHT if first[i] else WRONG,
            "states": OWN,
            "source": source,
            "target": target,
            "value": float(right[i].mean()),
            "n": 1,
            "tries": len(asked.pairs),
            "logprob": float(own.logprob[i, best]),
            "logprob_before": float(sweep.before.logprob[i, 0]),
            "rank": float(own.rank[i, best]),
            "prompt": prompt,
            "answer": answer,
            "unit": "share of pairs that give the right answer",
        }


__all__ = ["NOISE", "OTHER", "OWN", "Asked", "Sweep", "Tries", "table"]
