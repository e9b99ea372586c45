from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pandas as pd
import plotly.graph_objects as go
import pytest

from layerscope.finding import Finding, Provenance
from layerscope.report import comparing, to_html
from layerscope.report.sections import sections_of
from layerscope.report.summary import group_of, grouped
from layerscope.wording import opening


class Score(Finding):
    question: ClassVar[str] = "How well is it read?"

    def answer(self) -> str:
        return f"Best: {self.table['value'].max():.2f}."

    def figure(self) -> go.Figure:
        return go.Figure(go.Scatter(x=self.table["layer"], y=self.table["value"]))


def score(model: str, values: list[float], spread: float = 0.01, **parameters: Any) -> Score:
    table = pd.DataFrame(
        {
            "site": [f"blocks.{i}.resid_post" for i in range(len(values))],
            "layer": range(len(values)),
            "value": values,
            "ci_low": [value - spread for value in values],
            "ci_high": [value + spread for value in values],
            "unit": "accuracy",
        }
    )
    source = Provenance(model=model, versions={}, created="", parameters=parameters)
    return Score(table, source, (f"a note on {model}", "a note on all"))


def test_the_same_question_to_other_models_is_one_set() -> None:
    a, b, c = score("a", [0.5]), score("b", [0.5]), score("c", [0.5], folds=3)
    again = score("a", [0.4])
    sets = comparing.side_by_side([a, b, c, again])
    assert [[f.provenance.model for f in one] for one in sets] == [["a", "b"], ["c"], ["a"]]


def test_what_it_cost_does_not_tell_questions_apart() -> None:
    a = score("a", [0.5], layer_evaluations=3.5, stores=["x"])
    b = score("b", [0.5], layer_evaluations=7.0, stores=["y"])
    assert len(comparing.side_by_side([a, b])) == 1


def test_other_data_are_another_question() -> None:
    def of(model: str, data: str) -> Score:
        found = score(model, [0.5])
        return replace(found, provenance=replace(found.provenance, data=data))

    assert len(comparing.side_by_side([of("a", "books"), of("b", "poems")])) == 2
    assert len(comparing.side_by_side([of("a", "books[:60]"), of("b", "books[:90]")])) == 2
    # Each model's tokenizer counts its own.
    pair = [of("a", "books[:60], 1,234 tokens"), of("b", "books[:60], 987 tokens")]
    assert len(comparing.side_by_side(pair)) == 1


def test_models_of_unequal_depth_are_said_to_be() -> None:
    alike = [score("a", [0.5, 0.6]), score("b", [0.5, 0.7])]
    assert comparing.depths(alike, ["a", "b"]) == ""
    [section] = sections_of([alike[0], score("b", [0.5, 0.7, 0.8])])
    assert section.notes[0].startswith(
        "The models differ in depth (the last is in a block 1, in b block 2)"
    )


def test_without_an_interval_nothing_is_said_of_overlap() -> None:
    a, b = score("a", [0.5, 0.5]), score("b", [0.9, 0.9])
    b.table.loc[0, ["ci_low", "ci_high"]] = None
    found = comparing.differences([a, b], ["a", "b"])
    assert found is not None
    assert list(found["intervals"]) == ["", "apart"]
    assert comparing.largest(found, ["a", "b"], "").endswith("0.500 in a, 0.900 in b.")


def test_models_without_a_name_are_not_taken_for_each_other() -> None:
    assert len(comparing.side_by_side([score("", [0.5]), score("", [0.6])])) == 2


def test_models_are_called_by_the_end_of_their_path() -> None:
    def called(*models: str) -> list[str]:
        return comparing.names_of([score(model, [0.5]) for model in models])

    assert called("Gpt at /d/books/step0, 9 parameters", "Llama at /d/tiny/hf, 8") == [
        "books/step0",
        "tiny/hf",
    ]
    assert called("toy, 8 parameters", "toy, 9 parameters") == [
        "toy, 8 parameters",
        "toy, 9 parameters",
    ]


def test_the_largest_difference_stands_first() -> None:
    found = comparing.differences([score("a", [0.5, 0.6, 0.7]), score("b", [0.5, 0.9])], ["a", "b"])
    assert found is not None
    assert list(found["site"]) == ["blocks.1.resid_post", "blocks.0.resid_post"]
    assert list(found["difference"]) == pytest.approx([0.3, 0.0])
    assert list(found["intervals"]) == ["apart", "overlap"]
    assert comparing.largest(found, ["a", "b"], "accuracy") == (
        "The largest difference in accuracy is at blocks.1.resid_post: 0.600 in a, 0.900 in b; "
        "the intervals do not overlap."
    )


