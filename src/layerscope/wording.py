"""Places, shares and numbers as somebody says them who has read nothing else."""

from __future__ import annotations

import re
from math import isnan

PARTS = {
    "resid_pre": "the input of block {}",
    "resid_mid": "the middle of block {}",
    "resid_post": "block {}",
    "attn_out": "the attention of block {}",
    "mlp_out": "the MLP of block {}",
    "mlp_act": "the neurons of block {}",
}
PLACES = {"embed": "the embeddings", "final_norm": "the last norm", "logits": "the output"}
LABELS = {
    "upos": "the word class (upos)",
    "next_upos": "the next word's class (next_upos)",
    "deprel": "the grammatical role (deprel)",
    "depth": "the depth in the sentence (depth)",
}
"""Labels whose names are abbreviations."""
LONGEST = 200
"""Characters after which no further sentence of an answer is taken up."""


def place(site: object) -> str:
    """A site in words.

    >>> place("blocks.5.resid_post"), place("embed"), place("blocks.0.mlp_out"), place("hidden.2")
    ('block 5', 'the embeddings', 'the MLP of block 0', 'hidden layer 2')
    """
    name = str(site)
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if block is not None:
        form = PARTS.get(block[2], f"{block[2].split('.')[-1].replace('_', ' ')} of block {{}}")
        return form.format(block[1])
    if name.startswith("hidden."):
        return f"hidden layer {name.removeprefix('hidden.')}"
    return PLACES.get(name, f"layer {name}" if name.isdigit() else name)


def called(label: object) -> str:
    """A label in words where it is a known abbreviation, else in quotation marks.

    >>> called("upos"), called("Number")
    ('the word class (upos)', '“Number”')
    """
    return LABELS.get(str(label), f"“{shortened(label, 28)}”")


def percent(share: float) -> str:
    r"""A share in whole per cent; with a digit more where that would say none or all.

    >>> [percent(x).replace("\N{NO-BREAK SPACE}", " ") for x in (0.994, 0.998, 1.0, -0.0001)]
    ['99 %', '99.8 %', '100 %', '0 %']
    """
    whole = f"{100 * share:z.0f}"
    if whole in ("0", "100") and abs(share - float(whole) / 100) >= 0.0005:
        whole = f"{100 * share:z.1f}"
    return f"{whole}\N{NO-BREAK SPACE}%"


def rounded(value: float) -> str:
    """Two digits that count, without powers of ten.

    >>> rounded(3.581), rounded(0.0482), rounded(126.4), rounded(9.97), rounded(2e-6)
    ('3.6', '0.048', '126', '10', '0.000')
    """
    if abs(value) >= 9.95:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) >= 0.001 else f"{value:z.3f}"


def measured(value: float) -> str:
    """Three digits that count, zeros among them, as numbers below each other are compared by.

    >>> measured(2), measured(0.5), measured(123.4), measured(18.06), measured(1234.5)
    ('2.00', '0.500', '123', '18.1', '1,234')
    """
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def spoken(low: float, high: float, form: str, *, before: str = " (") -> str:
    """An interval as it stands after its value; nothing where there is none.

    >>> spoken(0.1, 0.2, ".2f"), spoken(0.1, 0.2, ".2f", before=", "), spoken(float("nan"), 1, "")
    (' (0.10 to 0.20)', ', 0.10 to 0.20', '')
    """
    if isnan(low) or isnan(high):
        return ""
    return f"{before}{low:{form}} to {high:{form}}{')' if '(' in before else ''}"


def known(value: float | None) -> bool:
    """Whether there is a number at all."""
    return value is not None and not isnan(value)


def capital(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def shortened(text: object, most: int) -> str:
    """At most so many characters, on one line."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def opening(answer: str) -> str:
    """The first sentences of an answer, with sites in words.

    >>> opening("Read best at blocks.3.resid_post: 0.91.")
    'Read best at block 3: 0.91.'
    """
    first, *others = re.split(r"(?<=[.!?])\s+(?=[A-Z])", answer.strip())
    kept = first
    for sentence in others:
        if len(kept) + len(sentence) >= LONGEST:
            break
        kept += f" {sentence}"
    return re.sub(r"\bblocks\.\d+\.\w+(\.\w+)*", lambda found: place(found[0]), kept)
