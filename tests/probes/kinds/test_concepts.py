"""Concept bottlenecks: which concepts, what leaks, search without training, other labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.probes.fitting import fit, fit_readout
from layerscope.probes.kinds import Concepts
from layerscope.probes.kinds.concepts import Bottleneck, thresholded
from layerscope.probes.kinds.kind import Further, Work
from layerscope.probes.probe import probe
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Engine

TRUE = [3, 40, 77, 120, 199]


@pytest.fixture
def hidden() -> tuple[Tensor, Tensor, Tensor]:
    """200 concepts in 220 features; the class depends on five of them."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(220, 220, generator=generator)).Q[:200]
    x = 2 * torch.randn(3000, 220, generator=generator) + 5
    odds = ((x - 5) @ directions[TRUE].T).sum(1)
    y = (torch.rand(3000, generator=generator) < odds.sigmoid()).long()
    return x, y, directions


def test_the_concepts_a_label_depends_on_are_found(hidden, scored) -> None:
    x, y, directions = hidden
    kind = Concepts(directions=directions)
    readout = fit(x, y, kind=kind)
    assert set(TRUE) <= set(readout.used)
    assert len(readout.used) < 30
    kept = thresholded(torch.cat([readout.weight, readout.bias[:, None]], 1), 0.3)
    assert (kept[:, :-1] != 0).any(0).nonzero()[:, 0].tolist() == TRUE
    line = scored(kind, x, y)
    best = np.mean((((x - 5) @ directions[TRUE].T).sum(1) > 0).long().numpy() == y.numpy())
    assert line["value"] == pytest.approx(best, abs=0.015)
    assert 5 <= line["concepts"] <= 30
    assert line["nonzero"] >= line["concepts"]
    assert line["thresholded"] == pytest.approx(line["value"], abs=0.01)


def test_small_weights_are_cut_class_by_class() -> None:
    weights = torch.tensor([[10.0, 0.9, -2.0, 5.0], [0.1, 0.02, 0.0, 0.1]])
    expected = torch.tensor([[10.0, 0.0, -2.0, 5.0], [0.1, 0.02, 0.0, 0.1]])
    assert torch.equal(thresholded(weights), expected)


def test_search_with_the_true_rows_is_always_right(scored) -> None:
    """Concept matrix search: rows are their class's concepts plus noise that no concept sees."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(30, 30, generator=generator)).Q
    matrix = (torch.rand(4, 20, generator=generator) < 0.4).float()
    y = torch.arange(800) % 4
    noise = torch.randn(800, 10, generator=generator) @ directions[20:]
    x = 3 * matrix[y] @ directions[:20] + noise + 7
    kind = Concepts(directions=directions[:20], matrix=matrix)
    line = scored(kind, x, y, classes=4)
    assert line["value"] == 1
    assert "concepts" not in line
    readout = fit(x, y, kind=kind)
    assert readout.search
    assert readout.predict(x) == y.tolist()
    # Scores less their mean are the class's row less the mean row, so that they point the same way.
    torch.testing.assert_close(readout(x)[range(800), y], torch.ones(800), atol=1e-4, rtol=0)
    other = Concepts(directions=directions[:20], matrix=matrix.roll(1, 0))
    assert scored(other, x, y, classes=4)["value"] == 0


def test_directions_from_another_label(make_store) -> None:
    """Colours are concepts: the class is red or not, so red alone is needed."""
    generator = torch.Generator().manual_seed(0)
    colour = np.array(["blue", "green", "red"])[np.arange(900) % 3]
    means = 4 * torch.randn(3, 10, generator=generator)
    x = means[torch.arange(900) % 3] + torch.randn(900, 10, generator=generator)
    named: list[str | None] = list(colour)
    named[5] = None
    store = make_store(
        {"blocks.0.resid_post": x},
        group=np.arange(900) // 3,
        colour=named,
        kind=np.where(colour == "red", "warm", "cold").tolist(),
    )
    finding = probe(store, label="kind", kind=Concepts(label="colour"), progress=False)
    assert finding.best["value"] > 0.95
    assert finding.best["estimator"] == "l1 logistic on concepts"
    readout = fit_readout(store, 0, "kind", kind=Concepts(label="colour"))
    assert readout.concepts == ("blue", "green", "red")
    assert "red" in readout.used
    is_red = torch.from_numpy(colour == "red")
    known = torch.arange(900) != 5
    gap = x[is_red & known].mean(0) - x[~is_red & known].mean(0)
    torch.testing.assert_close(readout.directions[2], gap, atol=1e-3, rtol=1e-3)
    with pytest.raises(LookupError, match=r"no label 'color'.*did you mean 'colour'"):
        probe(store, label="kind", kind=Concepts(label="color"), progress=False)
    with pytest.raises(ValueError, match="label='colour' is a column of a store: use probe"):
        fit(x, colour, kind=Concepts(label="colour"))


def test_directions_and_scales_do_not_depend_on_the_fold_that_is_tested() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 6, generator=generator)
    codes = np.arange(100) % 3
    changed = x.clone()
    changed[:20] = 50.0
    kind = Concepts(label="colour")
    made = [
        Bottleneck(
            kind,
            Work(
                Design.of(rows, (0, 20, 40, 60, 80, 100)),
                torch.arange(100)[None] % 2,
                2,
                Engine("torch", "cpu"),
                np.arange(100),
                further=Further(codes, ("a", "b", "c")),
            ),
            (0,),
        )
        for rows in (x, changed)
    ]
    torch.testing.assert_close(made[0].directions, made[1].directions, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(made[0].x[20:], made[1].x[20:], atol=1e-3, rtol=1e-3)


def test_scores_are_products_with_the_directions(hidden) -> None:
    x, y, directions = hidden
    readout = fit(x, y, kind=Concepts(directions=directions, l1=0.01))
    raw = (x - x.mean(0)) @ directions.T
    torch.testing.assert_close(readout.scores(x) * readout.scale, raw, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(readout.scores(x).std(0), torch.ones(200), atol=1e-2, rtol=0)
    assert readout.l1 == 0.01


def test_provenance_has_shapes_and_not_numbers(hidden, make_store) -> None:
    x, y, directions = hidden
    store = make_store({"x": x}, group=np.arange(3000), y=y.tolist())
    kind = Concepts(directions=directions, l1=0.02)
    options = probe(store, kind=kind, progress=False).provenance.parameters["options"]
    assert options["directions"] == [200, 220]
    assert options["l1"] == 0.02


def test_what_does_not_fit(hidden, scored) -> None:
    x, y, directions = hidden
    with pytest.raises(
        ValueError, match=r"concepts need directions=\[concepts, width\], or label="
    ):
        Concepts()
    with pytest.raises(ValueError, match=r"directions are \[concepts, width\], got \[220\]"):
        Concepts(directions=directions[0])
    with pytest.raises(ValueError, match="directions have width 30, this site 220"):
        scored(Concepts(directions=torch.ones(2, 30)), x, y)
    with pytest.raises(ValueError, match=r"matrix is \[classes, concepts\], here \[2, 200\]"):
        scored(Concepts(directions=directions, matrix=torch.ones(3, 5)), x, y)
