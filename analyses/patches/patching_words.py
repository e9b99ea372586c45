"""A map in words: where the stream carries the answer, and which parts carry most of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope.wording import place, shortened

if TYPE_CHECKING:
    import pandas as pd

HALF = 0.5
NAMES = {
    "resid_pre": "stream into the blocks",
    "resid_mid": "stream after attention",
    "resid_post": "stream out of the blocks",
}


def strongest(part: pd.DataFrame, share: str = "value") -> str:
    """The cell with the greatest effect: ``blocks.3.attn_out at 'is' 66% (53% to 77%)``."""
    best = part.iloc[int(part[share].to_numpy().argmax())]
    spread = ""
    if share == "value" and not missing(best["ci_low"]):
        spread = f" ({best['ci_low']:.0%} to {best['ci_high']:.0%})"
    return f"{best['site']} at {where(best)} {best[share]:.0%}{spread}"


def carried(part: pd.DataFrame, share: str = "value") -> str:
    """The layers in which the stream at a place holds at least half of the answer.

    At the last position of late layers the stream holds everything, whatever the model, so the
    greatest effect says nothing; where it is before and when it moves does.
    """
    title = NAMES.get(str(part["kind"].iloc[0]), str(part["kind"].iloc[0]))
    found = []
    for _, here in part.groupby(["position", "token"], sort=False, dropna=False):
        layers = sorted(here["layer"][here[share] >= HALF].astype(int))
        if layers and here["token"].iloc[0] != "all":
            found.append(f"at {where(here.iloc[0])} in {ranges(layers)}")
    if not found:
        return f"at no single position does the {title} hold half"
    return f"the {title} holds at least half {', '.join(found)}"


def is_stream(kind: object) -> bool:
    """Whether a kind of site is the residual stream itself."""
    return str(kind).startswith("resid")


def ranges(layers: list[int]) -> str:
    """Layers in words.

    >>> ranges([0, 1, 2, 5, 7]), ranges([3])
    ('layers 0 to 2, 5, 7', 'layer 3')
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return f"layer{'s' * (len(layers) > 1)} {', '.join(parts)}"


def where(line: Any) -> str:
    """The place of a line."""
    place = "all positions" if line["token"] == "all" else repr(str(line["token"]).strip())
    return place if missing(line["head"]) else f"head {line['head']}, {place}"


def missing(value: Any) -> bool:
    """Whether a cell of a table is empty."""
    import pandas as pd

    return bool(pd.isna(value))


def named(line: Any) -> str:
    """A patched part and its token: ``the attention of block 3 at “is”``."""
    head = "" if missing(line["head"]) else f"head {line['head']:.0f} of "
    at = "" if line["token"] == "all" else f" at {_quoted(line['token'])}"
    return f"{head}{place(line['site'])}{at}"


def held_at(part: pd.DataFrame) -> str:
    """The two places at which the stream holds at least half of the answer for longest, in order."""
    if not len(part):
        return ""
    part = part[(part["kind"] == part["kind"].iloc[0]) & (part["token"] != "all")]
    found = [
        (sorted(here["layer"][here["value"] >= HALF].astype(int)), str(here["token"].iloc[0]))
        for _, here in part.groupby(["position", "token"], sort=False, dropna=False)
    ]
    longest = sorted((one for one in found if one[0]), key=lambda one: -len(one[0]))[:2]
    told = [
        f"at {_quoted(token)} in {ranges(layers).replace('layer', 'block')}"
        for layers, token in sorted(longest)
    ]
    return (
        f"The answer sits {', '.join(told)}"
        if told
        else "At no single token sits half of the answer"
    )


def _quoted(token: object) -> str:
    return f"“{shortened(token, 16)}”"
