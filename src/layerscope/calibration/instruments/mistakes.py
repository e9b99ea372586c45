"""Where a label is wrong, where it cannot be read, and what a model loses with it."""

from __future__ import annotations

from collections.abc import Iterator
from math import log, sqrt
from typing import TYPE_CHECKING, Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.rows import planted_store

if TYPE_CHECKING:
    from layerscope.corpus import Corpus

KNOW = "What the layers know"
SITE = "blocks.0.resid_post"


def _label_errors(seed: int) -> Iterator[Reading]:
    import numpy as np

    from layerscope.analyses import label_errors
    from layerscope.planted.clouds import gaussian, isotropic

    rows, wrong = 360, 18
    right = np.arange(rows) % 3
    # More than sixteen standard deviations apart: no row is ever nearer to another class.
    x = gaussian(rows, isotropic(6), seed=seed)
    x[np.arange(rows), right] += 12
    given = right.copy()
    given[:wrong] = (right[:wrong] + 1) % 3
    names = np.array(["ant", "bee", "cat"])
    groups = [f"g{row % 60}" for row in range(rows)]
    sites = {SITE: x}
    with planted_store(sites, group=groups, given=names[given], right=names[right]) as store:
        found = label_errors(store, label="given", plant=0, seed=seed, progress=False).rows
        clean = label_errors(store, label="right", plant=0, seed=seed, progress=False).rows
    planted = set(range(wrong))
    flagged = len(planted & set(found["row"]))
    # How many of each class are wrong is estimated first, and cut to whole rows of three classes.
    yield Reading("wrong labels that are flagged", wrong, flagged, 3, "rows")
    yield Reading("right labels that are flagged", 0, len(set(found["row"]) - planted), unit="rows")
    meant = found.set_index("row")["suggested"]
    other = sum(meant[row] != names[right[row]] for row in planted & set(meant.index))
    yield Reading("other than the right class suggested", 0, other, unit="rows")
    yield Reading("flagged where all labels are right", 0, len(clean), unit="rows")


def _slices(seed: int) -> Iterator[Reading]:
    import numpy as np
    import torch

    from layerscope.analyses import slices
    from layerscope.calibration.instruments.sampling import three_errors

    rows, width = 1200, 6
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % 2
    sea = torch.rand(rows, generator=generator) < 0.4
    coin = torch.rand(rows, generator=generator) < 0.5
    x = torch.randn(rows, width, generator=generator)
    # Read without a mistake on land; at sea the two classes are the same rows.
    x[:, 0] += torch.where(sea, 0.0, 16.0) * (y - 0.5)
    x[:, 1] += 8.0 * sea
    columns = {
        "kind": np.array(["crow", "duck"])[y],
        "place": np.where(sea, "sea", "land"),
        "noise": np.where(coin, "heads", "tails"),
    }
    groups = [f"g{row // 10}" for row in range(rows)]
    with planted_store({SITE: x}, group=groups, **columns) as store:
        found = slices(
            store, label="kind", columns=["place", "noise"], clusters=2, seed=seed, progress=False
        )
    lines: Any = found.table[found.table["part"] == "column"].set_index("slice")
    yield Reading("worst slice", "place = sea", str(lines["value"].idxmax()))
    at_sea = lines.loc["place = sea"]
    allowed = three_errors(0.5, int(at_sea["rows"]))
    yield Reading("errors at sea", 0.5, float(at_sea["error"]), allowed, "share")
    yield Reading("errors on land", 0.0, float(at_sea["baseline"]), 0.01, "share")
    heads = lines.loc["noise = heads"]
    # A fifth of all rows are read wrongly, whatever the coin: two shares of half the rows each.
    half = heads["n"] / 2
    allowed = sqrt(2) * three_errors(0.2, int(half))
    yield Reading("more errors at heads of a coin", 0.0, float(heads["value"]), allowed, "share")


def _concept_erasure(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import concept_erasure
    from layerscope.planted.used_label import loss, used_label

    strength = 3.0
    model, corpus = used_label(strength, seed=seed), _mirrored(seed)
    for label in ("used", "idle"):
        found = concept_erasure(
            model,
            corpus,
            [0],
            label=label,
            methods="leace",
            draws=2,
            tokenizer=_words(),
            seed=seed,
            progress=False,
        )
        read, lost = found.part("decodable").iloc[0], found.losses().iloc[0]
        yield Reading(f"probe accuracy, {label} label", 1.0, read["before"], 1e-9, "share")
        yield Reading(f"probe accuracy, {label} label erased", 0.5, read["after"], 1e-9, "share")
        # Without the used label all eight tokens are alike.
        costs = log(8) - loss(strength) if label == "used" else 0.0
        yield Reading(
            f"loss added by erasing the {label} label", costs, lost["value"], 1e-4, "nats"
        )


def _mirrored(seed: int) -> Corpus:
    """Texts in groups of four, whose words have their used and their idle label."""
    from layerscope.corpus import Corpus, Text, Words
    from layerscope.planted.used_label import corners, mirrored_walks

    walks = mirrored_walks(15, 13, seed=seed).flatten(0, 1).tolist()

    def text(number: int) -> Text:
        ids = walks[number]
        starts = tuple(range(0, 3 * len(ids), 3))
        signs = corners()[ids].tolist()
        labels = {
            "used": tuple("up" if used > 0 else "down" for used, *_ in signs),
            "idle": tuple("left" if idle > 0 else "right" for _, idle, _ in signs),
        }
        words = Words(starts, tuple(start + 2 for start in starts), labels)
        content = " ".join(f"w{token}" for token in ids)
        group = f"g{number // 4}"
        return Text(content=content, id=f"t{number}", group=group, labels={}, words=words)

    return Corpus("mirrored texts", lambda: [text(number) for number in range(len(walks))])


def _words() -> Any:
    """A tokenizer to which every word ``w0`` to ``w10`` is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({f"w{token}": token for token in range(11)}, unk_token="w10")
    raw = Tokenizer(words)
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw)


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "label_errors",
        KNOW,
        "Of 360 labels of classes far apart, 18 are exchanged; and the same rows with every label "
        "right.",
        "the construction",
        _label_errors,
    ),
    Instrument(
        "slices",
        KNOW,
        "Classes that cannot be told apart at one of two places, and a coin that changes nothing.",
        "the construction: a coin at sea, no error on land",
        _slices,
    ),
    Instrument(
        "concept_erasure",
        "What if",
        "A decoder whose next token follows from one label of the current token, while another can "
        "be read and is never used.",
        "closed form: ln 4 + ln(1 + exp(-3)) nats with the label, ln 8 without",
        _concept_erasure,
    ),
)
