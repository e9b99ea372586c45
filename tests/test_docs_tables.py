"""What the pages of docs/ list, print and state is what there is."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib import import_module
from pathlib import Path

import pytest
import torch

import layerscope as ls
from layerscope import demo
from layerscope.analyses.back_patches.back_patching_finding import COLUMNS
from layerscope.analyses.generalising.gap_table import BASELINES, INFORMATION
from layerscope.analyses.information.catalogue import ESTIMATORS
from layerscope.analyses.information_plane import ESTIMATORS as PLANE_ESTIMATORS
from layerscope.analyses.measures.concentration import gaussian_share
from layerscope.analyses.measures.gdv import gdv_floor
from layerscope.analyses.resemblance.cells import MEASURES
from layerscope.analyses.sae import load
from layerscope.analyses.sae.architectures.catalogue import ARCHITECTURES
from layerscope.analyses.sae.formats.dictionary_learning import CLASSES
from layerscope.analyses.sae.formats.recognising import FORMATS
from layerscope.analyses.sae.measuring.definitions import DEFINITIONS
from layerscope.analyses.sae.rows import scaling, statistics
from layerscope.probes.kinds import NAMES, as_kind
from layerscope.probes.kinds.kind import LabelKind

DOCS = Path(__file__).resolve().parents[1] / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def first_column(name: str, header: str) -> set[str]:
    """Every name in the first column of the table that begins with this header."""
    rows = page(name).split(f"\n| {header} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {one for row in rows for one in re.findall(r"`\"?(\w+)\"?`", row.split(" | ")[0])}


LABEL_KINDS = {name for name in {*NAMES} - {"concepts"} if isinstance(as_kind(name), LabelKind)}
"""What reads labels from rows; `concepts` does too, and has no defaults."""


TABLES: dict[str, tuple[str, Collection[str]]] = {
    "back_patching": ("column", COLUMNS),
    "generalisation_gap": ("`measure`", (*INFORMATION, *BASELINES)),
    "information_plane": ("`estimator`", PLANE_ESTIMATORS),
    "probe_kinds": ("kind", {*LABEL_KINDS, "concepts"}),
    "sae_architectures": ("name", ARCHITECTURES),
    "sae_formats": ("`format`", FORMATS),
    "sae_rows": ("`scaling=`", scaling.KINDS),
    "similarity": ("name", MEASURES),
}
"""Page -> the first heading of its table, and what that lists."""


@pytest.mark.parametrize("name", TABLES)
def test_a_table_names_what_there_is(name: str) -> None:
    header, there = TABLES[name]
    assert first_column(name, header) == set(there)


def test_the_formats_are_tried_in_the_order_of_their_table() -> None:
    found = re.findall(r"^\| `(\w+)` \|", page("sae_formats"), re.MULTILINE)
    assert found == ["format", *FORMATS]
    assert [name for name in CLASSES if f"`{name}`" not in page("sae_formats")] == []


def test_the_page_of_mutual_information_names_every_optional_estimator() -> None:
    text = page("mutual_information")
    optional = {name for name, one in ESTIMATORS.items() if one.kind == "continuous"}
    for name in optional - {"ksg", "ksg-rank", "kl-rank"}:
        assert f"`{name}`" in text or f'"{name}"' in text, name


PLAIN_TEXT = {
    "\\|": "|", ": ": " ", "⟨": "<", "⟩": ">", "\N{MINUS SIGN}": "-", "·": ".", "≠": "!=", "ŷ": "y_hat",
    "R²": "R2", "²": "^2", "₂": "2", "ᵢ": "_i", "ⱼ": "_j",
}  # fmt: skip
"""What the page sets as mathematics -> the same in a finding's table."""


def test_every_measure_of_an_autoencoder_stands_with_its_definition() -> None:
    lines = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page("sae_measures"), re.MULTILINE))
    for key, one in DEFINITIONS.items():
        said = lines[key]
        for sign, plain in PLAIN_TEXT.items():
            said = said.replace(sign, plain)
        assert said == one.name


def test_what_counts_as_a_mismatch_is_as_the_page_says() -> None:
    assert (statistics.MOST_RATIO, statistics.MOST_SHIFT, statistics.MOST_MISFIT) == (1.5, 0.5, 0.1)
    for said in ("ratio above 1.5", "half a standard deviation", "10 % of the variance"):
        assert said in page("sae_rows")


PLAIN = {"label", "site", "layer", "unit", "estimator", "n", "n_groups", "n_classes", "width"}


@pytest.mark.parametrize(
    ("name", "kind", "columns"),
    [
        ("mdl", "coding.finding", ()),
        ("contrast_probes", "contrast.consistency_finding", ("pair", "side")),
        ("contrast_probes", "contrast.clue_finding", ()),
        ("layer_mixes", "mixing.layer_mix_finding", ()),
        ("layer_mixes", "mixing.pooling_finding", ()),
    ],
)
def test_special_columns_are_explained(name: str, kind: str, columns: tuple[str, ...]) -> None:
    """Those that the page of probes does not explain already."""
    texts = (page("probes"), page(name))
    for column in (*import_module(f"layerscope.probes.{kind}").COLUMNS, *columns):
        # Ends of an interval and deviations are explained with their value.
        whole = column.removesuffix("_low").removesuffix("_high").removesuffix("_sd")
        known = any(f"`{one}`" in text for one in (column, whole) for text in texts)
        assert known or column in PLAIN, column


def test_the_law_of_attention_modes() -> None:
    text = " ".join(page("attention_modes").split())
    assert "78 % at s = 0.5, 61 % at 1, 24 % at 2" in text
    assert [round(100 * gaussian_share(s)) for s in (0.5, 1, 2)] == [78, 61, 24]


def test_the_floors_of_word_classes() -> None:
    for sizes, told in (([1, 1], "-1 |"), ([1] * 10, "-0.745 |"), ([1, 9], "-1.667 |")):
        assert told in page("word_classes")
        assert gdv_floor(sizes) == pytest.approx(float(told[:-1]), abs=1e-3)
    assert gdv_floor([1] * 10_000) == pytest.approx(-0.707, abs=1e-3)


def test_the_tree_of_the_page_is_the_bundled_model() -> None:
    """All but the first line, which names a folder."""
    told = re.findall(r"```text\n(.*?)```", page("anatomy"), re.DOTALL)
    printed = str(ls.anatomy(demo.load_model())).splitlines()
    assert _unrounded(told[0].splitlines()[1:]) == _unrounded(printed[1:])


def _unrounded(lines: list[str]) -> list[str]:
    """Without the rounding errors, which another processor makes differently."""
    return [re.sub(r"error \S+\)", "error)", line).rstrip() for line in lines]


def test_the_error_the_page_of_formats_shows_is_the_one_it_gives(tmp_path: Path) -> None:
    shown = re.search(r"ValueError: \.\.\./(.*)\n", page("sae_formats"))
    assert shown is not None
    entries = {
        "encoder.weight": torch.zeros(256, 64),
        "encoder.bias": torch.zeros(256),
        "decoder.weight": torch.zeros(256, 64),
        "bias": torch.zeros(64),
    }
    torch.save(entries, tmp_path / "ae.pt")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/{shown[1]}")):
        load(tmp_path)
