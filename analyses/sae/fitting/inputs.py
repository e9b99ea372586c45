"""From rows of sites to what each SAE of a group sees, in the units of the training."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.analyses.sae.fitting.plan import Plan, Sites
from layerscope.analyses.sae.rows.scaling import Affine, fit, side_by_side

SAMPLE = 16_384
"""Rows from which units are taken: the geometric median moves little beyond 8,192."""


class Inputs:
    """Scaled rows and targets of a group, stacked where its SAEs see different sites."""

    def __init__(self, plan: Plan, units: dict[str, Affine]) -> None:
        self._plan = plan
        self.units = units

    @classmethod
    def fitted(cls, plan: Plan, sample: dict[str, Tensor]) -> Inputs:
        """Units from a sample of raw rows by site."""
        units = {site: fit(plan.scaling, rows, site=site) for site, rows in sample.items()}
        return cls(plan, units)

    def __call__(self, rows: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """x [group or 1, batch, d_in] and y [group or 1, batch, d_out] of raw rows by site."""
        scaled = {site: self.units[site](each) for site, each in rows.items()}
        x = self._stacked(scaled, self._plan.inputs)
        y = x if self._plan.targets == self._plan.inputs else None
        return x, self._stacked(scaled, self._plan.targets) if y is None else y

    def unit(self, sites: Sites) -> Affine:
        """The map of these sites' vectors side by side."""
        units = [self.units[site] for site in sites]
        return units[0] if len(units) == 1 else side_by_side(units)

    def state(self) -> dict[str, Tensor]:
        return {
            f"units.{site}.{name}": getattr(unit, name)
            for site, unit in self.units.items()
            for name in ("centre", "scale")
        }

    @classmethod
    def restored(cls, plan: Plan, state: dict[str, Tensor], device: torch.device) -> Inputs:
        ours = [key for key in state if key.startswith("units.")]
        names = {key.removeprefix("units.").rpartition(".")[0] for key in ours}
        units = {
            site: Affine(state[f"units.{site}.centre"], state[f"units.{site}.scale"]).to(device)
            for site in sorted(names)
        }
        return cls(plan, units)

    def _stacked(self, scaled: dict[str, Tensor], wanted: tuple[Sites, ...]) -> Tensor:
        members = wanted[:1] if self._plan.shared else wanted
        each = [
            scaled[sites[0]] if len(sites) == 1 else torch.cat([scaled[s] for s in sites], dim=1)
            for sites in members
        ]
        return each[0][None] if len(each) == 1 else torch.stack(each)
