"""Every kind of finding says in one plain sentence what was found, and no more than its table holds."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pandas as pd
import pytest
from tests.gists.case import Case
from tests.gists.look_cases import LOOKS
from tests.gists.probe_cases import PROBES
from tests.gists.training_cases import TRAINED
from tests.gists.what_if_cases import WHAT_IF

import layerscope
from layerscope.cli.printing import finding_as_dict
from layerscope.finding import Finding, Provenance
from layerscope.report import to_html
from layerscope.wording import opening

CASES = [*PROBES, *WHAT_IF, *LOOKS, *TRAINED]
LONGEST = 140
ABSTRACT = {"Asked"}


def kinds() -> dict[str, type[Finding]]:
    """Every class of findings in the house by its name."""
    for module in pkgutil.walk_packages(layerscope.__path__, "layerscope."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, todo = {}, [Finding]
    while todo:
        for kind in todo.pop().__subclasses__():
            todo.append(kind)
            if kind.__module__.startswith("layerscope."):
                found[kind.__name__] = kind
    return found


@pytest.fixture(scope="module")
def house() -> dict[str, type[Finding]]:
    return kinds()


def made(case: Case, house: dict[str, type[Finding]]) -> Finding:
    return house[case.kind](
        table=case.table, provenance=Provenance(parameters=dict(case.parameters))
    )


def test_every_kind_has_a_case_and_a_sentence_of_its_own(house: dict[str, type[Finding]]) -> None:
    assert set(house) - ABSTRACT == {case.kind for case in CASES}
    assert not [name for name, kind in house.items() if kind.gist is Finding.gist]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.gist[:24]}")
def test_what_it_says(case: Case, house: dict[str, type[Finding]]) -> None:
    said = made(case, house).gist().replace("\N{NO-BREAK SPACE}", " ")
    assert said == case.gist
    assert len(said) <= LONGEST
    assert said.endswith(".")
    assert "\n" not in said
    assert not re.search(r"blocks\.|resid_|attn_out|mlp_out|\b(nan|inf)\b", said)


def test_a_kind_that_has_none_says_the_opening_of_its_answer() -> None:
    class Count(Finding):
        question = "How many?"

        def answer(self) -> str:
            return (
                "Most at blocks.3.resid_post and blocks.0.mlp_out: 0.91. "
                + "More, at length. " * 20
            )

    said = Count(table=pd.DataFrame({"value": [1]}), provenance=Provenance()).gist()
    assert said.startswith("Most at block 3 and the MLP of block 0: 0.91. More, at length.")
    assert len(said) < 200
    assert opening("One. two") == "One. two"


def test_the_summary_and_json_say_it(house: dict[str, type[Finding]]) -> None:
    case = next(case for case in CASES if case.kind == "CorpusFinding")
    finding = made(case, house)
    assert finding_as_dict(finding)["gist"] == case.gist
    page = to_html(finding)
    summary = page[page.index("What was found") : page.index(finding.answer())]
    assert case.gist in summary
