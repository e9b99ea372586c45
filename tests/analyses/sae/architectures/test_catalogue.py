"""Architectures by name: what is found, and what a wrong name or option is told."""

from __future__ import annotations

from typing import Any

import pytest

from layerscope.analyses.sae.architectures import catalogue
from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.architectures.catalogue import ARCHITECTURES, by_name
from layerscope.analyses.sae.architectures.matryoshka import Matryoshka


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "crosscoder"])
def test_every_name_makes_its_architecture(name: str) -> None:
    made = by_name(name)
    assert isinstance(made, Architecture)
    assert made.name == name
    assert type(made).__doc__


def test_the_ones_that_were_asked_for_are_there() -> None:
    assert list(ARCHITECTURES) == [
        "topk",
        "batchtopk",
        "matryoshka",
        "jumprelu",
        "gated",
        "relu",
        "relu_april",
        "afa",
        "transcoder",
        "crosscoder",
    ]


def test_one_value_serves_the_whole_group() -> None:
    assert by_name("topk", k=8, group=3).k == (8, 8, 8)  # type: ignore[attr-defined]
    both = by_name("jumprelu", l0=[10, 20], strength=0.5)
    assert (both.l0, both.strength) == ((10, 20), (0.5, 0.5))  # type: ignore[attr-defined]
    made = by_name("transcoder", inner="matryoshka", k=(4, 8), widths=(10, 20))
    inner = made.inner  # type: ignore[attr-defined]
    assert isinstance(inner, Matryoshka)
    assert (inner.k, inner.widths) == ((4, 8), (10, 20))


def test_a_crosscoder_of_two_sites() -> None:
    made = by_name("crosscoder", parts=(3, 5), l1=(1.0, 2.0))
    assert made.parts == (3, 5)  # type: ignore[attr-defined]
    assert not made.subtract_b_dec
    assert not made.unit_decoder


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("topK", {}, LookupError, r"no architecture 'topK'; there are topk, .*mean 'topk'"),
        ("sparse", {}, LookupError, r"no architecture 'sparse'; there are topk, batchtopk"),
        ("relu", {"k": 3}, LookupError, r"relu has no option 'k'; it has subtract_b_dec, l1"),
        ("crosscoder", {}, ValueError, r"a crosscoder needs parts="),
        (
            "topk",
            {"k": (1, 2), "group": 3},
            ValueError,
            r"k=\(1, 2\) has 2 values for a group of 3",
        ),
        (
            "jumprelu",
            {"l0": (1, 2), "strength": (1, 2, 3)},
            ValueError,
            r"2 values for a group of 3",
        ),
        ("relu", {"l1": -1.0}, ValueError, r"l1=\(-1.0,\): give numbers of at least 0"),
        ("batchtopk", {"k": 0}, ValueError, r"k=\(0,\): give numbers of at least 1"),
        ("topk", {"k": 2.5}, ValueError, r"k=\(2.5,\): give whole numbers"),
        ("gated", {"l1": "much"}, ValueError, r"l1=\('much',\)"),
        ("jumprelu", {"l0": 0}, ValueError, r"l0=\(0,\): give numbers"),
        (
            "jumprelu",
            {"penalty": "l2"},
            ValueError,
            r"penalty 'l2'; there are quadratic, step, tanh",
        ),
        ("jumprelu", {"bandwidth": 0}, ValueError, r"bandwidth=0: it must be above 0"),
        ("afa", {"afa": None}, ValueError, r"afa=\(None,\)"),
        ("matryoshka", {"widths": ()}, ValueError, r"widths=\(\)"),
        ("transcoder", {"inner": "crosscoder"}, ValueError, r"cannot be made of a crosscoder"),
        ("transcoder", {"inner": "top"}, LookupError, r"no architecture 'top'"),
    ],
)
def test_wrong_names_and_options(
    name: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        by_name(name, **options)


def test_the_module_lists_what_it_documents() -> None:
    for kind in ARCHITECTURES.values():
        for option in kind.swept:
            assert option in {field.name for field in catalogue.fields(kind)}
