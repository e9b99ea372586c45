"""Where a trained SAE comes from, which it carries along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from layerscope.analyses.sae.fitting.plan import Plan, Sites
from layerscope.analyses.sae.rows.statistics import Statistics, statistics_of


def about_of(plan: Plan, member: int, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Its rows, its place and its settings, as JSON values."""
    sites, targets = plan.inputs[member], plan.targets[member]
    return dict(rows) | {
        "site": ",".join(sites),
        "target": "" if targets == sites else ",".join(targets),
        "architecture": plan.architecture.name,
        "options": {name: values[member] for name, values in plan.option.items()},
        "scaling": plan.scaling,
        "tokens": plan.steps * plan.batch,
        "batch": plan.batch,
        "lr": plan.rates[member],
        "dead_after": plan.dead_after,
        "seed": plan.seeds[member],
    }


def seen_rows(sample: Mapping[str, Tensor], sites: Sites) -> Statistics:
    """What the rows it was trained on look like, of a sample [n, width] of each site."""
    rows = torch.cat([sample[site] for site in sites], dim=1)
    return statistics_of(rows, ",".join(sites))
