"""Back-patching, against planted circuits and against loops of plain forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from layerscope.analyses.back_patches.back_patching_controls import Control, donors, noise_states
from layerscope.analyses.back_patches.back_patching_finding import (
    ALL,
    LIKELIEST,
    NOISE,
    OTHER,
    OWN,
    RIGHT,
    TEXT,
    WRONG,
    BackPatchingFinding,
)
from layerscope.analyses.back_patches.back_patching_places import all_pairs
from layerscope.analyses.back_patches.back_patching_table import Asked, Sweep, Tries, table
from layerscope.analyses.back_patches.back_patching_tries import Trier, has_word
from layerscope.analyses.back_patching import back_patching
from layerscope.analyses.material.answers import as_answers
from layerscope.finding import Finding
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import tokenizer_of
from layerscope.hooks.places import module_at
from layerscope.hooks.prompts import as_prompts
from layerscope.planted import families
from layerscope.planted.two_hop import ENTITY, LAST, TwoHop, rewired, two_hop

FAMILIES = ("llama", "gpt2", "gpt_neox", "gptj", "gemma2", "mixtral", "falcon", "opt")


# The independent second computation: one whole pass with plain hooks for each try.


def states_of(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Output of every block, [1, p, d] each."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        found.append((output[0] if isinstance(output, tuple) else output).clone())

    handles = [block.register_forward_hook(keep) for block in blocks_of(model)]
    with torch.no_grad():
        model(input_ids=ids[None], use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def patched(model: nn.Module, ids: Tensor, target: int, at: int, state: Tensor) -> Tensor:
    """Logits [p, vocab] of a whole pass in which block `target` leaves `state` at a position."""

    def put(module: nn.Module, args: Any, output: Any) -> Any:
        stream = (output[0] if isinstance(output, tuple) else output).clone()
        stream[:, at] = state
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    handle = blocks_of(model)[target].register_forward_hook(put)
    with torch.no_grad():
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
    handle.remove()
    return logits


def generated(
    model: nn.Module, ids: Tensor, target: int, at: int, state: Tensor, count: int
) -> list[int]:
    """Greedy continuation without a cache: the whole text anew for every token."""
    for _ in range(count):
        best = patched(model, ids, target, at, state)[-1].argmax()
        ids = torch.cat([ids, best[None]])
    return ids[-count:].tolist()


def blocks_of(model: nn.Module) -> list[nn.Module]:
    return [module_at(model, block.path) for block in anatomy(model).blocks]


def pairs_of(blocks: int) -> list[tuple[int, int]]:
    return [(s, t) for s, t in product(range(blocks), repeat=2) if s > t]


def cells(finding: BackPatchingFinding, **wanted: Any) -> pd.DataFrame:
    """The pairs' lines, by (source, target)."""
    lines = finding.lines(kind="pair", estimator=LIKELIEST, **wanted)
    return lines.set_index(["source", "target"])


def quiet(model: nn.Module, prompts: Any, answers: Any, **choices: Any) -> BackPatchingFinding:
    return back_patching(model, prompts, answers, progress=False, **choices)


# The planted two-hop decoder.


@pytest.fixture(scope="module")
def blank() -> TwoHop:
    return two_hop(1, 3, 5)


@pytest.mark.parametrize("bridge", range(8))
def test_success_sets_are_exact_in_every_setting(blank: TwoHop, bridge: int) -> None:
    """All 512 settings of the three blocks, at both positions, and nothing in the control."""
    for copy, answer in product(range(8), repeat=2):
        planted = rewired(blank.model, bridge, copy, answer)
        for position, sweep in swept(planted).items():
            assert (sweep.before.likeliest == planted.baseline_correct).all()
            found = successes(sweep.tries[OWN][0])
            assert found == planted.back_patch(position), (bridge, copy, answer, position)
            if not planted.baseline_correct:
                assert not sweep.tries[OTHER][0].likeliest.any()


def swept(planted: TwoHop) -> dict[int, Sweep]:
    """All pairs at both positions, and the same tries with another entity's states."""
    prompts = as_prompts(planted.model, planted.prompts)
    answers = as_answers(planted.model, prompts, planted.answers.tolist())
    places = {position: tuple((position,) for _ in prompts.ids) for position in (ENTITY, LAST)}
    other = Control(OTHER, lambda whose, own: own.roll(1, dims=1))  # the next entity's
    controls = {position: [other] for position in places}
    return Trier(planted.model, prompts, answers, all_pairs(8)).sweeps(places, controls)


