"""Attention knock-out: planted windows, plain masks, and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.knock_out import knock_out
from layerscope.analyses.patches.knock_out_finding import KnockOutFinding
from layerscope.analyses.patches.windows import window
from layerscope.demo import load_model, load_tokenizer
from layerscope.planted.two_hop import TwoHop, two_hop

PROMPTS = ["The city of the friend of Anna is", "The boss of Carl is"]


@pytest.fixture(scope="module")
def planted() -> TwoHop:
    return two_hop(1, 3, 5)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer()


def cut(planted: TwoHop, **more: Any) -> KnockOutFinding:
    more = {"flows": {"last ⇸ entity": (-1, 0)}, **more}
    return knock_out(
        planted.model, planted.prompts, planted.answers.tolist(), progress=False, **more
    )


@pytest.mark.parametrize(
    ("width", "layers"), [(1, [3]), (3, [2, 3, 4]), (7, range(7)), (9, range(8))]
)
def test_the_answer_changes_where_the_window_holds_the_copy(
    planted: TwoHop, width: int, layers: Any
) -> None:
    table = cut(planted, window=width).table
    assert table["layer"][table["value"] != 0].tolist() == list(layers)
    assert table["layer"][table["logprob"] != 0].tolist() == list(layers)
    for row in table.itertuples():
        assert (row.first, row.end) == window(row.layer, width, 8)
        assert planted.knock_out_matters((row.first, row.end)) == (row.value != 0)
        assert row.kept == (row.value == 0)


@pytest.mark.parametrize("setting", [(0, 1, 7), (2, 7, 7), (0, 5, 5)])
def test_wherever_the_copy_is(setting: Any) -> None:
    planted = two_hop(*setting)
    table = cut(planted, window=1).table
    assert table["layer"][table["value"] != 0].tolist() == [planted.copy]


def test_styles(planted: TwoHop) -> None:
    down, up = (cut(planted, style=style).table for style in ("top_down", "bottom_up"))
    assert down["layer"][down["value"] != 0].tolist() == [0, 1, 2, 3]
    assert up["layer"][up["value"] != 0].tolist() == [3, 4, 5, 6, 7]


def test_edges_that_nothing_uses_change_nothing(planted: TwoHop) -> None:
    table = cut(planted, flows={"entity ⇸ itself and last ⇸ last": (-1, -1)}, window=1).table
    used = table["layer"] == planted.copy
    assert (table["value"][~used] == 0).all()
    # There the entity alone is seen, so twice as much of the bridge is copied.
    assert table["value"][used].item() > 0


@pytest.mark.parametrize("heads", [None, [1], [0, 3]])
def test_equals_plain_masks(model: Any, tokenizer: Any, reference: Any, heads: Any) -> None:
    answers = ["Berlin", "Julia"]
    finding = knock_out(
        model,
        PROMPTS,
        answers,
        flows={"last ⇸ person": (-1, ["Anna", "Carl"]), "many": (("of", -1), (1, 2))},
        window=3,
        known=False,
        heads=heads,
        tokenizer=tokenizer,
        progress=False,
    )
    person = [7, 4]
    for row in finding.table.itertuples():
        changes, drops = [], []
        for i, prompt in enumerate(PROMPTS):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            last = ids.shape[1] - 1
            of = max(p for p, t in enumerate(tokenizer.convert_ids_to_tokens(ids[0])) if t == "Ġof")
            queries, keys = ([last], [person[i]]) if "person" in row.flow else ([of, last], [1, 2])
            answer = tokenizer(f" {answers[i]}", add_special_tokens=False)["input_ids"][0]
            before = reference.logits(model, ids)[0, -1].double().log_softmax(-1)[answer]
            blocks = range(row.first, row.end)
            after = reference.blinded(model, ids, blocks, queries, keys, heads)[0, -1]
            after = after.double().log_softmax(-1)[answer]
            changes.append(float((after - before).exp() - 1))
            drops.append(float(after - before))
        assert row.value == pytest.approx(sum(changes) / 2, abs=1e-4)
        assert row.logprob == pytest.approx(sum(drops) / 2, abs=1e-4)


def test_without_answers_the_models_own_are_followed(planted: TwoHop) -> None:
    own = knock_out(planted.model, planted.prompts, window=1, progress=False)
    assert own.table["n"].unique().tolist() == [6]
    assert own.table["estimator"].unique().tolist() == ["the model's own answer"]
    entity = own.table[own.table["position"] == 0]
    given = cut(planted, window=1).table
    assert entity["value"].tolist() == given["value"].tolist()


def test_an_answers_own_tokens_are_blind_too(model: Any, tokenizer: Any, reference: Any) -> None:
    answer = tokenizer(" Paris. The", add_special_tokens=False)["input_ids"]
    finding = knock_out(
        model,
        PROMPTS[:1],
        ["Paris. The"],
        flows={"last ⇸ person": (-1, "Anna")},
        window=3,
        known=False,
        tokenizer=tokenizer,
        progress=False,
    )
    prompt = tokenizer(PROMPTS[0])["input_ids"]
    ids = torch.tensor([prompt + answer[:-1]])
    queries = list(range(8, ids.shape[1]))

    def logprob(logits: Any) -> float:
        found = logits[0].double().log_softmax(-1)
        return sum(float(found[8 + i, token]) for i, token in enumerate(answer))

    before = logprob(reference.logits(model, ids))
    for row in finding.table.itertuples():
        blocks = range(row.first, row.end)
        after = logprob(reference.blinded(model, ids, blocks, queries, [7], None))
        assert row.logprob == pytest.approx(after - before, abs=2e-4)


def test_costs_are_counted(planted: TwoHop) -> None:
    finding = cut(planted, window=1)
    # Only the last of two positions is computed again, from the cut block on, beside a baseline.
    lanes = sum(8 - i for i in range(8)) + 8
    assert finding.provenance.parameters["layer_evaluations"] == 6 * (8 + lanes / 2)
    assert finding.provenance.parameters["layer_evaluations_by_whole_passes"] == 6 * 8 * 8


def test_prompts_that_are_not_known_are_left_out(planted: TwoHop) -> None:
    answers = planted.answers.tolist()
    answers[4] = 6
    finding = knock_out(planted.model, planted.prompts, answers, window=1, progress=False)
    assert finding.table["n"].unique().tolist() == [5]
    assert "1 of 6 prompts are not answered right" in finding.notes[0]
    with pytest.raises(ValueError, match="answers none of the prompts right"):
        knock_out(planted.model, planted.prompts, [6] * 6, progress=False)


def test_an_improbable_answer_is_said() -> None:
    planted = two_hop(4, 2, 6)
    finding = knock_out(planted.model, planted.prompts, [0] * 6, known=False, progress=False)
    assert not any("below 1 %" in note for note in finding.notes)
    right = two_hop(1, 3, 5)
    finding = knock_out(right.model, right.prompts, [6] * 6, known=False, progress=False)
    assert any("below 1 %" in note for note in finding.notes)


def test_the_finding_speaks_and_survives_saving(planted: TwoHop, tmp_path: Any) -> None:
    for finding in (cut(planted, window=1), knock_out(planted.model, planted.prompts, window=1)):
        assert "in blocks 3: -92%" in finding.answer()
        again = KnockOutFinding.load(finding.save(tmp_path / "knock"))
        assert again.answer() == finding.answer()
        assert again.figure().to_json() == finding.figure().to_json()


def test_bad_input_is_refused(planted: TwoHop, model: Any, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="style is one of centre, top_down, bottom_up, not 'up'"):
        cut(planted, style="up")
    with pytest.raises(ValueError, match="flows is empty"):
        cut(planted, flows={})
    with pytest.raises(ValueError, match=r"all keys \[1\] come after the queries \[0\]"):
        cut(planted, flows={"x": (0, -1)})
    with pytest.raises(ValueError, match="flow 'x' lists 2 places for 6 prompts"):
        cut(planted, flows={"x": (-1, [0, 0])})
    with pytest.raises(ValueError, match="flow 'x' names no position of prompt 0"):
        cut(planted, flows={"x": (-1, ())})
    with pytest.raises(IndexError, match="position 7 is outside prompt 0"):
        cut(planted, flows={"x": (-1, 7)})
    with pytest.raises(ValueError, match="a window has at least one block, got 0"):
        cut(planted, window=0)
    with pytest.raises(ValueError, match="leaves a query without any key"):
        cut(planted, flows={"x": (-1, (0, 1))})
    with pytest.raises(ValueError, match="6 to 9 tokens"):
        knock_out(model, PROMPTS, tokenizer=tokenizer, progress=False)
