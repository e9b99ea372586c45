"""Causal tracing: planted answers, plain hooks with the same noise, and bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.causal_tracing import causal_tracing
from layerscope.analyses.patches.causal_tracing_finding import CausalTracingFinding
from layerscope.analyses.patches.windows import window
from layerscope.demo import load_model, load_tokenizer
from layerscope.planted.linear_decoder import linear_decoder
from layerscope.planted.two_hop import ENTITY, LAST, TwoHop, two_hop

PROMPTS = ["The city of the friend of Anna is", "The city of the boss of Carl is"]
ANSWERS = ["Berlin", "Oslo"]
SUBJECTS = ["Anna", "Carl"]


@pytest.fixture(scope="module")
def planted() -> TwoHop:
    return two_hop(1, 3, 5)


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer()


def traced(planted: TwoHop, **more: Any) -> CausalTracingFinding:
    return causal_tracing(
        planted.model,
        planted.prompts,
        planted.answers.tolist(),
        [ENTITY] * 6,
        progress=False,
        **more,
    )


@pytest.mark.parametrize("setting", [(1, 3, 5), (0, 7, 7), (2, 3, 3), (0, 1, 6)])
def test_the_state_that_determines_the_answer_moves_at_the_copy(setting: Any) -> None:
    planted = two_hop(*setting)
    finding = traced(planted, kinds=["resid_post"], samples=3)
    for row in finding.table.itertuples():
        assert row.share == planted.restored(row.layer + 1, (row.position,))
    assert finding.table["total"].iloc[0] > 0.5


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_windows_of_sublayers_that_hold_the_circuit_mend_all(planted: TwoHop, width: int) -> None:
    finding = traced(planted, kinds=["mlp_out", "attn_out"], window=width, samples=2)
    for row in finding.table.itertuples():
        first, end = window(row.layer, width, planted.n_blocks)
        holds = {
            ("mlp_out", ENTITY): first <= planted.bridge < end,
            ("mlp_out", LAST): first <= planted.answer < end,
            ("attn_out", LAST): first <= planted.copy < end,
        }.get((row.kind, row.position), False)
        if not holds:
            assert row.share == pytest.approx(0.0, abs=1e-12)
        elif (row.kind, row.position) != ("mlp_out", ENTITY):
            # Noise also hits the constant that norms are made of: it is not restored by an MLP.
            assert row.share == pytest.approx(1.0, abs=2e-3)
        assert row.window == width


def test_equals_plain_hooks_with_the_same_noise(model: Any, tokenizer: Any, reference: Any) -> None:
    finding = causal_tracing(
        model,
        PROMPTS,
        ANSWERS,
        SUBJECTS,
        noise=2.0,
        samples=3,
        window=2,
        known=False,
        seed=5,
        tokenizer=tokenizer,
        progress=False,
    )
    embed = model.get_input_embeddings()
    ids = tokenizer(PROMPTS, return_tensors="pt")["input_ids"]
    answers = [tokenizer(f" {a}", add_special_tokens=False)["input_ids"][0] for a in ANSWERS]
    with torch.no_grad():
        embedded = embed(ids)
        sigma = 2.0 * embedded[:, 7].std()
        noise = torch.randn(3, 1, 128, generator=torch.Generator().manual_seed(5))
        noised = embedded.repeat_interleave(3, 0)
        noised[:, 7] += sigma * noise[:, 0].repeat(2, 1)

    def prob(**edits: Any) -> float:
        found = reference.logits(model, None, edits.get("edits"), inputs_embeds=noised)
        wanted = torch.tensor(answers).repeat_interleave(3)
        return float(found[:, -1].softmax(-1).gather(1, wanted[:, None]).double().mean())

    broken = prob()
    assert finding.table["corrupt"].iloc[0] == pytest.approx(broken, abs=1e-5)
    assert finding.provenance.parameters["noise_sd"] == pytest.approx(float(sigma), rel=1e-6)
    for row in finding.table[finding.table["position"].isin([7, 8])].itertuples():
        first, end = (row.layer, row.layer + 1)
        if row.kind != "resid_post":
            first, end = window(row.layer, 2, 8)
        edits = {}
        for block in range(first, end):
            clean = reference.seen(model, ids, row.kind, block).repeat_interleave(3, 0)
            edits[row.kind, block] = reference.put(clean, row.position)
        assert row.value == pytest.approx(prob(edits=edits) - broken, abs=1e-5)


def test_the_same_noise_whatever_prompts_come_with_it(model: Any, tokenizer: Any) -> None:
    def only(count: int) -> Any:
        return causal_tracing(
            model,
            PROMPTS[:count],
            ANSWERS[:count],
            [7] * count,
            samples=2,
            kinds=["resid_post"],
            known=False,
            tokenizer=tokenizer,
            progress=False,
        )

    assert only(1).table["corrupt"].equals(only(1).table["corrupt"])
    assert not only(1).table["corrupt"].equals(only(2).table["corrupt"])


def test_unlike_prompts_are_aligned_by_role(model: Any, tokenizer: Any) -> None:
    finding = causal_tracing(
        model,
        [PROMPTS[0], "The friend of Anna is"],
        ["Berlin", "Julia"],
        ["friend of Anna", "friend of Anna"],
        samples=2,
        kinds=["resid_post"],
        known=False,
        tokenizer=tokenizer,
        progress=False,
    )
    assert list(dict.fromkeys(finding.table["token"])) == [
        "before the subject",
        "first subject token",
        "middle subject tokens",
        "last subject token",
        "last token",
    ]
    assert finding.table["position"].isna().all()
    last = finding.table[(finding.table["token"] == "last token") & (finding.table["layer"] == 7)]
    assert last["share"].item() == pytest.approx(1.0, abs=1e-6)


def test_roles_of_tokens_after_the_subject(model: Any, tokenizer: Any) -> None:
    finding = causal_tracing(
        model,
        [PROMPTS[0], "The friend of Anna is"],
        ["Berlin", "Julia"],
        ["The", "The"],
        samples=1,
        kinds=["resid_post"],
        known=False,
        tokenizer=tokenizer,
        progress=False,
    )
    counts = finding.table.groupby("token", sort=False).size()
    assert counts.index.tolist() == [
        "before the subject",
        "last subject token",
        "first token after",
        "further tokens",
        "last token",
    ]


def test_costs_are_counted(planted: TwoHop) -> None:
    finding = traced(planted, kinds=["resid_post"], samples=4)
    # For each prompt one clean pass, 4 noised ones, and the lanes with a baseline for each position
    # that they begin at: a state put in after block i is followed by 7 - i blocks.
    lanes = 4 * sum(7 - i for i in range(8)) * 1.5 + 4 * 8 * 0 + 4 * 7 * 1.5
    assert finding.provenance.parameters["layer_evaluations"] == 6 * (8 + 32 + lanes)
    naive = finding.provenance.parameters["layer_evaluations_by_whole_passes"]
    assert naive == 6 * (8 + 4 * 8 * (1 + 16))


def test_prompts_that_are_not_known_are_left_out(planted: TwoHop) -> None:
    answers = planted.answers.tolist()
    answers[2] = 6
    finding = causal_tracing(
        planted.model, planted.prompts, answers, [0] * 6, samples=2, progress=False
    )
    assert finding.table["n"].unique().tolist() == [5]
    assert any("1 of 6 prompts are not answered right" in note for note in finding.notes)
    every = traced(planted, samples=2).provenance.parameters["layer_evaluations"]
    # Of the one that is left out only the clean pass is run.
    assert finding.provenance.parameters["layer_evaluations"] == every / 6 * 5 + 8
    with pytest.raises(ValueError, match="answers none of the prompts right"):
        causal_tracing(planted.model, planted.prompts, [6] * 6, [0] * 6, samples=2, progress=False)


def test_the_finding_speaks_and_survives_saving(planted: TwoHop, tmp_path: Any) -> None:
    finding = traced(planted, samples=2)
    assert "takes the answer from probability 0.999" in finding.answer()
    again = CausalTracingFinding.load(finding.save(tmp_path / "tracing"))
    assert again.answer() == finding.answer()
    assert again.figure().to_json() == finding.figure().to_json()


def test_bad_input_is_refused(planted: TwoHop, model: Any, tokenizer: Any) -> None:
    def ask(subjects: Any, **more: Any) -> Any:
        return causal_tracing(
            planted.model,
            planted.prompts,
            planted.answers.tolist(),
            subjects,
            progress=False,
            **more,
        )

    with pytest.raises(ValueError, match="6 prompts, but the subjects are 2"):
        ask([0, 0])
    with pytest.raises(ValueError, match="the subjects are a single text"):
        ask("Anna")
    with pytest.raises(ValueError, match="the subject of prompt 0 names no token"):
        ask([[]] * 6)
    with pytest.raises(IndexError, match="position 4 is outside prompt 0"):
        ask([4] * 6)
    with pytest.raises(ValueError, match="samples is at least 1, got 0"):
        ask([0] * 6, samples=0)
    with pytest.raises(ValueError, match="noise is a positive number, got 0"):
        ask([0] * 6, noise=0)
    with pytest.raises(ValueError, match="a window has at least one block"):
        ask([0] * 6, window=0)
    with pytest.raises(LookupError, match=r"resid_mind"):
        ask([0] * 6, kinds=["resid_mind"])
    with pytest.raises(LookupError, match="'Bert' does not occur in prompt 0"):
        causal_tracing(model, PROMPTS, ANSWERS, ["Bert"] * 2, tokenizer=tokenizer, progress=False)


def test_a_model_without_embeddings_as_input_says_so() -> None:
    from layerscope.hooks.anatomy import anatomy

    model = linear_decoder()
    ids = torch.randint(0, 11, (2, 4), generator=torch.Generator().manual_seed(0))
    anatomy(model, example={"input_ids": ids})
    with pytest.raises(ValueError, match="LinearDecoder takes no inputs_embeds"):
        causal_tracing(model, ids, [1, 2], [0, 0], progress=False)