def successes(tries: Tries) -> set[tuple[int, int]]:
    """Pairs that answer right for every prompt; no pair may do so for some only."""
    assert (tries.likeliest.all(0) == tries.likeliest.any(0)).all()
    return {pair for pair, right in zip(all_pairs(8), tries.likeliest[0], strict=True) if right}


def test_the_late_first_hop_in_words_and_numbers(blank: TwoHop) -> None:
    planted = rewired(blank.model, 4, 2, 6)
    finding = quiet(planted.model, planted.prompts, planted.answers.tolist(), at=0)
    lines = cells(finding, states=OWN)
    assert set(lines.index[lines["value"] == 1]) == {(s, t) for s in range(4, 8) for t in (0, 1)}
    rates = finding.lines(group=WRONG).set_index(["kind", "states"])["value"]
    assert rates["any pair", OWN] == 1
    assert rates["any pair", OTHER] == 0
    assert rates["average pair", OWN] == pytest.approx(8 / 28)
    assert rates["fixed pair", OWN] == 1
    text = finding.answer()
    assert "of 6 wrong answers 100.0%" in text
    assert "some of 28 pairs" in text
    assert "in vain repair 0.0% with states of other prompts" in text


def test_probability_and_rank_are_those_of_the_planted_answer(blank: TwoHop) -> None:
    planted = rewired(blank.model, 4, 2, 6)
    finding = quiet(planted.model, planted.prompts, planted.answers.tolist(), at=0)
    lines = cells(finding, states=OWN)
    assert lines.loc[(5, 1), "rank"] == 0
    assert lines.loc[(5, 1), "logprob"] > lines.loc[(5, 1), "logprob_before"] + 1
    assert lines.loc[(3, 1), "logprob"] == pytest.approx(lines.loc[(3, 1), "logprob_before"])


# Any decoder: the engine against plain hooks.


@pytest.mark.parametrize("family", FAMILIES)
def test_every_pair_equals_plain_hooks(family: str) -> None:
    model = families.build(family)
    ids = families.batch(family)["input_ids"]  # type: ignore[call-overload]
    prompts = [ids[0, :5], ids[1], ids[0]]
    answers, at = [7, 9, 11], [2, -1, 0]
    finding = quiet(model, prompts, answers, at=at)
    for states in (OWN, OTHER):
        assert set(finding.table["states"].dropna()) >= {states}
    lines = cells(finding, states=OWN, group=WRONG)
    expected = by_hand(model, prompts, [[a] for a in answers], at)
    wrong = [i for i in range(3) if expected["rank before"][i] > 0]
    for pair in pairs_of(len(blocks_of(model))):
        found = lines.loc[pair]
        logprob = sum(expected[pair][i] for i in wrong) / len(wrong)
        assert found["logprob"] == pytest.approx(logprob, abs=1e-5)


def by_hand(
    model: nn.Module, prompts: Sequence[Tensor], answers: Sequence[Sequence[int]], at: Sequence[int]
) -> dict[Any, list[float]]:
    """Log probabilities by pair and prompt, and the rank of the untouched answer."""
    found: dict[Any, list[float]] = {"rank before": []}
    for ids, answer, where in zip(prompts, answers, at, strict=True):
        whole = torch.cat([ids, torch.tensor(answer[:-1], dtype=torch.long)])
        place, size = where % len(ids), len(answer)
        states = states_of(model, whole)
        plain = patched(model, whole, 0, place, states[0][0, place])[-size:]
        found["rank before"].append(float((plain[0] > plain[0, answer[0]]).sum()))
        for source, target in pairs_of(len(states)):
            logits = patched(model, whole, target, place, states[source][0, place])[-size:]
            logprob = logits.log_softmax(-1)[range(size), list(answer)].sum()
            found.setdefault((source, target), []).append(float(logprob))
    return found


def test_chosen_pairs_are_the_same_as_among_all() -> None:
    model = families.build("llama")
    prompts = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
    every = cells(quiet(model, prompts, [7, 8], control=False), states=OWN, group=WRONG)
    some = quiet(model, prompts, [7, 8], pairs=[(2, 1), (1, 0)], control=False)
    lines = cells(some, states=OWN, group=WRONG)
    assert set(lines.index) == {(1, 0), (2, 1)}
    for pair, line in lines.iterrows():
        assert line["logprob"] == pytest.approx(every.loc[pair, "logprob"], abs=1e-5)


