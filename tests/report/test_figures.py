from __future__ import annotations

import base64
import json

import numpy as np
import plotly.graph_objects as go
import pytest

from layerscope.finding import Finding
from layerscope.report.figures import described, embedded


def cloud(n: int, **options: object) -> go.Figure:
    x = np.arange(n, dtype=float)
    marker = {"color": x, "size": 4}
    text = [f"row {i}" for i in range(n)]
    return go.Figure(go.Scattergl(x=x, y=-x, mode="markers", text=text, marker=marker, **options))


def array(spec: dict[str, str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The numbers of plotly's binary array."""
    return np.frombuffer(base64.b64decode(spec["bdata"]), spec["dtype"])


def test_a_figure_is_plain_json_without_its_template() -> None:
    figure = go.Figure(go.Bar(x=["a"], y=[np.nan])).update_layout(title_text="kept")
    body, note = embedded(figure)
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert "template" not in body["layout"]
    assert body["layout"]["title"]["text"] == "kept"
    assert note == ""


def test_embedding_leaves_the_figure_alone() -> None:
    figure = cloud(1000)
    before = figure.to_json()
    embedded(figure, limit=20_000)
    assert figure.to_json() == before


def test_points_above_the_limit_are_thinned_together_and_it_says_so() -> None:
    full = len(cloud(2000).to_json())
    body, note = embedded(cloud(2000, customdata=np.zeros((2000, 2))), limit=full // 3)
    trace = body["data"][0]
    step = int(trace["text"][1].removeprefix("row "))
    assert step > 3
    assert note == f"The figure shows every {step}th point; the table has all."
    assert len(json.dumps(body)) <= full // 3
    np.testing.assert_array_equal(array(trace["x"]), np.arange(0, 2000, step))
    np.testing.assert_array_equal(array(trace["y"]), -np.arange(0, 2000, step))
    np.testing.assert_array_equal(array(trace["marker"]["color"]), np.arange(0, 2000, step))
    assert trace["marker"]["size"] == 4
    assert trace["customdata"]["shape"] == f"{len(trace['text'])}, 2"


def test_frames_are_thinned_as_their_points_are() -> None:
    figure = cloud(1000)
    figure.frames = [go.Frame(name="later", data=cloud(1000).data)]
    body, _ = embedded(figure, limit=40_000)
    first, later = body["data"][0], body["frames"][0]["data"][0]
    assert len(json.dumps(body)) <= 40_000
    assert body["frames"][0]["name"] == "later"
    assert later["text"] == first["text"]
    np.testing.assert_array_equal(array(later["x"]), array(first["x"]))


def test_a_figure_below_the_limit_is_whole() -> None:
    body, note = embedded(cloud(50), limit=50_000)
    assert len(body["data"][0]["text"]) == 50
    assert note == ""


def test_what_cannot_be_thinned_is_refused_with_its_size() -> None:
    heat = go.Figure(go.Heatmap(z=np.random.default_rng(0).normal(size=(200, 200))))
    with pytest.raises(ValueError, match=r"its figure takes \d+,\d+ bytes, more than 50,000"):
        embedded(heat, limit=50_000)


def test_lines_are_never_thinned() -> None:
    line = go.Figure(go.Scatter(x=np.arange(9000), y=np.arange(9000.0), mode="lines"))
    with pytest.raises(ValueError, match="more than 20,000"):
        embedded(line, limit=20_000)


def test_the_description_names_series_and_axes_but_not_bands(findings: list[Finding]) -> None:
    body, _ = embedded(findings[1].figure())
    assert described(body) == (
        "Figure: 3 line or point series (value, null_mean, baseline); across: layer, up: accuracy."
    )


def test_the_description_of_many_series_is_short() -> None:
    figure = go.Figure([go.Scatter(y=[i], name=f"s{i}") for i in range(9)])
    assert described(embedded(figure)[0]).endswith("(s0, s1, s2, s3, s4, s5, …).")


def test_an_empty_figure_has_a_description() -> None:
    assert described(embedded(go.Figure())[0]) == "Figure: no series."
