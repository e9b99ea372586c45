"""Activation patching: planted answers, plain hooks, linear models, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch

from layerscope.analyses.patches.patching_finding import PatchingFinding
from layerscope.analyses.patching import patching, ways_of
from layerscope.demo import load_model, load_tokenizer
from layerscope.finding import Finding
from layerscope.hooks.anatomy import anatomy
from layerscope.planted.linear_decoder import linear_decoder
from layerscope.planted.two_hop import ENTITY, LAST, TwoHop, two_hop

CLEAN = ["The city of the friend of Anna is", "The city of the friend of Carl is"]
CORRUPT = ["The city of the friend of Bert is", "The city of the boss of Carl is"]


@pytest.fixture(scope="module")
def planted() -> TwoHop:
    return two_hop(1, 3, 5)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer()


def pairs(planted: TwoHop) -> tuple[Any, ...]:
    """Every entity against its neighbour."""
    answers = planted.answers
    return (
        planted.model,
        planted.prompts,
        planted.prompts.roll(1, 0),
        answers.tolist(),
        answers.roll(1).tolist(),
    )


def grid(finding: Finding, kind: str, column: str = "value") -> pd.DataFrame:
    """Position (or name of the place) by layer."""
    part = finding.table[finding.table["kind"] == kind]
    places = part["position"].astype("object").where(part["position"].notna(), part["token"])
    part = part.assign(place=places)
    return part.pivot(index="place", columns="layer", values=column)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("metric", ["logit_diff", "logprob", "prob", "kl"])
def test_the_stream_of_p2h_carries_everything_at_one_position(
    planted: TwoHop, metric: str, direction: str
) -> None:
    finding = patching(
        *pairs(planted),
        sites="resid_pre",
        together=True,
        metric=metric,
        direction=direction,
        progress=False,
    )
    found = grid(finding, "resid_pre")
    for index in range(planted.n_blocks):
        assert found.loc[ENTITY, index] == planted.restored(index, (ENTITY,))
        assert found.loc[LAST, index] == planted.restored(index, (LAST,))
        assert found.loc["all", index] == 1.0


def test_the_parts_of_the_circuit_and_no_others_carry_the_answer(planted: TwoHop) -> None:
    finding = patching(*pairs(planted), sites=("attn_out", "mlp_out"), progress=False)
    expected = {("attn_out", LAST, 3), ("mlp_out", ENTITY, 1), ("mlp_out", LAST, 5)}
    for row in finding.table.itertuples():
        key = (row.kind, row.position, row.layer)
        assert row.value == pytest.approx(float(key in expected), abs=1e-4)
        if key not in expected:
            assert abs(row.value) < 1e-12


def test_the_head_and_its_values_carry_the_answer(planted: TwoHop) -> None:
    finding = patching(*pairs(planted), sites=("z", "v", "q", "k"), progress=False)
    for row in finding.table.itertuples():
        assert row.token == "all"
        assert row.value == pytest.approx(float(row.layer == 3 and row.kind in "zv"), abs=1e-4)


def test_effects_of_positions_add_up_in_a_linear_model() -> None:
    model = linear_decoder()
    ids = torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(0))
    anatomy(model, example={"input_ids": ids})
    finding = patching(model, ids, ids.flip(0), [1, 2, 3], [4, 5, 6], together=True, progress=False)
    for kind in ("resid_pre", "attn_out", "mlp_out"):
        found = grid(finding, kind)
        singles = found.drop(index="all").sum()
        assert singles.to_numpy() == pytest.approx(found.loc["all"].to_numpy(), abs=1e-12)
    assert grid(finding, "resid_pre").loc["all"].to_numpy() == pytest.approx(1.0, abs=1e-12)


def test_a_site_that_nothing_reads_has_no_effect(planted: TwoHop) -> None:
    finding = patching(*pairs(planted), sites="blocks.7.mlp_out", positions=[0], progress=False)
    assert finding.table["value"].tolist() == [0.0]


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_every_kind_equals_plain_hooks(
    model: Any, tokenizer: Any, reference: Any, direction: str
) -> None:
    sites = ("resid_pre", "resid_post", "attn_out", "mlp_out", "z", "v")
    finding = patching(
        model,
        CLEAN,
        CORRUPT,
        ["Paris", "Rome"],
        ["Rome", "Paris"],
        sites=sites,
        positions={"person": ["Anna", "Carl"], "last": -1},
        direction=direction,
        tokenizer=tokenizer,
        progress=False,
    )
    clean, corrupt = (tokenizer(x, return_tensors="pt")["input_ids"] for x in (CLEAN, CORRUPT))
    paris, rome = (
        tokenizer(x, add_special_tokens=False)["input_ids"][0] for x in (" Paris", " Rome")
    )
    right, wrong = torch.tensor([paris, rome]), torch.tensor([rome, paris])

    def metric(logits: Any) -> Any:
        last = logits[:, -1].double()
        return last.gather(1, right[:, None])[:, 0] - last.gather(1, wrong[:, None])[:, 0]

    to, other = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    start, end = (metric(reference.logits(model, x)) for x in (to, other))
    size = model.config.head_dim
    for row in finding.table[finding.table["layer"].isin([0, 4, 7])].itertuples():
        source = reference.seen(model, other, row.kind, row.layer)
        part = slice(None) if pd.isna(row.head) else slice(row.head * size, (row.head + 1) * size)
        at = {"person": 7, "last": 8}[row.token]
        edit = reference.put(source, at, part)
        value = metric(reference.logits(model, to, {(row.kind, row.layer): edit}))
        assert row.metric == pytest.approx(float(value.mean()), abs=2e-4)
        share = float((value - start).sum() / (end - start).sum())
        assert row.value == pytest.approx(share, abs=2e-4)


def test_answers_of_several_tokens_are_scored_as_sequences(
    model: Any, tokenizer: Any, reference: Any
) -> None:
    finding = patching(
        model,
        CLEAN[:1],
        CORRUPT[:1],
        ["Paris. The"],
        ["Rome"],
        sites="blocks.3.resid_pre",
        positions=["Anna"],
        tokenizer=tokenizer,
        progress=False,
    )
    assert any("several tokens" in note for note in finding.notes)
    clean, corrupt = (tokenizer(x[0])["input_ids"] for x in (CLEAN, CORRUPT))
    right = tokenizer(" Paris. The", add_special_tokens=False)["input_ids"]
    wrong = tokenizer(" Rome", add_special_tokens=False)["input_ids"]
    source = reference.seen(model, torch.tensor([clean]), "resid_pre", 3)

    def logprob(prompt: list[int], answer: list[int]) -> float:
        ids = torch.tensor([prompt + answer[:-1]])

        def edit(x: Any) -> Any:
            x = x.clone()
            x[:, 7] = source[:, 7]
            return x

        found = reference.logits(model, ids, {("resid_pre", 3): edit})[0].double().log_softmax(-1)
        return sum(float(found[len(prompt) - 1 + i, t]) for i, t in enumerate(answer))

    expected = logprob(corrupt, right) - logprob(corrupt, wrong)
    assert finding.table["metric"].item() == pytest.approx(expected, abs=2e-4)


def test_both_directions_and_their_costs(planted: TwoHop) -> None:
    one = patching(*pairs(planted), direction="denoise", progress=False)
    two = patching(*pairs(planted), direction=("denoise", "noise"), progress=False)
    assert two.table["direction"].unique().tolist() == ["denoise", "noise"]
    pd.testing.assert_frame_equal(one.table, two.table[: len(one.table)])
    # A patch at residual index i and position t costs (8 - i) (2 - t) / 2 of a pass; sublayers of
    # block i run block i too. Each of the two groups (t = 0, 1) has its baseline.
    patches = 3 * sum((8 - i) * (1 + 0.5) for i in range(8))
    expected = 6 * (2 * 8 + patches + 8 * (1 + 0.5))
    assert one.provenance.parameters["layer_evaluations"] == expected
    naive = one.provenance.parameters["layer_evaluations_by_whole_passes"]
    assert naive == 6 * 8 * (2 + 3 * 8 * 2)
    assert expected < naive / 1.9


def test_pairs_in_small_batches_give_the_same(model: Any, tokenizer: Any) -> None:
    given = (model, CLEAN, CORRUPT, ["Paris", "Rome"], ["Rome", "Paris"])
    whole = patching(*given, tokenizer=tokenizer, progress=False)
    single = patching(*given, tokenizer=tokenizer, progress=False, max_rows=1)
    assert single.table["value"].to_numpy() == pytest.approx(
        whole.table["value"].to_numpy(), abs=1e-4
    )


def test_prompts_of_unequal_length_need_named_places(model: Any, tokenizer: Any) -> None:
    clean = [CLEAN[0], "The friend of Anna is"]
    corrupt = [CORRUPT[0], "The friend of Bert is"]
    answers = ["Paris", "Julia"]
    with pytest.raises(ValueError, match=r"the prompts have 6 to 9 tokens.*name places"):
        patching(model, clean, corrupt, answers, tokenizer=tokenizer, progress=False)
    finding = patching(
        model,
        clean,
        corrupt,
        answers,
        positions={"person": "Anna", "last": -1},
        sites="resid_pre",
        tokenizer=tokenizer,
        progress=False,
    )
    assert finding.table["position"].isna().all()
    # What enters block 0 at the person is all that differs.
    assert grid(finding, "resid_pre").shape[1] == 8
    first = finding.table[(finding.table["token"] == "person") & (finding.table["layer"] == 0)]
    assert first["value"].item() == pytest.approx(1.0, abs=1e-5)


def test_the_finding_speaks_and_survives_saving(planted: TwoHop, tmp_path: Any) -> None:
    finding = patching(
        *pairs(planted), direction=("denoise", "noise"), together=True, progress=False
    )
    assert finding.answer().startswith(
        "Clean into corrupt: the stream into the blocks holds at least half at '0 …' in layers 0 to "
        "3, at '6' in layers 4 to 7; most by itself restores blocks.3.attn_out at "
    )
    assert "most by itself destroys blocks.3.attn_out" in finding.answer()
    again = PatchingFinding.load(finding.save(tmp_path / "patching"))
    assert again.answer() == finding.answer()
    assert again.figure().to_json() == finding.figure().to_json()


def test_one_pair_has_no_interval_and_says_so(planted: TwoHop) -> None:
    model, clean, corrupt, right, wrong = pairs(planted)
    finding = patching(model, clean[:1], corrupt[:1], right[:1], wrong[:1], progress=False)
    assert finding.table["ci_low"].isna().all()
    assert any("One pair" in note for note in finding.notes)
    assert "blocks.3.attn_out at '6' 100%" in finding.answer()


def test_runs_that_do_not_differ_in_the_metric_give_no_shares(planted: TwoHop) -> None:
    model, clean, corrupt, _, _ = pairs(planted)
    finding = patching(model, clean, corrupt, [6] * 6, progress=False)
    assert finding.table["value"].isna().all()
    assert any("do not differ in the metric" in note for note in finding.notes)
    assert "nothing to restore" in finding.answer()


def errors(planted: TwoHop) -> list[tuple[Callable[[], Any], type[Exception], str]]:
    model, clean, corrupt, right, _ = pairs(planted)

    def ask(*given: Any, **more: Any) -> Callable[[], Any]:
        return lambda: patching(model, *given, progress=False, **more)

    return [
        (ask(clean, corrupt[:3], right), ValueError, "6 clean prompts and 3 corrupt"),
        (ask([[0, 6]], [[0, 1, 6]], [7]), ValueError, "prompts of pair 0 have 2 and 3 tokens"),
        (ask(clean, clean, right), ValueError, "clean and corrupt prompts are the same"),
        (ask(clean, corrupt, right, right), ValueError, "right and wrong answer of pair 0 are the"),
        (ask(clean, corrupt, right[:2]), ValueError, "6 prompts, but the answers are 2"),
        (ask(clean, corrupt, right, metric="accuracy"), ValueError, "metric='accuracy' is unknown"),
        (ask(clean, corrupt, right, metric="logit_diff"), ValueError, "compares two answers"),
        (ask(clean, corrupt, metric="prob"), ValueError, "metric='prob' needs answers"),
        (ask(clean, corrupt, right, direction="back"), ValueError, "not 'back'"),
        (ask(clean, corrupt, right, sites="resid"), LookupError, "no site or module 'resid'"),
        (ask(clean, corrupt, right, sites="norm"), ValueError, "'norm' is in no block"),
        (ask(clean, corrupt, right, positions=[2]), IndexError, "position 2 is outside prompt 0"),
        (ask(clean, corrupt, right, positions=[]), ValueError, "positions is empty"),
        (
            ask(clean, corrupt, right, positions={"x": [0, 1]}),
            ValueError,
            "position 'x' lists 2 places for 6 prompts",
        ),
    ]


@pytest.mark.parametrize("number", range(14))
def test_bad_input_is_refused(planted: TwoHop, number: int) -> None:
    ask, kind, words = errors(planted)[number]
    with pytest.raises(kind, match=words):
        ask()


def test_a_model_without_some_part_is_patched_where_it_has_any() -> None:
    from layerscope.planted.families import batch, build

    ids = batch("mamba")["input_ids"]  # type: ignore[call-overload]
    finding = patching(build("mamba"), ids, ids.flip(0), [5, 6], together=True, progress=False)
    assert set(finding.table["kind"]) == {"resid_pre", "attn_out"}
    assert grid(finding, "resid_pre").loc["all"].to_numpy() == pytest.approx(1.0, abs=1e-5)


def test_an_encoder_is_refused() -> None:
    from layerscope.planted.families import batch, build

    ids = batch("bert")["input_ids"]  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="reads in both directions"):
        patching(build("bert"), ids, ids.flip(0), [5, 6], progress=False)


def test_both_directions_by_name() -> None:
    assert ways_of("both") == ways_of(["denoise", "noise"])
    with pytest.raises(ValueError, match="'denoise', 'noise' or 'both', not 'back'"):
        ways_of("back")