def test_of_several_measures_the_largest_difference_is_of_the_first() -> None:
    def both(model: str, *values: float) -> Score:
        site, measure = ["embed", "blocks.0.resid_post"] * 2, ["kl", "kl", "loss", "loss"]
        table = pd.DataFrame({"site": site, "measure": measure, "value": values})
        return Score(table, Provenance(model=model))

    found = comparing.differences([both("a", 1, 2, 1e3, 2e3), both("b", 1, 4, 1, 1)], ["a", "b"])
    assert found is not None
    assert comparing.largest(found, ["a", "b"], "nats") == (
        "The largest difference in kl, nats is at blocks.0.resid_post: 2.00 in a, 4.00 in b."
    )
    alone = found.drop(columns="site").iloc[:1]
    assert comparing.largest(alone, ["a", "b"], "").startswith("The largest difference in kl: 2.00")


def test_of_three_models_the_difference_is_the_range() -> None:
    three = [score("a", [0.5]), score("b", [0.9]), score("c", [0.2])]
    found = comparing.differences(three, ["a", "b", "c"])
    assert found is not None
    assert found["difference"].iloc[0] == pytest.approx(0.7)


def test_measures_are_not_ranked_against_each_other() -> None:
    def two(model: str, loss: float, share: float) -> Score:
        table = pd.DataFrame({"measure": ["share", "loss"], "value": [share, loss]})
        return Score(table, replace(score(model, [1]).provenance), ())

    found = comparing.differences([two("a", 9.0, 0.2), two("b", 2.0, 0.3)], ["a", "b"])
    assert found is not None
    assert list(found["measure"]) == ["share", "loss"]


def test_tables_that_do_not_fit_have_no_differences() -> None:
    a, other = score("a", [0.5]), score("b", [0.5])
    assert (
        comparing.differences([a, replace(other, table=other.table.assign(unit="R2"))], "ab")
        is None
    )
    assert comparing.differences([a, replace(other, table=other.table[["layer"]])], "ab") is None
    doubled = replace(other, table=pd.concat([other.table, other.table]))
    assert comparing.differences([a, doubled], "ab") is None
    elsewhere = replace(other, table=other.table.assign(site="blocks.7.resid_post", layer=7))
    assert comparing.differences([a, elsewhere], "ab") is None


def test_a_section_holds_both_models_and_begins_with_the_difference() -> None:
    [section] = sections_of([score("a", [0.5, 0.6]), score("b", [0.5, 0.9])])
    assert [panel.model for panel in section.panels] == ["a", "b"]
    assert section.said.startswith("The largest difference in accuracy is at block 1: 0.600 in a")
    assert section.notes == ("a: a note on a", "a note on all", "b: a note on b")
    html = to_html([score("a", [0.5, 0.6]), score("b", [0.5, 0.9])])
    assert html.index("The largest difference") < html.index("Best: 0.60.")
    assert html.count('class="plot"') == 2
    for fold in ("Differences", "Table: a", "Table: b", "Provenance: a", "Provenance: b"):
        assert f"<summary>{fold} " in html


def test_a_failing_finding_is_named_by_its_place_in_the_list() -> None:
    class Broken(Score):
        def answer(self) -> str:
            raise KeyError("no column")

    good, other = score("a", [0.5]), score("b", [0.5])
    broken = Broken(good.table, good.provenance)
    with pytest.raises(ValueError, match=r"finding 3 \(Broken: How well is it read\?\)"):
        sections_of([good, other, broken])


def test_findings_are_grouped_by_where_their_classes_live() -> None:
    from layerscope.analyses.skipping.layer_skip_finding import SkipFinding
    from layerscope.demo.battery import WordClass
    from layerscope.hooks.locating.anatomy_finding import AnatomyFinding

    def group(kind: type[Finding]) -> str:
        return group_of(kind(pd.DataFrame(), Provenance()))

    assert group(AnatomyFinding) == "The model and the data"
    assert group(WordClass) == "What layers know"
    assert group(SkipFinding) == "What if"
    assert group(Score) == "Also"


def test_the_summary_keeps_the_order_of_its_headings() -> None:
    sections = [replace(s, group=g) for s, g in zip(
        sections_of([score("a", [0.5]), score("b", [0.4], folds=2), score("c", [0.3], folds=3)]),
        ("What if", "The model and the data", "What if"), strict=True,
    )]  # fmt: skip
    groups = grouped(sections)
    assert [group.heading for group in groups] == ["The model and the data", "What if"]
    assert groups[1].sections == (sections[0], sections[2])


def test_an_opening_is_the_first_sentences() -> None:
    assert opening("One of 3.5 nats. Two. " + "Long. " * 60) == "One of 3.5 nats. Two. " + " ".join(
        ["Long."] * 29
    )
    assert opening("A" * 500 + ". Next.") == "A" * 500 + "."
    assert (
        opening("At blocks.12.resid_post and blocks.3.mlp_out.")
        == "At block 12 and the MLP of block 3."
    )
