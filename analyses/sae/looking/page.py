"""The feature page: one foldable block of static HTML for each shown latent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from layerscope.analyses.material.pieces import shown
from layerscope.analyses.sae.looking.page_style import STYLE
from layerscope.analyses.sae.looking.window_html import signs, window
from layerscope.analyses.sae.looking.words import words_of
from layerscope.wording import measured

if TYPE_CHECKING:
    import pandas as pd

OPEN = 2
"""Blocks that are unfolded at first."""
GIST = 5
"""Examples whose tokens stand beside a latent's number."""
SUGGESTED = 400
"""Words that the search box offers."""
_QUARTERS = ("strongest quarter", "second quarter", "third quarter", "weakest quarter")
_KEY = "\0key\0"
"""Stands for the page's key until it is known; `signs` leaves no such character in a token."""


def page(table: pd.DataFrame, lines: pd.DataFrame) -> str:
    """The search box and the blocks.

    Args:
        table: All latents; the search box offers their tokens and classes.
        lines: Those with a block, in order.
    """
    with_block = {int(latent) for latent in lines["latent"]}
    words = words_of(lines)
    records = lines.to_dict("records")
    blocks = "".join(
        _block(line, own, with_block, number < OPEN)
        for number, (line, own) in enumerate(zip(records, words, strict=True))
    )
    body = f"{_head(table, len(lines))}{_search(table)}{blocks}"
    # Two findings in one report must not share ids.
    key = hashlib.sha256(body.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f'<style>{STYLE}</style><div class="latents">{body.replace(_KEY, key)}</div>'


def _head(table: pd.DataFrame, count: int) -> str:
    return (
        f"<h3>{count:,} of {len(table):,} latents, one by one</h3>"
        "<p>A latent is one unit of the autoencoder's dictionary, and its code says how strongly it fires "
        "on a token. The stronger the colour behind a token, the nearer the code there is to the latent's "
        "largest; point at the token for the number. In bold: the token that the example was chosen for. "
        "On the map, larger points fire more often, and rings mark the latents that are shown here.</p>"
    )


def _search(table: pd.DataFrame) -> str:
    """Inactive until the report's script unhides it; nothing in it runs by itself."""
    offered = [
        shown(one, longest=40)
        for name in ("class", "token")
        if name in table
        for one in table[name]
        if isinstance(one, str)
    ]
    options = "".join(
        f'<option value="{signs(one)}">' for one in list(dict.fromkeys(offered))[:SUGGESTED]
    )
    return (
        f'<div class="find" role="search" hidden><label for="find-{_KEY}">Find latents by token, class '
        f'or number</label><input type="search" id="find-{_KEY}" list="words-{_KEY}" '
        f'autocomplete="off"><datalist id="words-{_KEY}">{options}</datalist>'
        '<output aria-live="polite"></output></div>'
    )


def _block(line: dict[Any, Any], words: str, with_block: set[int], is_open: bool) -> str:
    latent = line["latent"]
    examples = list(line["examples"])
    largest = float(line["max"])
    return (
        f'<details class="latent" id="latent-{_KEY}-{latent}" data-words="{signs(words)}"'
        f"{' open' if is_open else ''}><summary>Latent {latent} <span>{_gist(line)}</span></summary>"
        f"<dl>{_facts(line, with_block)}</dl>{_examples(examples, largest)}</details>"
    )


def _gist(line: dict[str, Any]) -> str:
    parts = []
    top = [one for one in line["examples"] if one["kind"] == "top"][:GIST]
    tokens = dict.fromkeys(shown(str(one["tokens"][int(one["focus"])]), longest=40) for one in top)
    if tokens:
        parts.append("strongest on " + " ".join(map(_token, tokens)))
    if isinstance(line.get("class"), str):
        parts.append(f"{signs(line['class'])} F1 {line['score']:.2f}")
    parts.append(f"{line['density']:.2%} of rows")
    return " · ".join(parts)


def _facts(line: dict[str, Any], with_block: set[int]) -> str:
    facts = [("Fires on", _fires(line))]
    if isinstance(line.get("class"), str):
        facts.append((signs(f"Class ({line['label']})"), _class(line)))
    for name, title in (("up", "Raises"), ("down", "Lowers")):
        if len(line.get(name, ())):
            facts.append((title, _effects(line[name], line[f"{name}_logits"])))
    if len(line["neighbours"]):
        facts.append(("Writes like", _near(line, with_block)))
    why = {"rule": "by the rule", "random": "drawn at random", "asked": "asked for"}
    if line["why"] in why:
        facts.append(("Shown", why[line["why"]]))
    return "".join(f"<dt>{name}</dt><dd>{said}</dd>" for name, said in facts)


def _fires(line: dict[str, Any]) -> str:
    if not line["fired"]:
        return f"none of {line['n']:,} rows"
    said = (
        f"{line['fired']:,} of {line['n']:,} rows ({line['density']:.2%}); code {measured(line['mean_active'])} "
        f"on average where it fires, {measured(line['max'])} at most"
    )
    if isinstance(line["token"], str):
        said += f"; {line['token_share']:.0%} of its firings are on {_token(line['token'])}"
    return said


def _class(line: dict[str, Any]) -> str:
    precise = (
        "\N{EN DASH}" if line["precision"] != line["precision"] else f"{line['precision']:.0%}"
    )
    return (
        f"<b>{signs(line['class'])}</b>: F1 {line['score']:.2f} on held-out groups (shuffled labels "
        f"{line['null']:.2f} ± {line['null_sd']:.2f}); {precise} of its firings are {signs(line['class'])}, "
        f"which {line['base']:.0%} of the rows are; it fires on {line['recall']:.0%} of those"
    )


def _effects(tokens: Any, logits: Any) -> str:
    told = (
        f"{_token(token)} {logit:+.2f}".replace("-", "\N{MINUS SIGN}")
        for token, logit in zip(tokens, logits, strict=True)
    )
    return ", ".join(told) + " logits, directly, at its mean code"


def _near(line: dict[str, Any], with_block: set[int]) -> str:
    told = []
    for latent, cosine in zip(line["neighbours"], line["cosines"], strict=True):
        name = f"latent {latent}"
        if int(latent) in with_block:
            name = f'<a href="#latent-{_KEY}-{latent}">{name}</a>'
        told.append(f"{name} ({cosine:.2f})".replace("(-", "(\N{MINUS SIGN}"))
    return ", ".join(told) + " (cosine of decoder rows)"


def _examples(examples: list[dict[str, Any]], largest: float) -> str:
    if not examples:
        return "<p>It never fires here, so there is nothing to show.</p>"
    top = [one for one in examples if one["kind"] == "top"]
    drawn = [one for one in examples if one["kind"] != "top"]
    columns = f"<div><h4>Strongest, one of each text</h4>{_list(top, largest)}</div>"
    if drawn:
        columns += f"<div><h4>Firings drawn at random</h4>{_list(drawn, largest)}</div>"
    return f'<div class="columns">{columns}</div>'


def _list(examples: list[dict[str, Any]], largest: float) -> str:
    return f"<ol>{''.join(_example(one, largest) for one in examples)}</ol>"


def _example(one: dict[str, Any], largest: float) -> str:
    kind = one["kind"]
    quarter = "" if kind == "top" else f", {_QUARTERS[int(kind.removeprefix('quarter ')) - 1]}"
    text = window(list(one["tokens"]), list(one["codes"]), int(one["focus"]), largest)
    before, after = ("…" if one[side] else "" for side in ("before", "after"))
    return f'<li><span class="code">{measured(one["value"])}{quarter}</span> <bdi>{before}{text}{after}</bdi></li>'


def _token(token: str) -> str:
    return f"<q>{signs(shown(token, longest=40))}</q>"
