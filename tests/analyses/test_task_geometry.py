"""task_geometry: planted geometries through a store, nets that are known, refusals, real data."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from layerscope.analyses.material.sample import Sample
from layerscope.analyses.measures.kernels import alignment, centred, gram
from layerscope.analyses.task_geometry import task_geometry
from layerscope.analyses.tasks.task_conditions import Conditions
from layerscope.analyses.tasks.task_geometry_finding import TaskGeometryFinding
from layerscope.finding import Finding
from layerscope.planted.condition_points import cube, noisy_rows, simplex, trained_hidden

HERE: dict[str, Any] = {"inputs": "embed", "progress": False}


def crossed(codes: torch.Tensor, variables: int = 2) -> dict[str, Any]:
    values = np.array(list(product("xy", repeat=variables)))[codes]
    return {name: values[:, i] for i, name in enumerate("abcd"[:variables])}


@pytest.fixture
def planted(make_store: Any) -> Any:
    """Inputs on a square, a layer on a square, one on a simplex, one of noise."""
    sites = {}
    x, codes = noisy_rows(cube(2), each=150, noise=0.2, width=12)
    sites["embed"] = x
    sites["blocks.0.resid_post"] = noisy_rows(simplex(4), each=150, noise=0.1, width=12)[0]
    sites["blocks.1.resid_post"] = noisy_rows(cube(2)[:, :1], each=150, noise=0.1, width=12)[0]
    sites["blocks.2.resid_post"] = noisy_rows(0 * cube(2), each=150, noise=1, width=12)[0]
    return make_store(sites, group=np.arange(len(x)) // 2 % 97, **crossed(codes))


def value(
    found: TaskGeometryFinding, measure: str, layer: int, dichotomy: str | None = None
) -> float:
    lines = found.measured(measure)
    lines = lines[lines["layer"] == layer]
    if dichotomy is not None:
        lines = lines[lines["dichotomy"] == dichotomy]
    assert len(lines) == 1
    return float(lines["value"].iloc[0])


def test_planted_layers_have_the_geometry_they_were_given(planted: Any) -> None:
    found = task_geometry(planted, conditions=["a", "b"], **HERE)
    square, simple, target, noise = -1, 0, 1, 2
    assert value(found, "input_alignment", square) == pytest.approx(1, abs=1e-9)
    # A simplex of 4 conditions spreads over both variables and their product alike.
    assert value(found, "input_alignment", simple) == pytest.approx((2 / 3) ** 0.5, abs=0.01)
    assert value(found, "target_alignment", simple) == pytest.approx((1 / 3) ** 0.5, abs=0.01)
    assert value(found, "target_alignment", target) == pytest.approx(1, abs=0.01)
    assert value(found, "input_alignment", target) == pytest.approx(0.5**0.5, abs=0.02)
    reference = found.measured("input_target_alignment").iloc[0]
    assert reference["value"] == pytest.approx(0.5**0.5, abs=0.01)
    assert (found.measured("target_alignment")["baseline"] == reference["value"]).all()
    assert value(found, "parallelism", square, "a: x / y") == pytest.approx(1, abs=0.01)
    assert value(found, "parallelism", square, "a xor b") == pytest.approx(-1, abs=0.01)
    assert value(found, "parallelism", simple, "a: x / y") == pytest.approx(0, abs=0.05)
    assert value(found, "ccgp_paired", square, "a: x / y") == pytest.approx(1, abs=0.02)
    assert value(found, "ccgp_all", square, "a: x / y") == pytest.approx(0.75, abs=0.02)
    assert value(found, "ccgp_all", square, "a xor b") == pytest.approx(0, abs=0.02)
    assert value(found, "ccgp_paired", simple, "a: x / y") == pytest.approx(0.5, abs=0.1)
    assert value(found, "shattering", simple) == 1
    assert value(found, "shattering", square) == pytest.approx(2 / 3)
    assert value(found, "shattering", noise) == 0
    assert value(found, "dimension", square) == pytest.approx(2, abs=0.05)
    assert value(found, "dimension", simple) == pytest.approx(3, abs=0.05)
    assert value(found, "dimension", target) == pytest.approx(1, abs=0.05)


def test_every_line_has_interval_null_and_counts(planted: Any) -> None:
    found = task_geometry(planted, conditions=["a", "b"], **HERE)
    table = found.table
    assert (table[["n", "n_groups", "n_conditions"]] == [600, 97, 4]).all(axis=None)
    assert (table["unit"] != "").all()
    sound = table[(table["layer"] < 1) & (table["measure"] != "input_target_alignment")]
    assert sound["null_mean"].notna().all()
    assert (sound["ci_low"] <= sound["value"] + 1e-12).all()
    assert (sound["ci_high"] >= sound["value"] - 1e-12).all()
    noise = found.measured("decoding").query("layer == 2 and dichotomy == 'a: x / y'").iloc[0]
    half = (noise["ci_high"] - noise["ci_low"]) / 2
    assert half == pytest.approx(2.09 * (0.25 / 600) ** 0.5, rel=0.5)  # as of 600 coins
    decoding = found.measured("mean_decoding")
    assert (decoding["null_mean"] - 0.5).abs().max() < 0.02
    assert (found.measured("ccgp_paired")["baseline"] == 0.5).all()


def test_split_rules_are_asked_for_by_name(planted: Any) -> None:
    found = task_geometry(planted, layer=0, conditions=["a", "b"], ccgp="all", **HERE)
    assert "ccgp_all" in set(found.table["measure"])
    assert "ccgp_paired" not in set(found.table["measure"])
    assert "split rule all" in found.measured("ccgp_all")["estimator"].iloc[0]
    assert set(found.measured("shattering")["site"]) == {"blocks.0.resid_post"}
    with pytest.raises(ValueError, match="ccgp is 'paired', 'all' or both, not 'half'"):
        task_geometry(planted, conditions=["a", "b"], ccgp="half", **HERE)  # type: ignore[arg-type]
    with pytest.raises(
        LookupError, match="'ccgp_paired' was not measured; there are: input_target"
    ):
        found.measured("ccgp_paired")


def test_alignments_of_large_samples_are_those_of_plain_means(planted: Any) -> None:
    """Second computation: condition means, Gram matrices, cosine."""
    found = task_geometry(planted, conditions=["a", "b"], **HERE)
    codes = planted.rows.groupby(["a", "b"]).ngroup().to_numpy()
    kernels = {}
    for site in planted.sites:
        x = planted[site][:].double()
        means = torch.stack([x[codes == c].mean(0) for c in range(4)])
        kernels[site] = centred(gram(means))
    for layer in (0, 1):
        plain = float(alignment(kernels[f"blocks.{layer}.resid_post"], kernels["embed"]))
        assert value(found, "input_alignment", layer) == pytest.approx(plain, abs=0.01)


def test_order_of_features_changes_nothing(planted: Any, make_store: Any) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    sites = {site: planted[site][:][:, order] for site in planted.sites}
    rows = planted.rows
    other = make_store(sites, group=rows["group"].to_numpy(), a=rows["a"], b=rows["b"])
    one, two = (task_geometry(s, conditions=["a", "b"], **HERE).table for s in (planted, other))
    for column in ("value", "ci_low", "ci_high", "null_mean"):
        sound = (one["layer"] < 1) & one[column].notna()
        assert np.allclose(one[column][sound], two[column][sound], atol=1e-5)


def test_tanh_nets_are_like_their_targets_and_relu_nets_keep_their_inputs(make_store: Any) -> None:
    """Alleman, Lindsey and Fusi (2024): inputs without structure, three targets of four variables."""
    z = cube(4)
    measured: dict[str, list[list[float]]] = {"tanh": [], "relu": []}
    for seed in range(2):
        x, codes = noisy_rows(2 * simplex(16), each=60, noise=0.05, width=32, seed=seed)
        for activation, kept in measured.items():
            hidden = trained_hidden(activation, x, z[codes][:, :3], seed=seed)
            store = make_store(
                {"embed": x, "hidden": hidden}, group=range(960), **crossed(codes, 4)
            )
            found = task_geometry(
                store, None, "hidden", conditions=list("abcd"), targets=["a", "b", "c"],
                ccgp="all", most=20, **HERE,
            )  # fmt: skip
            names = ("input_alignment", "target_alignment", "dimension")
            line = [float(found.measured(name)["value"].iloc[-1]) for name in names]
            parallel = found.measured("parallelism").set_index("dichotomy")["value"]
            kept.append([*line, *(float(parallel[f"{name}: x / y"]) for name in "abcd")])
            reference = found.measured("input_target_alignment")["value"].iloc[0]
            assert reference == pytest.approx((3 / 15) ** 0.5, abs=0.01)  # 3 of 15 dimensions
    tanh, relu = (np.array(measured[name]) for name in ("tanh", "relu"))
    assert (tanh[:, 0] + 0.1 < relu[:, 0]).all()  # input alignment
    assert (tanh[:, 1] > relu[:, 1] + 0.03).all()  # target alignment
    assert (tanh[:, 2] + 2 < relu[:, 2]).all()  # dimension
    assert (tanh[:, 3:6] > relu[:, 3:6] + 0.2).all()  # parallelism of the targets
    assert np.abs([tanh[:, 6], relu[:, 6]]).max() < 0.1  # the fourth variable was no target


def test_inputs_and_targets_may_be_tensors(planted: Any) -> None:
    codes = planted.rows.groupby(["a", "b"]).ngroup().to_numpy()
    points = cube(2)[torch.tensor(codes)]
    found = task_geometry(
        planted, layer="blocks.0.resid_post", conditions=["a", "b"], inputs=points,
        targets=points[:, :1], progress=False,
    )  # fmt: skip
    reference = found.measured("input_target_alignment").iloc[0]
    assert reference["value"] == pytest.approx(0.5**0.5, abs=1e-9)
    assert reference["site"] == "inputs"
    with pytest.raises(ValueError, match=r"inputs has shape \(3, 2\); give \[600, columns\]"):
        task_geometry(planted, conditions=["a", "b"], inputs=points[:3], progress=False)
    points[7] = torch.nan
    with pytest.raises(ValueError, match="inputs is NaN or infinite at row 7"):
        task_geometry(planted, conditions=["a", "b"], inputs=points, progress=False)


def test_values_can_be_chosen_and_rare_conditions_are_left_out(make_store: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    a, b = np.arange(400) % 2, np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])[np.arange(400) // 2 % 10]
    b[:6] = 3
    store = make_store({"embed": x}, group=np.arange(400) // 4, a=a, b=b)
    found = task_geometry(store, conditions={"a": None, "b": [0, 1]}, **HERE)
    assert found.table["n_conditions"].iloc[0] == 4
    some = task_geometry(store, conditions=["a", "b"], **HERE)
    assert some.table["n_conditions"].iloc[0] == 6
    assert any("b=3" in note and "left out" in note for note in some.notes)
    assert any("uneven conditions: " in note for note in task_uneven(store).notes)
    with pytest.raises(LookupError, match="b is never 9; it is 0, 1, 2, 3"):
        task_geometry(store, conditions={"a": None, "b": [9]}, **HERE)


def task_uneven(store: Any) -> TaskGeometryFinding:
    return task_geometry(store, conditions=["a", "b"], per_condition=400, **HERE)


def test_shuffled_conditions_go_to_whole_groups_even_where_one_group_is_mixed() -> None:
    groups = np.repeat(np.arange(30), 10)
    codes = groups % 3
    codes[0] = 1
    here = np.zeros(300, dtype=np.int64)
    conditions = Conditions(
        names=("a",),
        values=((0,), (1,), (2,)),
        sample=Sample(np.arange(300), groups),
        codes=codes,
        groups=groups,
        folds=here,
        blocks=here,
        notes=(),
    )
    for draw in conditions.shuffles(10, seed=0):
        assert (np.ptp(draw.reshape(30, 10), axis=1) > 0).sum() == 1


def test_groups_decide_what_is_held_out(make_store: Any) -> None:
    """Word identity alone: words of one group are in no other fold, and nothing is decoded."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(40, 60, generator=generator)
    word = np.repeat(np.arange(40), 10)
    x = words[word] + 0.01 * torch.randn(400, 60, generator=generator)
    labels = {"a": word % 2, "b": word // 2 % 2}
    store = make_store({"embed": x}, group=np.arange(400), word=word, **labels)
    leaking = task_geometry(store, conditions=["a", "b"], **HERE)
    strict = task_geometry(store, conditions=["a", "b"], group="word", **HERE)
    assert value(leaking, "mean_decoding", -1) > 0.95
    assert value(strict, "mean_decoding", -1) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        (["a", "nope"], LookupError, "no label 'nope' here"),
        (
            None,
            LookupError,
            r"which conditions\? Pass conditions=\[label columns\]; there are: 'a'",
        ),
        (
            ["many", "a"],
            ValueError,
            "many, a make 80 conditions, and at most 64 are compared; name",
        ),
        (["a"], ValueError, "2 conditions of a have rows in 5 groups, and 3 are the least"),
        (["one"], ValueError, "fewer than two classes of one|every row has one"),
        ([], ValueError, "conditions is empty"),
    ],
)
def test_refusals(make_store: Any, conditions: Any, error: type[Exception], message: str) -> None:
    i = np.arange(800)
    x = torch.randn(800, 4, generator=torch.Generator().manual_seed(0))
    store = make_store({"embed": x}, group=i // 2, a=i % 2, many=i // 2 % 40, one="same")
    with pytest.raises(error, match=message):
        task_geometry(store, conditions=conditions, **HERE)


def test_other_refusals(planted: Any, make_store: Any) -> None:
    with pytest.raises(LookupError, match=r"inputs='pixels' is not in this store, which has"):
        task_geometry(planted, conditions=["a", "b"], inputs="pixels", progress=False)
    with pytest.raises(LookupError, match="no column 'speaker' in the rows"):
        task_geometry(planted, conditions=["a", "b"], group="speaker", **HERE)
    x = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    x[17] = torch.nan
    rows = planted.rows
    bad = make_store({"embed": x}, group=rows["group"].to_numpy(), a=rows["a"], b=rows["b"])
    with pytest.raises(
        ValueError, match=r"embed: activations of 1 .* the first at row 17 of the store"
    ):
        task_geometry(bad, conditions=["a", "b"], **HERE)


def test_conditions_are_looked_up_before_the_inputs(make_store: Any) -> None:
    i = np.arange(400)
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    store = make_store({"blocks.1.resid_post": x}, group=i, a=i % 2, b=i // 2 % 2)
    for layer in ("all", [1]):
        with pytest.raises(LookupError, match="no label 'aa' here"):
            task_geometry(store, layer=layer, conditions=["aa", "b"], **HERE)
        with pytest.raises(
            LookupError,
            match=r"inputs='embed' \(the default\) .* \['embed', 'all'\]\), or pass inputs= one of",
        ):
            task_geometry(store, layer=layer, conditions=["a", "b"], **HERE)


def test_it_says_what_the_data_cannot_bear(make_store: Any) -> None:
    x = torch.randn(120, 300, generator=torch.Generator().manual_seed(0))
    i = np.arange(120)
    store = make_store({"embed": x}, group=i // 8, a=i % 2, b=i // 2 % 2)
    notes = " ".join(task_geometry(store, conditions=["a", "b"], **HERE).notes)
    assert "96 training rows for 300 features" in notes
    assert "15 groups only" in notes
    assert "4 conditions have few orders" in notes
    single = make_store({"embed": x}, group=i // 4, a=i % 4)
    notes = " ".join(task_geometry(single, conditions=["a"], **HERE).notes)
    assert "no dichotomy" in notes


def test_the_finding_speaks_draws_and_is_saved(planted: Any, tmp_path: Any) -> None:
    found = task_geometry(planted, conditions=["a", "b"], twin=planted, **HERE)
    assert (found.table["twin"] - found.table["value"]).abs().max() == 0
    text = found.answer()
    assert "Alignment with the targets (a) is highest at blocks.1.resid_post: 1.00" in text
    assert "Up to 100% of the balanced dichotomies of 4 conditions" in text
    loaded = Finding.load(found.save(tmp_path / "saved"))
    assert loaded.answer() == text
    drawn = loaded.figure()
    names = {trace.name for trace in drawn.data if trace.name}
    assert {"with the inputs", "with the targets", "untrained twin"} <= names
    maps = [trace for trace in drawn.data if trace.type == "heatmap"]
    assert len(maps) == 3
    assert list(maps[0].y) == ["a: x / y", "b: x / y", "a xor b"]
    assert maps[0].z[0][0] == pytest.approx(value(found, "parallelism", -1, "a: x / y"))


def test_the_bundled_model_comes_to_know_what_a_noun_is_for() -> None:
    """Role in the sentence by layer: unknown to embeddings, decodable and parallel in the middle."""
    from layerscope.corpus import bundled
    from layerscope.demo import load_model

    found = task_geometry(
        load_model(), bundled().take(700), ["embed", 2, 6],
        conditions={"deprel": ["nsubj", "obj"], "Number": None}, per_condition=100, progress=False,
    )  # fmt: skip
    role, number = "deprel: nsubj / obj", "Number: Plur / Sing"
    assert value(found, "target_alignment", -1) < 0.2
    assert value(found, "target_alignment", 6) > value(found, "target_alignment", -1) + 0.3
    assert value(found, "ccgp_paired", -1, role) < 0.65
    assert value(found, "ccgp_paired", 6, role) > 0.85
    assert value(found, "ccgp_paired", -1, number) > 0.9