def test_answers_of_several_tokens_equal_plain_hooks() -> None:
    model = families.build("llama")
    ids = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
    prompts, answers, at = [ids[0, :6], ids[1, :6]], [[7, 9, 11], [8, 5]], [3, -2]
    finding = quiet(model, prompts, answers, at=at)
    expected = by_hand(model, prompts, answers, at)
    lines = cells(finding, states=OWN, group=WRONG)
    for pair in pairs_of(3):
        assert lines.loc[pair, "logprob"] == pytest.approx(sum(expected[pair]) / 2, abs=1e-5)
    assert any("several tokens" in note for note in finding.notes)


def test_several_positions_are_patched_together() -> None:
    model = families.build("llama")
    ids = families.batch("llama")["input_ids"][0, :6]  # type: ignore[call-overload]
    finding = quiet(model, [ids], [7], at=[[2, 4]], control=False)
    states = states_of(model, ids)

    def put(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        stream = output.clone()
        stream[:, [2, 4]] = states[2][:, [2, 4]]
        return stream

    handle = blocks_of(model)[0].register_forward_hook(put)
    with torch.no_grad():
        logits = model(input_ids=ids[None]).logits[0, -1]
    handle.remove()
    found = finding.lines(kind="pair", states=OWN).set_index(["source", "target"])["logprob"]
    assert found[2, 0] == pytest.approx(float(logits.log_softmax(-1)[7]), abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_unequal_prompts_in_one_call_equal_single_calls(family: str) -> None:
    model = families.build(family)
    ids = families.batch(family)["input_ids"]  # type: ignore[call-overload]
    prompts = [ids[0, :4], ids[1], ids[0, 2:], ids[1, :4]]
    together = quiet(model, prompts, [7, 9, 11, 8], control=False)
    for i, answer in enumerate([7, 9, 11, 8]):
        alone = quiet(model, [prompts[i]], [answer], control=False)
        mine = together.lines(kind="prompt").iloc[i]
        one = alone.lines(kind="prompt").iloc[0]
        for column in ("logprob", "logprob_before"):
            assert mine[column] == pytest.approx(one[column], abs=1e-5)
        assert (mine["source"], mine["target"], mine["rank"]) == (
            one["source"],
            one["target"],
            one["rank"],
        )


def test_stories260k_equals_plain_hooks(shared_data: Path) -> None:
    from layerscope.hooks.load import load_model

    model = load_model(shared_data / "stories260K" / "hf")
    compare(model, None, "Once upon a time, there was a", "little girl", at=-1, place=-1)
    compare(model, None, "Lily liked to play", "outside", at="Lily", place=1)


def test_the_bundled_model_equals_plain_hooks() -> None:
    from layerscope.demo import load_model, load_tokenizer

    model, tokenizer = load_model(), load_tokenizer()
    text = "The city of the friend of Anna is"
    compare(model, tokenizer, text, "Paris", at="Anna", place=-2)
    compare(model, tokenizer, text, "Paris", at="friend", place=-4)


def compare(
    model: nn.Module, tokenizer: Any, text: str, answer: str, *, at: int | str, place: int
) -> None:
    """All pairs of one prompt; `place` is where its position is known to be."""
    tokenizer = tokenizer or tokenizer_of(model)
    whole = tokenizer(f"{text} {answer}")["input_ids"]
    ids = tokenizer(text)["input_ids"]
    expected = by_hand(model, [torch.tensor(ids)], [whole[len(ids) :]], [place])
    found = quiet(model, [text], [answer], at=at, control=False, tokenizer=tokenizer)
    for (source, target), line in cells(found, states=OWN).iterrows():
        assert line["logprob"] == pytest.approx(expected[source, target][0], abs=1e-5)


def test_several_places_of_one_recording_equal_plain_hooks() -> None:
    """One computed position needs no mask, several do: they must not be confused."""
    model = families.build("llama")
    prompts = list(families.batch("llama")["input_ids"])  # type: ignore[call-overload]
    places = {"last": -1, "third from last": -3, "first": 0}
    found = quiet(model, prompts, [7, 8], at=places, control=False)
    for name, place in places.items():
        expected = by_hand(model, prompts, [[7], [8]], [place, place])
        lines = cells(found, position=name, states=OWN, group=WRONG)
        for pair in pairs_of(3):
            assert lines.loc[pair, "logprob"] == pytest.approx(sum(expected[pair]) / 2, abs=1e-5)


# Generation.


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_generated_answers_equal_a_loop_without_a_cache(family: str, ends: bool) -> None:
    """With `ends`, the first new token of one try ends a text; what follows does not count."""
    model = families.build(family)
    ids = families.batch(family)["input_ids"][:, :6]  # type: ignore[call-overload]
    at, blocks = 3, len(blocks_of(model))
    said = {}
    for i in (0, 1):
        states = states_of(model, ids[i])
        for source, target in pairs_of(blocks):
            state = states[source][0, at]
            said[i, source, target] = generated(model, ids[i], target, at, state, 4)
    end = said[0, 2, 0][0] if ends else 2
    model.generation_config.eos_token_id = end  # type: ignore[union-attr]
    # Alternatives that only some pairs say, at the third place and later.
    answers = [[[said[i, 2, 0][2]], [said[i, 1, 0][3]]] for i in (0, 1)]
    finding = quiet(model, ids, answers, at=at, generate=4, control=False)
    lines = finding.lines(kind="prompt", estimator=TEXT)
    for i in (0, 1):
        wanted = {one[0] for one in answers[i]}
        hits = [bool(wanted & until(end, said[i, s, t])) for s, t in pairs_of(blocks)]
        assert lines.iloc[i]["value"] == pytest.approx(sum(hits) / len(hits))


def until(end: int, tokens: list[int]) -> set[int]:
    return set(tokens[: tokens.index(end)] if end in tokens else tokens)


def test_a_sequence_is_likeliest_where_greedy_generation_begins_with_it() -> None:
    """Scoring an answer of two tokens and generating are different passes; they must agree."""
    model = families.build("llama")
    prompts = list(families.batch("llama")["input_ids"])  # type: ignore[call-overload]
    prompts[1] = prompts[1][:5]
    said: list[dict[tuple[int, int], list[int]]] = []
    for ids in prompts:
        states = states_of(model, ids)
        tries = {(s, t): generated(model, ids, t, 2, states[s][0, 2], 2) for s, t in pairs_of(3)}
        said.append(tries)
    answers = [[tries[2, 0]] for tries in said]
    found = quiet(model, prompts, answers, at=2, generate=2, control=False)
    for estimator in (LIKELIEST, TEXT):
        lines = found.lines(kind="prompt", estimator=estimator)
        for i, tries in enumerate(said):
            hits = [new == answers[i][0] for new in tries.values()]
            assert lines.iloc[i]["value"] == pytest.approx(sum(hits) / len(hits))


def test_one_generated_word_is_the_likeliest_one() -> None:
    """Names are one token each, so text of one token and the likeliest token say the same."""
    from layerscope.demo import load_model, load_tokenizer
    from layerscope.demo.chains import unseen

    asked = unseen()[:12]
    prompts, answers = [q.prompt for q in asked], [q.answer for q in asked]
    found = quiet(load_model(), prompts, answers, generate=1, tokenizer=load_tokenizer())
    for kind in ("pair", "any pair", "untouched", "fixed pair"):
        by_text = found.lines(kind=kind, estimator=TEXT)["value"]
        assert by_text.tolist() == found.lines(kind=kind, estimator=LIKELIEST)["value"].tolist()
        assert len(by_text)


def test_an_answer_is_a_whole_word() -> None:
    assert has_word("in Rome.", "rome")
    assert not has_word("a Roman", "Roma")
    assert not has_word("focus", "us")
    assert has_word("the U.S. is", "U.S.")


# Controls and rates.


def test_the_fixed_pair_is_chosen_on_other_prompts() -> None:
    """A pair that is best for one prompt alone cannot be found from the others."""
    n = 6
    before, own = Tries.empty(n, 1), Tries.empty(n, n)
    own.likeliest[:] = np.eye(n, dtype=bool)
    own.logprob[:] = -1.0
    before.logprob[:] = -1.0
    pairs = tuple((6 - i % 3, i // 3) for i in range(n))
    asked = Asked(pairs, ["p"] * n, ["a"] * n, np.full(n, 4), 0)
    found = table(asked, {"last": Sweep(before, {OWN: [own]})}, generated=False)
    rates = found[found["group"] == WRONG].set_index("kind")["value"]
    assert rates["any pair"].item() == 1
    assert rates["fixed pair"].item() == 0
    assert rates["average pair"].item() == pytest.approx(1 / 6)


def test_the_excess_is_over_the_higher_control_and_the_best_pair_is_the_likeliest() -> None:
    before, own, other, noise = (Tries.empty(4, m) for m in (1, 3, 3, 3))
    for tries in (before, own, other, noise):
        tries.logprob[:] = -2.0
    own.likeliest[:, 1] = True
    own.logprob[:, 1] = [-0.5, -0.4, -0.3, -0.2]
    noise.likeliest[:2, 2] = True
    asked = Asked(((1, 0), (2, 0), (2, 1)), list("pqrs"), list("abcd"), None, 0)
    sweep = Sweep(before, {OWN: [own], OTHER: [other], NOISE: [noise]})
    found = table(asked, {"last": sweep}, generated=False)
    rate = found[(found["kind"] == "any pair") & (found["states"] == OWN)].iloc[0]
    assert (rate["value"], rate["control"], rate["excess"]) == (1, 0.5, 0.5)
    assert 0 <= rate["excess_low"] < 0.5 < rate["excess_high"] <= 1
    prompts = found[found["kind"] == "prompt"]
    assert prompts["source"].tolist() == [2] * 4
    assert prompts["target"].tolist() == [0] * 4
    assert prompts["logprob"].tolist() == [-0.5, -0.4, -0.3, -0.2]
    assert prompts["value"].tolist() == pytest.approx([1 / 3] * 4)


def test_guessing_counts_different_answers_only() -> None:
    before, own = Tries.empty(2, 1), Tries.empty(2, 3)
    before.logprob[:] = own.logprob[:] = -1.0
    own.said[:] = [[5, 5, 5], [5, 6, 7]]
    asked = Asked(((1, 0), (2, 0), (2, 1)), ["p"] * 2, ["a"] * 2, np.array([4, 10]), 0)
    found = table(asked, {"last": Sweep(before, {OWN: [own]})}, generated=False)
    line = found[(found["kind"] == "guessing") & (found["group"] == WRONG)].iloc[0]
    assert line["value"] == pytest.approx((1 / 4 + 1 - 0.9**3) / 2)


def test_noise_has_the_norm_of_the_state_it_replaces() -> None:
    own = torch.randn(3, 2, 1, 16) * torch.tensor([1.0, 5.0, 25.0])[:, None, None, None]
    first, second = noise_states(draws=2, seed=0)
    drawn = first.states([4, 7], own)
    assert torch.allclose(drawn.norm(dim=-1), own.norm(dim=-1), rtol=1e-5)
    assert torch.equal(drawn[:, :1], first.states([4], own[:, :1]))  # whatever the batch
    assert not torch.allclose(drawn, second.states([4, 7], own))
    along = drawn / drawn.norm(dim=-1, keepdim=True)
    assert (along[:, 0] * along[:, 1]).sum(-1).abs().max() < 0.95  # each prompt has its own


def test_states_of_other_prompts_come_from_the_same_kind() -> None:
    model = families.build("llama")
    prompts = as_prompts(model, [[3, 4, i] for i in range(5, 11)] + [[3, 4, 5]])
    answers = as_answers(model, prompts, [7] * 7)
    found = donors(prompts, answers, list("aaabbba"), draws=20, seed=0)
    for draw in found.of:
        for i, donor in enumerate(draw):
            assert (donor in (3, 4, 5)) == (i in (3, 4, 5))
            assert prompts.ids[donor].tolist() != prompts.ids[i].tolist()
    assert "same kind" in found.notes[0]
    assert "100% of those drawn have the same right answer" in found.notes[0]


def test_layer_evaluations_are_those_of_the_formula() -> None:
    model = families.build("llama")  # 3 blocks
    prompts = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
    found = quiet(model, prompts, [7, 8], at=6, control=False)
    blocks, length, after = 3, 9, 3
    tries = (blocks - 1) * blocks * (2 * blocks - 1) / 6 * after / length
    baseline = blocks + (blocks - 1) * after / length  # recorded, and again beside the tries
    counted = found.provenance.parameters["layer_evaluations"]
    assert counted == pytest.approx(2 * (tries + baseline), abs=1e-3)
    naive = found.provenance.parameters["layer_evaluations_by_whole_passes"]
    assert naive == 2 * (3 * 3 + 3)


def test_the_same_seed_gives_the_same_table() -> None:
    model = families.build("gpt2")
    prompts = families.batch("gpt2")["input_ids"]  # type: ignore[call-overload]
    one, two = (quiet(model, prompts, [7, 8], seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, two.table)
    other = quiet(model, prompts, [7, 8], seed=4)
    assert not one.table["logprob"].equals(other.table["logprob"])


def test_rounding_that_matters_is_noted() -> None:
    exact = families.build("llama")
    prompts = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
    assert not any("rounding" in note for note in quiet(exact, prompts, [7, 8]).notes)
    rough = quiet(exact.to(torch.bfloat16), prompts, [7, 8])
    floor = rough.provenance.parameters["noise_floor"]
    assert any("rounding" in note for note in rough.notes) == (floor > 1e-3)
    assert rough.table["value"].between(0, 1).all()


def test_the_model_and_the_random_state_are_left_as_they_were() -> None:
    model = families.build("llama").train()
    state = torch.get_rng_state()
    quiet(model, families.batch("llama")["input_ids"], [7, 8])  # type: ignore[call-overload]
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_model_without_cache_gives_the_same_and_says_so() -> None:
    model = families.build("mamba")
    prompts = families.batch("mamba")["input_ids"]  # type: ignore[call-overload]
    finding = quiet(model, prompts, [7, 8], control=False)
    expected = by_hand(model, list(prompts), [[7], [8]], [-1, -1])
    lines = cells(finding, states=OWN, group=WRONG)
    for pair in pairs_of(3):
        assert lines.loc[pair, "logprob"] == pytest.approx(sum(expected[pair]) / 2, abs=1e-5)


# The finding.


@pytest.fixture(scope="module")
def finding(blank: TwoHop) -> BackPatchingFinding:
    planted = rewired(two_hop(1, 3, 5).model, 4, 2, 6)
    answers = planted.answers.tolist()
    return quiet(planted.model, planted.prompts, answers, at={"entity": 0, "last": -1}, guesses=6)


def test_the_figure_draws_the_table(finding: BackPatchingFinding) -> None:
    figure = finding.figure()
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(maps) == 4  # two positions, own and control
    own = finding.lines(kind="pair", position="entity", states=OWN, source=5, target=1).iloc[0]
    column, row = list(maps[0].x).index(1), list(maps[0].y).index(5)
    assert maps[0].z[row][column] == own["value"] == 1
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert {bar.name for bar in bars} == {"its own later state", "another prompt's state", "noise"}


def test_the_finding_survives_saving(finding: BackPatchingFinding, tmp_path: Path) -> None:
    again = Finding.load(finding.save(tmp_path / "found"))
    assert isinstance(again, BackPatchingFinding)
    assert again.answer() == finding.answer()
    assert again.notes == finding.notes
    assert len(again.figure().data) == len(finding.figure().data)


def test_the_answer_names_each_position(finding: BackPatchingFinding) -> None:
    assert "At entity: of 6 wrong answers" in finding.answer()
    assert "At last: of 6 wrong answers" in finding.answer()


def test_all_right_already_is_said(blank: TwoHop) -> None:
    planted = rewired(blank.model, 1, 3, 5)
    finding = quiet(planted.model, planted.prompts, planted.answers.tolist())
    assert "nothing to repair" in finding.answer()
    assert any("nothing to repair" in note for note in finding.notes)
    assert finding.lines(kind="average pair", states=OWN, group=RIGHT)["value"].item() == 1
    assert finding.figure().data


def test_one_prompt_has_no_pair_chosen_on_others(blank: TwoHop) -> None:
    planted = rewired(blank.model, 4, 2, 6)
    finding = quiet(planted.model, planted.prompts[:1], planted.answers[:1].tolist(), at=0)
    assert finding.lines(kind="fixed pair").empty
    assert any("no 'fixed pair'" in note for note in finding.notes)
    assert any("no states of other prompts" in note for note in finding.notes)
    assert set(finding.table["states"].dropna()) == {OWN, NOISE}
    assert finding.answer()
    assert finding.figure().data


def test_groups_add_up(blank: TwoHop) -> None:
    planted = rewired(blank.model, 1, 3, 5)
    answers = planted.answers.tolist()
    answers[0] = answers[1]  # one that the model "gets wrong"
    finding = quiet(planted.model, planted.prompts, answers)
    counts = finding.lines(kind="untouched").set_index("group")["n"]
    assert counts.to_dict() == {WRONG: 1, RIGHT: 5, ALL: 6}


# Bad input.

Call = Callable[[nn.Module, Tensor], Any]
LLAMA_IDS = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
BAD: dict[str, tuple[Call, type[Exception], str]] = {
    "too few answers": (lambda m, x: quiet(m, x, [7]), ValueError, "2 prompts, but the answers"),
    "a position outside": (
        lambda m, x: quiet(m, x, [7, 8], at=9),
        IndexError,
        "position 9 is outside prompt 0.*9 tokens",
    ),
    "positions for other prompts": (
        lambda m, x: quiet(m, x, [7, 8], at=[1, 2, 3]),
        ValueError,
        "at lists 3 positions for 2 prompts",
    ),
    "no position": (lambda m, x: quiet(m, x, [7, 8], at={}), ValueError, "names no position"),
    "a source below the target": (
        lambda m, x: quiet(m, x, [7, 8], pairs=[(0, 2)]),
        ValueError,
        r"pair \(0, 2\): the source must be later",
    ),
    "a source at the target": (
        lambda m, x: quiet(m, x, [7, 8], pairs=[(1, 1)]),
        ValueError,
        r"pair \(1, 1\): the source must be later",
    ),
    "a block that is not there": (
        lambda m, x: quiet(m, x, [7, 8], pairs=[(3, 1)]),
        ValueError,
        r"pair \(3, 1\) names a block that is not there: blocks are 0 to 2",
    ),
    "no pair": (lambda m, x: quiet(m, x, [7, 8], pairs=[]), ValueError, "tries nothing"),
    "labels for other prompts": (
        lambda m, x: quiet(m, x, [7, 8], alike=["a"]),
        ValueError,
        "alike has 1 entries for 2 prompts",
    ),
    "no possible answer": (
        lambda m, x: quiet(m, x, [7, 8], guesses=0),
        ValueError,
        "guesses counts possible answers",
    ),
    "no draw": (lambda m, x: quiet(m, x, [7, 8], draws=0), ValueError, "draws is at least 1"),
    "less than no token": (
        lambda m, x: quiet(m, x, [7, 8], generate=-1),
        ValueError,
        "generate is a number of tokens",
    ),
    "beyond the context": (
        lambda m, x: quiet(m, x.repeat(1, 9), [7, 8]),
        ValueError,
        "81 tokens, more than the context of 64",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_its_reason(case: str) -> None:
    call, kind, words = BAD[case]
    with pytest.raises(kind, match=words):
        call(families.build("llama"), LLAMA_IDS)


def test_encoders_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"BertForMaskedLM reads in both directions.*decoder"):
        quiet(families.build("bert"), LLAMA_IDS, [7, 8])
    with pytest.raises(ValueError, match=r"T5.* is an encoder-decoder"):
        quiet(families.build("t5"), LLAMA_IDS, [7, 8])


def test_a_model_without_head_is_refused() -> None:
    from transformers import LlamaModel

    headless = LlamaModel(families.build("llama").config).eval()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LlamaModel has no logits over a vocabulary"):
        quiet(headless, LLAMA_IDS, [7, 8])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_decoders_are_taken_with_a_single_token(family: str) -> None:
    model = families.build(family)
    assert quiet(model, [[5], [6]], [7, 8]).answer()


def test_one_pair_may_stand_alone_and_what_is_no_pair_is_named() -> None:
    assert all_pairs(8, (6, 4)) == ((6, 4),) == all_pairs(8, [(6, 4)])
    with pytest.raises(ValueError, match=r"such as \[\(6, 4\)\]; got 6"):
        all_pairs(8, [6, 4])  # type: ignore[list-item]


def test_few_wrong_prompts_conclude_nothing_and_no_pair_is_named_in_vain() -> None:
    model: Any = families.build("llama")
    prompts = [[5, 6, 7], [8, 9, 10], [11, 12, 13]]
    with torch.no_grad():
        worst = [int(model(torch.tensor([p])).logits[0, -1].argmin()) for p in prompts]
    found = back_patching(model, prompts, worst, pairs=(2, 0), progress=False)
    assert any("only 3 prompts are answered wrong at first: too few" in n for n in found.notes)
    assert found.lines(kind="fixed pair", group=WRONG, states=OWN)["value"].iloc[0] == 0
    assert "mostly block" not in found.answer()
