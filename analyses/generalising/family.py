"""The family of networks whose gaps are compared: where each comes from, its gap, its baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.generalising.gap_columns import COLUMNS
from layerscope.analyses.generalising.rank_agreement import Design, Flags, Integers, Kept
from layerscope.analyses.training.small_net_run import SmallNetRun
from layerscope.analyses.training.training_run import TrainingRun

if TYPE_CHECKING:
    import pandas as pd

LEAST = 10
"""Networks below which a rank correlation says nothing."""
SEVERAL = 3
OUTPUTS = ("softmax", "logits", "output")
"""Sites that are the answer itself, not a hidden layer."""
RESERVED = frozenset(COLUMNS) | {
    "run",
    "parameters",
    "weight_norm",
    "weight_norm_product",
    "train_rows",
    "bound_shape",
}
"""Names that no setting can have."""
Scope = tuple[Flags | None, Kept]
"""Pairs ``[networks, networks]`` (None: all), and what permutations leave in its place."""
Settings = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Family:
    """Runs, and one line for every network in them, in the order of runs and seeds."""

    runs: tuple[TrainingRun, ...]
    networks: pd.DataFrame
    """Columns network, run, seed, the settings, train_loss, test_loss, gap_loss, gap_error, and where
    the weights are known parameters, weight_norm, weight_norm_product."""
    settings: tuple[str, ...]
    """Columns that say how a network was trained."""
    data: str | None
    """The one of them that names the data set."""

    def sites(self, run: TrainingRun) -> tuple[str, ...]:
        """The hidden layers of a run."""
        return tuple(site for site in run.sites if site not in OUTPUTS)

    def groups(self) -> Design:
        """Which networks were trained alike, and which on the same data set."""
        count = len(self.networks)
        how = [name for name in self.settings if name != self.data]
        alike = _codes(self.networks[how]) if how else np.arange(count)
        if not self._several(alike):
            alike = np.arange(count)  # nothing but the seed differs: each is drawn by itself
        data = np.zeros(count, dtype=np.int64)
        if self.data is not None:
            data = _codes(self.networks[[self.data]])
        return Design(alike, data)

    def scopes(self) -> dict[str, Scope]:
        """Which pairs of networks to compare."""
        found: dict[str, Scope] = {"all": (None, "nothing")}
        same = {name: _equal(self.networks[name]) for name in self.settings}
        varied = [name for name in self.settings if not same[name].all()]
        if self.data is not None and self.data in varied:
            found["same data set"] = (same[self.data], "data")
        for name in varied:
            others = [same[other] for other in varied if other != name]
            alone = ~same[name] & np.logical_and.reduce([np.ones_like(same[name]), *others])
            if alone.any() and others:
                found[f"only {name} differs"] = (alone, "nothing" if name == self.data else "data")
        replicates = np.logical_and.reduce([same[name] for name in varied]) if varied else None
        if replicates is not None and replicates.sum() > len(self.networks):
            found["only the seed differs"] = (replicates, "both")
        return found

    def _several(self, codes: Integers) -> bool:
        return len(np.unique(codes)) >= SEVERAL


def family(
    runs: TrainingRun | Sequence[TrainingRun],
    settings: Mapping[str, Any] | Settings | None,
    data: str | None,
) -> Family:
    """Networks of the runs at their last step, with what is known about each.

    Raises:
        ValueError: fewer than 10 networks, runs without a hidden layer or without finite scores of both
            splits, settings that do not fit, or networks of one run with labels of their own.
    """
    import pandas as pd

    every = (runs,) if isinstance(runs, TrainingRun) else tuple(runs)
    if not every:
        raise ValueError("no runs: give one, or several in a list")
    told = _settings(every, settings)
    frames = [
        _of_run(number, run, said)
        for number, (run, said) in enumerate(zip(every, told, strict=True))
    ]
    networks = pd.concat(frames, ignore_index=True)
    networks.insert(0, "network", np.arange(len(networks)))
    if len(networks) < LEAST:
        raise ValueError(
            f"{len(networks)} networks: a rank correlation needs at least {LEAST}; train more seeds or "
            "give several runs in a list"
        )
    names = tuple(dict.fromkeys(name for said in told for name in said))
    if data is not None and data not in names:
        known = ", ".join(names) or "none"
        raise ValueError(f"data={data!r} is not among the settings; there are: {known}")
    found = Family(every, networks, names, data)
    for run in every:
        if not found.sites(run):
            raise ValueError(
                f"run {run.name!r} has no hidden layer; its sites are {', '.join(run.sites)}"
            )
    return found


def _settings(runs: tuple[TrainingRun, ...], settings: Any) -> list[dict[str, Any]]:
    if settings is None:
        names = [run.name for run in runs]
        own = len(set(names)) == len(names)
        each = names if own else [f"{name} ({number})" for number, name in enumerate(names)]
        return [{"run_name": name} for name in each] if len(runs) > 1 else [{}]
    said = [settings] if isinstance(settings, Mapping) else list(settings)
    if len(said) != len(runs):
        raise ValueError(f"{len(said)} settings for {len(runs)} runs: give one dict for each run")
    return [dict(one) for one in said]


def _of_run(number: int, run: TrainingRun, said: dict[str, Any]) -> pd.DataFrame:
    frame = _scores(run)
    if isinstance(run, SmallNetRun) and not bool((run.targets == run.targets[:1]).all()):
        raise ValueError(
            f"run {run.name!r}: its networks have labels of their own; give rows in an order in which "
            "all data sets have the same labels, or one run for each"
        )
    for name, value in said.items():
        if name in RESERVED:
            raise ValueError(
                f"setting {name!r} of run {run.name!r} has the name of a column; rename it"
            )
        if np.ndim(value) and len(value) != len(run.seeds):
            raise ValueError(
                f"setting {name!r} of run {run.name!r} has {len(value)} values for "
                f"{len(run.seeds)} networks: give one for each network, or one for all"
            )
        frame[name] = value if np.ndim(value) == 0 else list(value)
    frame.insert(0, "run", number)
    if isinstance(run, SmallNetRun):
        weights = run.shape.layers(run.weights(run.steps[-1]).double())
        norms = np.stack(
            [(w.square().sum((1, 2)) + b.square().sum((1, 2))).sqrt().cpu() for w, b in weights]
        )
        frame["parameters"] = run.shape.parameters
        frame["train_rows"] = run.split.train.shape[1]
        frame["weight_norm"] = norms.sum(0)
        frame["weight_norm_product"] = norms.prod(0)
    return frame


def _scores(run: TrainingRun) -> pd.DataFrame:
    """Losses, and test minus train, of every network at the last step."""
    import pandas as pd

    if run.scores is None:
        raise ValueError(
            f"run {run.name!r} has no scores: the gap needs the loss of train and test rows; "
            "held_run(scores=...) takes them"
        )
    last = run.scores[run.scores["step"] == run.steps[-1]]
    last = last.assign(
        loss=last["loss"].astype(float),
        accuracy=last["accuracy"].astype(float) if "accuracy" in last else np.nan,
    )
    parts = {}
    for split in ("train", "test"):
        part = last[last["split"] == split]
        if len(part) != len(run.seeds):
            raise ValueError(
                f"run {run.name!r} has {len(part)} {split} scores at {run.clock} {run.steps[-1]} for "
                f"{len(run.seeds)} networks: a gap needs both splits of each; a Recorder "
                "keeps those it is called with: recorder(step, train_loss=..., train_accuracy=...)"
            )
        parts[split] = _in_order(run, part, split)
    train, test = parts["train"], parts["test"]
    return pd.DataFrame(
        {
            "seed": list(run.seeds),
            "train_loss": train["loss"],
            "test_loss": test["loss"],
            "train_accuracy": train["accuracy"],
            "gap_loss": test["loss"] - train["loss"],
            "gap_error": train["accuracy"] - test["accuracy"],
        }
    )


def _in_order(run: TrainingRun, part: pd.DataFrame, split: str) -> pd.DataFrame:
    """Scores of one split, a line for each network in the order of the run."""
    told, seeds = part["seed"].tolist(), list(run.seeds)
    if told != seeds:
        if sorted(told) != sorted(seeds) or len(set(seeds)) < len(seeds):
            raise ValueError(
                f"run {run.name!r} has {split} scores of seeds {', '.join(map(str, told))}; the run has "
                f"{', '.join(map(str, seeds))}: give one score for each, in this order"
            )
        part = part.set_index("seed").loc[seeds]
    lost = np.flatnonzero(~np.isfinite(part["loss"]))
    if len(lost):
        raise ValueError(
            f"run {run.name!r}, network {lost[0]}: its {split} loss is NaN or infinite; leave it out"
        )
    return part.reset_index(drop=True)


def _codes(columns: pd.DataFrame) -> Integers:
    numbers = columns.groupby(list(columns), dropna=False, sort=True).ngroup()
    return numbers.to_numpy().astype(np.int64)


def _equal(column: pd.Series[Any]) -> Flags:
    import pandas as pd

    codes = pd.factorize(column)[0]
    equal: Flags = codes[:, None] == codes
    return equal
