"""What a reader of the word-class table must know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.analyses.clustering.maps import NAMES
from layerscope.analyses.material.sample import Sample

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.analyses.clustering.neighbour_labels import Of


def cautions(table: pd.DataFrame, samples: dict[Of, Sample]) -> list[str]:
    """Caveats of this table."""
    notes = []
    for kind, sample in samples.items():
        floor = table[(table["part"] == "gdv") & (table["of"] == kind)]["floor"].iloc[0]
        notes.append(
            f"by the {kind} word: {len(sample.classes)} classes of these sizes could reach a GDV "
            f"of {floor:.3f} at the lowest, not -1"
        )
    notes.append(
        "GDV, 0: the classes lie in one cloud; at its floor: each class is a point, and they are as "
        "far apart as can be"
    )
    groups = int(table["n_groups"].min())
    if groups < 2:
        notes.append(
            "a single group: there are no intervals, and the null turns labels like a ring"
        )
    elif groups < 20:
        notes.append(f"intervals rest on {groups} groups only, and are likely too narrow")
    rows, width = int(table["n"].min()), int(table["width"].max())
    if rows < width:
        notes.append(
            f"{rows:,} rows for {width:,} features: class means lie apart by chance alone; hold "
            "Fisher's ratio and NC1 against their nulls, not against 0"
        )
    trusted = table[table["part"] == "trust"]
    if len(trusted):
        told = [
            f"{NAMES[str(name)]} {lines['value'].min():.2f} to {lines['value'].max():.2f}"
            for name, lines in trusted.groupby("method", sort=False)
        ]
        notes.append(
            f"neighbours on a map are neighbours among the states only in part (trustworthiness, 0.5 is "
            f"chance): {', '.join(told)}"
        )
    notes.append(
        "a probe can read a class off states that do not cluster by it: GDV is about the shape of the "
        "clouds, over all features alike"
    )
    return notes
