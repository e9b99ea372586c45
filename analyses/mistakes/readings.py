"""Out-of-fold probabilities of a label at every site, for the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from layerscope.probes.reading.rows import Pieces, Plan, plan
from layerscope.probes.reading.sources import Source
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.probes.scoring.probabilities import Probabilities, out_of_fold_probabilities
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Solver, engine
from layerscope.probes.solving.parallel import side_by_side


@dataclass(frozen=True, eq=False)
class Readings:
    """A label's rows, sorted by fold, and who reads them."""

    source: Source
    plan: Plan
    solver: Solver = "auto"
    l2: float | None = None
    """The penalty; None chooses it for each fold."""

    def sites(self, name: str, progress: bool) -> Iterator[tuple[str, Probabilities]]:
        """Each site with the probabilities of its rows ``[rows, classes]``."""
        from tqdm.auto import tqdm

        store, sites = self.source.store, self.source.sites
        width = max(store.sites[site].width for site in sites)
        taken = 8 * width * (len(self.plan.index) + self.plan.folds * width)
        found = side_by_side(self.at, sites, item_bytes=taken)
        bar = tqdm(found, name, len(sites), unit="site", disable=not progress)
        yield from zip(sites, bar, strict=True)

    def at(self, site: str) -> Probabilities:
        """One site.

        Raises:
            ValueError: activations that are NaN or infinite.
        """
        x = self.source.store[site][self.plan.index]
        check_finite(site, x, self.plan.index)
        classes = len(self.plan.classes)
        by = engine(self.solver, x.numel() * classes)
        design = Design.of(x, self.plan.bounds, device=by.device)
        target = torch.from_numpy(self.plan.values).to(by.device)
        return out_of_fold_probabilities(design, target, classes, by, l2=self.l2)


def readings(
    source: Source,
    label: str | None,
    *,
    pieces: Pieces,
    folds: int,
    max_rows: int,
    seed: int,
    solver: Solver,
) -> Readings:
    """The rows of a label, as classes.

    Raises:
        ValueError: what `probe` refuses, or a label of numbers.
    """
    rows = plan(
        source.store,
        label,
        task="class",
        pieces=pieces,
        folds=folds,
        max_rows=max_rows,
        seed=seed,
    )
    return Readings(source, rows, solver)
