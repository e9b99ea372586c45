"""The answer of `information_plane` in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.wording import place, rounded, spoken

if TYPE_CHECKING:
    import pandas as pd

MEASURED = {
    "binned": "the entropy of the binned layer",
    "kde": "the information left by noise added in the measurement",
    "noisy": "the information about the input",
    "lossy": "the information of compressed input and compressed layer",
}
_APART = {
    "noisy": "the bounds lie too far apart, which more draws of the noise would mend",
    "lossy": "the two estimates disagree",
}
"""Why a fall is not known."""


def told(found: pd.DataFrame, setting: str, clock: str) -> str:
    """Falls at one setting, then at how many resolutions each layer falls."""
    usual = found[found["setting"] == setting].sort_values("layer")
    line = usual.iloc[0]
    if line["verdict"] == "one snapshot":
        return _single(usual, setting)
    if (usual["verdict"] == "refused").all():
        return (
            "Nothing is said of the input: there is no mutual information of it and these layers."
        )
    what = MEASURED[str(line["estimator"])]
    falls = usual[usual["verdict"] == "falls"]
    doubtful = [str(site) for site in usual.loc[usual["verdict"] == "not known", "site"]]
    if len(doubtful) == len(usual):
        text = (
            f"With {setting}, whether {what} falls is not known: {_APART[str(line['estimator'])]}"
        )
        return text + "."
    if len(falls):
        named = ", ".join(_amount(one) for _, one in falls.iterrows())
        text = f"With {setting}, {what} falls by {named}, from its highest mean"
    else:
        where = "no layer" if not doubtful else "no layer where it is known"
        text = f"With {setting}, {what} falls in {where} from its highest mean"
    seeds = int(line["seeds"])
    text += f" to {clock} {line['last_step']:,}"
    text += (
        f" ({seeds} seeds, {line['n']:,} rows)" if seeds > 1 else f" (one seed, {line['n']:,} rows)"
    )
    if doubtful:
        text += f". At {_and(doubtful)} it is not known: {_APART[str(line['estimator'])]}"
    return ". ".join([text, *_pinned(usual), *_over(found, what)]) + "."


def _single(usual: pd.DataFrame, setting: str) -> str:
    values = ", ".join(f"{one['last']:.2f} at {one['site']}" for _, one in usual.iterrows())
    line = usual.iloc[0]
    what = MEASURED[str(line["estimator"])]
    return (
        f"With {setting}, {what} is {values} {line['unit']}; one snapshot cannot tell whether a layer "
        "compresses."
    )


def _amount(line: pd.Series[Any]) -> str:
    told = spoken(line["ci_low"], line["ci_high"], ".2f")
    return f"{line['fall']:.2f} {line['unit']}{told} at {line['site']}"


def _pinned(usual: pd.DataFrame) -> list[str]:
    pinned = usual[usual["verdict"] == "at the ceiling"]
    if not len(pinned):
        return []
    line = pinned.iloc[0]
    log = "log2" if line["unit"] == "bits" else "ln"
    top = f"{log} {line['n']:,} = {line['ceiling_x']:.2f} {line['unit']}"
    verb = "ends" if len(pinned) == 1 else "end"
    return [f"{_and(pinned['site'])} {verb} at the ceiling ({top}), where no fall could be seen"]


def _over(found: pd.DataFrame, what: str) -> list[str]:
    """Layers that fall wherever there is room, layers that fall here and not there, and neither.

    Nothing of mutual information: its noise is the network's own, and no choice.
    """
    it = "it" if what in (MEASURED["binned"], MEASURED["kde"]) else "the binned or noised layer"
    found = found[found["estimator"].isin(["binned", "kde"])]
    count = found["setting"].nunique()
    if count == 1:
        return ["Only one resolution was measured, so its part in this is not known"]
    everywhere: list[str] = []
    depends: list[str] = []
    unclear: list[str] = []
    never: list[str] = []
    for site, lines in found.sort_values("layer").groupby("site", sort=False):
        free = lines[lines["verdict"] != "at the ceiling"]
        falls = int((free["verdict"] == "falls").sum())
        if not len(free):
            continue
        if not falls:
            disagree = (free["verdict"] == "seeds disagree").any()
            (unclear if disagree else never).append(str(site))
        elif falls < len(free):
            depends.append(f"{site} (at {falls} of {len(free)})")
        else:
            everywhere.append(f"{site} ({falls} of {falls})")
    return [
        *_listed(f"Of {count} {_kinds(found)} {it} falls at all that leave room", everywhere),
        *_listed("The resolution decides for", depends),
        *_listed("Seeds disagree on", unclear),
        *_listed(f"{it.capitalize()} falls at none", never),
    ]


def _kinds(found: pd.DataFrame) -> str:
    """What the resolutions are."""
    names = {"binned": "widths of bins", "kde": "amounts of added noise"}
    return " and ".join(names[name] for name in names if name in set(found["estimator"]))


def _listed(head: str, names: list[str]) -> list[str]:
    return [f"{head}: {', '.join(names)}"] if names else []


def _and(names: Any) -> str:
    *most, last = map(str, names)
    return f"{', '.join(most)} and {last}" if most else last


def short(found: pd.DataFrame, setting: str) -> str:
    """How many layers fall at one setting, and by how much the one that falls most."""
    usual = found[found["setting"] == setting]
    line, verdicts = usual.iloc[0], usual["verdict"]
    if line["verdict"] == "one snapshot":
        return "One snapshot cannot tell whether a layer gives up information while it learns."
    if (verdicts == "refused").all():
        return "Nothing is said of the input: there is no information of it and these layers."
    doubtful = int((verdicts == "not known").sum())
    if doubtful == len(usual):
        return "Whether layers give up information about their input is not known: the bounds are too wide."
    what = {"noisy": "information", "lossy": "information"}.get(str(line["estimator"]), "entropy")
    known = f"of {len(usual)} layers" + (f" ({doubtful} not known)" if doubtful else "")
    falls = usual[verdicts == "falls"]
    if not len(falls):
        full = int((verdicts == "at the ceiling").sum())
        room = f"; {full} leave no room to see it" if full else ""
        return f"The {what} is not seen to fall in any {known} while they learn{room}."
    most = falls.iloc[int(falls["fall"].argmax())]
    return (
        f"The {what} falls in {len(falls)} {known} while they learn, most at {place(most['site'])}: by "
        f"{rounded(most['fall'])} of {rounded(most['peak'])} {most['unit']}."
    )
