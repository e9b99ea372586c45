from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from layerscope.finding import Finding, Provenance
from layerscope.report.layers import layers_of, lines, named, union
from layerscope.report.sections import sections_of
from layerscope.theme import mark_layers, themed


class Layered(Finding):
    question: ClassVar[str] = "At which layer?"

    def answer(self) -> str:
        return "There."

    def figure(self) -> go.Figure:
        layers = self.table["layer"]
        return mark_layers(go.Figure(go.Scatter(x=layers, y=self.table["value"])), layers)


def test_a_row_is_about_the_layer_of_its_number_or_of_its_site() -> None:
    numbered = pd.DataFrame({"site": ["blocks.9.z", "embed", "x"], "layer": [3.0, -1.0, np.nan]})
    assert layers_of(numbered) == [(3,), (-1,), ()]
    sites = pd.DataFrame({"site": ["blocks.2.mlp_out", "embed", "norm", "h.blocks.1.z"]})
    assert layers_of(sites) == [(2,), (-1,), (), ()]


def test_layers_that_are_no_blocks_are_not_taken_for_those_of_the_same_number() -> None:
    table = pd.DataFrame(
        {
            "site": ["encoder.blocks.1.resid_post", "blocks.1.resid_post", "encoder.embed"],
            "layer": [1, 1, -1],
            "value": [0.25, 0.5, 0.75],
        }
    )
    assert layers_of(table) == [(), (1,), ()]
    assert lines(table) == {1: "0.500"}
    assert layers_of(table.drop(columns="layer")) == [(), (1,), ()]
    small = pd.DataFrame({"site": ["hidden.1", "softmax"], "layer": [1, 2], "value": 1.0})
    assert lines(small) == {}
    # Where there is only the encoder, its blocks are the only ones that can be meant.
    assert layers_of(table.iloc[:1]) == [(1,)]
    assert layers_of(table.iloc[:1].drop(columns="layer")) == [(1,)]


@pytest.mark.parametrize("nothing", [None, np.nan])
def test_rows_without_a_site_do_no_harm(nothing: object) -> None:
    table = pd.DataFrame({"site": ["blocks.1.resid_post", nothing], "layer": [1, 2], "value": 0.5})
    assert layers_of(table) == [(1,), (2,)]
    assert layers_of(table.astype({"site": "str"})) == [(1,), (2,)]


def test_a_pair_is_about_both() -> None:
    pairs = pd.DataFrame({"source": [5, 6], "target": [1, 6], "value": [0.1, 0.2]})
    assert layers_of(pairs) == [(5, 1), (6, 6)]
    sites = pd.DataFrame({"source": ["blocks.4.resid_post"], "target": ["embed"]})
    assert layers_of(sites) == [(4, -1)]


def test_a_table_without_layers_has_none() -> None:
    table = pd.DataFrame({"kind": ["a"], "layer": ["all"], "value": [1.0]})
    assert layers_of(table) == [()]
    assert lines(table) == {}
    assert lines(pd.DataFrame({"layer": [1, 2]})) == {}


def test_a_line_has_the_interval_and_what_it_is_held_against() -> None:
    table = pd.DataFrame(
        {
            "site": ["embed", "blocks.0.resid_post"],
            "layer": [-1, 0],
            "value": [0.75, 0.9123],
            "ci_low": [0.7, 0.9],
            "ci_high": [0.8, 0.92],
            "control": [0.5, np.nan],
            "baseline": 0.25,
            "unit": "accuracy",
        }
    )
    assert lines(table) == {
        -1: "accuracy 0.750 (0.700 to 0.800), control 0.500, baseline 0.250",
        0: "accuracy 0.912 (0.900 to 0.920), baseline 0.250",
    }


def test_values_of_a_layer_are_told_apart_by_as_few_words_as_it_takes() -> None:
    table = pd.DataFrame(
        {
            "measure": ["loss", "loss", "output"],
            "tokens": ["all", "future", "all"],
            "layer": 2,
            "value": [0.5, 0.25, 0.125],
            "unit": ["nats", "nats", "distance"],
        }
    )
    told = "loss, all: 0.500 nats; loss, future: 0.250 nats; output, all: distance 0.125"
    assert lines(table)[2] == told


def test_many_values_of_a_layer_are_told_by_their_range() -> None:
    heads = pd.DataFrame({"layer": 1, "head": range(6), "value": np.arange(6) / 10})
    assert lines(heads)[1] == "0.000 to 0.500 in 6 rows"
    kinds = heads.assign(kind=["a"] * 3 + ["b"] * 3)
    assert lines(kinds)[1] == "a: 0.000 to 0.200 in 3 rows; b: 0.300 to 0.500 in 3 rows"
    assert lines(heads.assign(unit="nats"))[1] == "0.000 to 0.500 nats in 6 rows"


