"""What erasure and integrated gradients share: a number for each layer and token of each prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.material.answers import Answers, as_answers, extended
from layerscope.analyses.material.resampling import mean_intervals
from layerscope.hooks.prompts import Prompts
from layerscope.hooks.sites import layer_of

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """One prompt, continued by all but the last token of its answer."""

    prompt: int
    ids: Tensor
    """`[p + k - 1]`"""
    length: int
    """p: tokens of the prompt itself."""
    answer: Tensor | None
    """`[k]` ids; None where any change of the next-token distribution counts."""

    @property
    def k(self) -> int:
        """At how many last positions the model's predictions are read."""
        return 1 if self.answer is None else len(self.answer)

    def probability(self, logits: Tensor) -> Tensor:
        """Sum over the answer's tokens of their probabilities, `[n]`, from logits `[n, k, V]`."""
        if self.answer is None:
            raise ValueError("this case has no answer")
        wide = logits if logits.dtype == torch.float64 else logits.float()
        chosen = self.answer.to(wide.device)[None, :, None].expand(len(wide), -1, 1)
        return wide.softmax(-1).gather(-1, chosen)[..., 0].sum(-1)


def cases(
    model: nn.Module, prompts: Prompts, answers: Sequence[Any] | None
) -> tuple[list[Case], tuple[str, ...]]:
    """A case for each prompt, by prompt, and notes. Of several right answers the first is taken."""
    if answers is None:
        found = [Case(i, ids, len(ids), None) for i, ids in enumerate(prompts.ids)]
        return found, ()
    known = as_answers(model, prompts, answers)
    more = sum(len(options) > 1 for options in known.ids)
    note = (
        (f"{more} prompts have several right answers; the first of each is read",) if more else ()
    )
    first = Answers(
        tuple(options[:1] for options in known.ids), tuple(t[:1] for t in known.texts), known.notes
    )
    return sorted(_cases(prompts, first), key=lambda case: case.prompt), (*known.notes, *note)


def _cases(prompts: Prompts, answers: Answers) -> Iterator[Case]:
    for batch in extended(prompts, answers):
        for row, ids in zip(batch.row.tolist(), batch.answer_ids, strict=True):
            prompt = int(batch.prompt[row])
            yield Case(prompt, batch.input_ids[row], batch.length, ids)


def lines_of(
    prompts: Prompts, case: Case, sites: Sequence[str], values: Tensor
) -> list[dict[str, Any]]:
    """One line for each site and prompt token, from values `[sites, p]`."""
    tokens = prompts.tokens(case.prompt)
    shown = values.double().cpu().numpy()
    return [
        {
            "scope": "token",
            "prompt": case.prompt,
            "text": prompts.texts[case.prompt],
            "layer": layer_of(site),
            "site": site,
            "position": position,
            "token": tokens[position],
            "value": float(shown[row, position]),
        }
        for row, site in enumerate(sites)
        for position in range(case.length)
    ]


def profile_lines(sites: Sequence[str], profiles: Floats, seed: int) -> list[dict[str, Any]]:
    """One line for each site: the mean of `profiles` `[prompts, sites]`, its interval over prompts."""
    low, high = mean_intervals(profiles, np.ones(len(profiles)), seed=seed)
    mean = profiles.mean(0)
    return [
        {
            "scope": "prompts",
            "layer": layer_of(site),
            "site": site,
            "value": float(mean[row]),
            "ci_low": float(low[row]),
            "ci_high": float(high[row]),
            "n": len(profiles),
        }
        for row, site in enumerate(sites)
    ]


def table_of(lines: Sequence[dict[str, Any]], unit: str, estimator: str) -> pd.DataFrame:
    """The table, with whole numbers where a line has none left as missing."""
    import pandas as pd

    table = pd.DataFrame([line | {"unit": unit, "estimator": estimator} for line in lines])
    return table.astype({name: "Int64" for name in ("prompt", "position", "n") if name in table})


def counted(prompts: int) -> str:
    """So many prompts, in words.

    >>> counted(1), counted(12)
    ('1 prompt', '12 prompts')
    """
    return f"{prompts:,} prompt{'' if prompts == 1 else 's'}"