def test_a_measure_with_several_values_is_not_told_by_its_first() -> None:
    """Over training the first is that of the untrained network."""
    steps = pd.DataFrame({"step": range(5), "measure": "cosine", "layer": 0, "value": 1.0})
    steps["value"] = [1.0, 0.75, 0.5, 0.25, 0.5]
    alone = pd.DataFrame({"step": [4], "measure": "rank", "layer": 0, "value": 8.0})
    assert lines(pd.concat([steps, alone]))[0] == "cosine: 0.25 to 1.00 in 5 rows; rank: 8.00"


def test_a_line_tells_the_first_part_and_the_smallest_scope() -> None:
    parts = pd.DataFrame({"layer": 0, "part": ["curve"] * 2 + ["point"], "value": [1.0, 2.0, 9.0]})
    assert "9" not in lines(parts)[0]
    alike = pd.DataFrame({"layer": 0, "part": ["block", "mlp"], "value": [1.0, 2.0]})
    assert lines(alike)[0] == "block: 1.00; mlp: 2.00"
    scopes = pd.DataFrame({"layer": 0, "scope": ["token"] * 5 + ["prompts"], "value": range(6)})
    assert lines(scopes)[0] == "5.00"


def test_windows_of_blocks_are_said_to_be_windows() -> None:
    begin = pd.DataFrame({"layer": 1, "blocks": [2, 3], "value": [0.25, 0.5]})
    assert lines(begin)[1] == "windows that begin here: blocks 2: 0.250; blocks 3: 0.500"
    assert lines(begin.assign(blocks=1).iloc[:1])[1] == "0.250"
    around = pd.DataFrame({"layer": [3], "first": [2], "end": [5], "value": [0.5]})
    assert lines(around)[3] == "windows around it: 0.500"
    assert lines(around.assign(first=3, end=4))[3] == "0.500"


def test_pairs_are_told_only_where_nothing_else_is() -> None:
    both = pd.DataFrame({"layer": [0, 0], "later": [np.nan, 1], "value": [3.0, 7.0]})
    assert lines(both) == {0: "3.00"}
    pairs = pd.DataFrame({"layer": [0], "later": [1], "value": [7.0]})
    assert lines(pairs) == {0: "7.00", 1: "7.00"}


def test_layers_have_names_and_an_order() -> None:
    assert [named(layer) for layer in (-1, 0, 12)] == ["embed", "block 0", "block 12"]
    assert union([{3, -1}, (), [0, 3]]) == (-1, 0, 3)


def test_a_figure_says_where_its_layers_are() -> None:
    figure = go.Figure(go.Scatter(x=[-1, 0], y=[1, 2]))
    assert mark_layers(figure, [0, -1, 0]) is figure
    assert figure.layout.meta["layers"] == {"x": [[-1, -1.0], [0, 0.0]]}
    mark_layers(figure, [0, 1], "y2", at=[3, 4])
    assert figure.layout.meta["layers"]["y2"] == [[0, 3.0], [1, 4.0]]
    assert set(themed(figure).layout.meta["layers"]) == {"x", "y2"}


def test_every_x_axis_is_marked_unless_some_are_named() -> None:
    figure = make_subplots(rows=2, cols=1)
    assert set(mark_layers(figure, [0, 1]).layout.meta["layers"]) == {"x", "x2"}


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_sites_that_are_no_layers_are_left_out(missing: object) -> None:
    figure = mark_layers(go.Figure(), [0, missing], at=[5, 6])
    assert figure.layout.meta["layers"] == {"x": [[0, 5.0]]}
    # Without places the figure has counted its sites, and no number is a layer's.
    assert mark_layers(go.Figure(), [0, missing]).layout.meta is None


def test_an_encoder_beside_its_decoder_is_not_linked() -> None:
    def of(prefix: str) -> Layered:
        table = pd.DataFrame({"site": [f"{prefix}blocks.3.resid_post"], "layer": 3, "value": 0.5})
        return Layered(table, Provenance())

    encoder, decoder = sections_of([of("encoder."), of("")])
    assert decoder.layers == {3}
    assert decoder.panels[0].table.layers == ((3,),)
    assert encoder.layers == set()
    assert encoder.panels[0].table.layers == ()
    [alone] = sections_of([of("encoder.")])
    assert alone.layers == {3}
