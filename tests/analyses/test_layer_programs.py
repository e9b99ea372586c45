"""Search over programs of blocks: enumerated minima, planted circuits, controls, and bad input."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch

from layerscope.analyses.layer_programs import layer_programs
from layerscope.analyses.programs.layer_programs_finding import LayerProgramsFinding
from layerscope.analyses.programs.layer_programs_table import pareto
from layerscope.analyses.programs.program_search import Try
from layerscope.analyses.programs.program_tree import Rules, Tree
from layerscope.demo import load_model, load_tokenizer
from layerscope.planted.counter import Counter, counter
from layerscope.planted.two_hop import two_hop


@pytest.fixture(scope="module")
def planted() -> Counter:
    return counter()


def searched(planted: Counter, targets: Any = range(7), **more: Any) -> LayerProgramsFinding:
    """One prompt, start 0, for each target."""
    more = {"control": False, "progress": False, **more}
    return layer_programs(planted.model, [[0]] * len(targets), list(targets), **more)


def first_lines(finding: LayerProgramsFinding, search: str = "answer") -> Any:
    table = finding.table
    return table[table["search"] == search].drop_duplicates("prompt")


def programs(finding: LayerProgramsFinding, search: str = "answer") -> list[tuple[Any, list[int]]]:
    table = finding.table[finding.table["search"] == search]
    return [(row, [int(b) for b in row.program.split()]) for row in table.itertuples()]


def enumerated(planted: Counter, most: int) -> dict[int, int]:
    """Fewest blocks that reach each target, over all programs of the rules, breadth first."""
    blocks, found = planted.n_blocks, {}
    states = {((), 0)}
    while states:
        following = set()
        for done, pointer in states:
            if pointer == blocks:
                if done:
                    target = planted.result(done)
                    found[target] = min(found.get(target, 99), len(done))
                continue
            for size in range(1, min(most, blocks - pointer) + 1):
                segment = tuple(range(pointer, pointer + size))
                for times in range(most + 1):
                    if len(done) + size * times <= 4:
                        following.add((done + segment * times, pointer + size))
        states = following
    return found


SHORTEST = {0: 1, 1: 1, 3: 1, 2: 2, 4: 2, 6: 2, 5: 3}


def test_every_target_of_the_counter_by_its_shortest_program(planted: Counter) -> None:
    assert enumerated(planted, most=2) == SHORTEST
    lines = first_lines(searched(planted, tries=250, most=2))
    assert dict(zip(lines["prompt"], lines["shortest"], strict=True)) == SHORTEST
    assert lines["baseline"].tolist() == [target == 5 for target in range(7)]


@pytest.mark.parametrize("target", range(7))
def test_the_tree_finds_the_shortest_under_the_papers_rules(planted: Counter, target: int) -> None:
    assert enumerated(planted, most=4) == SHORTEST
    for seed in range(4):
        tree = Tree(Rules(6, longest=9), f"{seed}/{target}")
        program: Any = tuple(range(6))
        right = []
        for _ in range(800):
            reward = planted.result(program) == target
            right += [len(program)] * reward
            tree.tell(program, float(reward))
            program = tree.propose()
        assert min(right) == SHORTEST[target]


def test_skipping_alone_never_reaches_six(planted: Counter) -> None:
    finding = searched(planted, tries=400, repeat=False)
    lines = first_lines(finding)
    assert lines["tries"].tolist() == [2**6 - 1] * 7
    assert lines["solved"].tolist() == [True] * 6 + [False]
    assert lines["shortest"].tolist()[:6] == [1, 1, 2, 1, 2, 3]
    assert any("7 searches ran out of programs" in note for note in finding.notes)
    for row, program in programs(finding):
        assert program == sorted(set(program))
        assert row.unique == row.length == len(program)


def test_repeating_alone_keeps_every_block(planted: Counter) -> None:
    finding = searched(planted, [5, 6], tries=60, skip=False)
    for _, program in programs(finding):
        assert set(program) == set(range(6))
        assert len(program) <= 9


def test_a_poison_block_is_what_the_program_leaves_out() -> None:
    planted = counter(steps=(1, 2, 4, 32, 8, 16), modulus=64)
    target = planted.result([0, 1, 2, 4, 5])
    finding = searched(planted, [target], repeat=False)
    right = [program for row, program in programs(finding) if row.correct]
    assert right == [[0, 1, 2, 4, 5]]


def test_what_is_said_of_a_program_is_what_it_does(planted: Counter) -> None:
    for row, program in programs(searched(planted, tries=50)):
        assert row.correct == (planted.result(program) == row.prompt)


@pytest.mark.parametrize("setting", [(4, 2, 6), (5, 4, 3), (1, 3, 5), (7, 1, 6)])
def test_p2h_is_mended_exactly_where_its_circuit_can_be(setting: Any) -> None:
    planted = two_hop(*setting)
    finding = layer_programs(
        planted.model,
        planted.prompts[:4],
        planted.answers.tolist()[:4],
        tries=400,
        longest=2,
        length_weight=0,
        control=True,
        progress=False,
    )
    for row, program in programs(finding):
        assert row.correct == planted.program_correct(program)
    lines = first_lines(finding)
    # Of four blocks at most can a segment go round, so what is six blocks behind stays there.
    assert lines["solved"].all() == (setting != (7, 1, 6))
    assert lines["baseline"].all() == planted.baseline_correct
    # Another entity's answer is never given, whatever is run.
    assert not first_lines(finding, "control")["solved"].any()
    fixed = finding.table[finding.table["search"] == "fixed"]
    assert fixed["correct"].all() == (setting != (7, 1, 6))


def test_the_models_own_order_is_the_first_try_bit_for_bit() -> None:
    from layerscope.analyses.programs.program_runner import ProgramRunner
    from layerscope.hooks.replay import record

    model, tokenizer = load_model(), load_tokenizer()
    ids = tokenizer(["The city of the friend of Anna is"], return_tensors="pt")["input_ids"]
    run = record(model, ids)
    with torch.no_grad():
        runner = ProgramRunner(run, run.length)
        own = runner([(0, tuple(range(8)))])
    assert torch.equal(own, run.logits)
    assert runner.evaluations == 8


def test_the_runner_agrees_with_running_each_program_alone() -> None:
    from layerscope.analyses.programs.program_runner import ProgramRunner
    from layerscope.hooks.replay import record

    model, tokenizer = load_model(), load_tokenizer()
    texts = ["The friend of Anna is", "The boss of Carl is"]
    run = record(model, tokenizer(texts, return_tensors="pt")["input_ids"])
    several = [(0, 1, 2), (0, 1, 1, 1, 5), (7,), (3, 2, 1), (0, 1, 1, 1, 5, 6, 7, 7)]
    for budget in (2**29, 1):
        runner = ProgramRunner(run, 2, budget=budget)
        with torch.no_grad():
            for program in several:
                expected = run.program(program, last=2).logits
                found = runner([(0, program), (1, program)])
                torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
            again = runner([(1, several[1]), (0, several[0])])
        torch.testing.assert_close(
            again[0], run.program(several[1], last=2).logits[1], atol=2e-5, rtol=2e-5
        )
    counted = ProgramRunner(run, 1)
    with torch.no_grad():
        counted([(0, program) for program in several])
        prefixes = {program[:n] for program in several for n in range(1, len(program) + 1)}
        assert counted.evaluations == len(prefixes)
        counted([(0, program) for program in several])
        assert counted.evaluations == len(prefixes)


def test_no_program_is_tried_twice(planted: Counter) -> None:
    tree = Tree(Rules(6, longest=9), "0")
    tree.tell(tuple(range(6)), 0.0)
    seen = [tuple(range(6))]
    for number in range(500):
        program = tree.propose()
        assert program is not None
        seen.append(program)
        if number % 7 == 0:  # told in any order, and late
            for waiting in list(tree.waiting):
                tree.tell(waiting, float(number % 2))
    assert len(set(seen)) == len(seen)
    assert all(1 <= len(program) <= 9 for program in seen)


def test_what_is_rewarded_is_sought() -> None:
    def share(rewarded: float) -> float:
        tree = Tree(Rules(8, longest=12, length_weight=0), "0")
        tree.tell(tuple(range(8)), 0.0)
        found = 0
        for _ in range(300):
            program: Any = tree.propose()
            begins = program[:2] == (0, 0)
            found += begins
            tree.tell(program, rewarded * begins)
        return found / 300

    assert share(1.0) > 2 * share(0.0)


def test_every_state_is_in_the_tree_once() -> None:
    tree = Tree(Rules(5, longest=7), "0")
    tree.tell(tuple(range(5)), 0.0)
    for _ in range(200):
        program = tree.propose()
        if program is not None:
            tree.tell(program, 0.0)
    nodes, states = [tree.root], []
    while nodes:
        node = nodes.pop()
        states.append((node.done, node.pointer))
        nodes += node.children
    assert len(set(states)) == len(states) > 200


def test_skip_only_trees_end_with_every_subset() -> None:
    tree = Tree(Rules(5, repeat=False, longest=5), "0")
    seen = {tuple(range(5))}
    tree.tell(tuple(range(5)), 0.0)
    while (program := tree.propose()) is not None:
        seen.add(program)
        tree.tell(program, 0.0)
    assert seen == {s for n in range(1, 6) for s in combinations(range(5), n)}


def test_the_pareto_set() -> None:
    tries = [
        Try((0, 1, 2), True, -1.0, 0),
        Try((0, 1), False, -0.5, 0),
        Try((1, 2), True, -2.0, 0),
        Try((2,), False, -3.0, 0),
        Try((0, 2), True, -3.0, 0),
        Try((0, 0, 1), True, -0.9, 0),
    ]
    assert [number for number, _ in pareto(tries)] == [3, 2, 5]


def test_the_same_seed_finds_the_same(planted: Counter) -> None:
    one, two, other = (searched(planted, tries=40, seed=s).table for s in (3, 3, 4))
    assert one.equals(two)
    assert not one["program"].equals(other["program"])


def test_prompts_side_by_side_are_searched_as_if_alone() -> None:
    model, tokenizer = load_model(), load_tokenizer()
    texts = ["The friend of Anna is", "The boss of Carl is", "The city of Kate is"]
    answers = ["Julia", "Anna", "Oslo"]
    whole, single = (
        layer_programs(
            model, texts, answers, tries=40, tokenizer=tokenizer, max_rows=rows,
            control=False, progress=False,
        )
        for rows in (64, 1)
    )  # fmt: skip
    assert whole.table["program"].equals(single.table["program"])


def test_costs_and_guessing(planted: Counter) -> None:
    finding = searched(planted, tries=100, guesses=7)
    parameters = finding.provenance.parameters
    assert parameters["layer_evaluations"] < parameters["layer_evaluations_by_whole_passes"] / 2
    lines = first_lines(finding)
    assert (lines["tries"] == 100).all()
    expected = 1 - (6 / 7) ** lines["different"].astype(float)
    assert lines["guessing"].to_numpy() == pytest.approx(expected.to_numpy())
    assert "guessing would find" in finding.answer()


def test_answers_of_several_tokens_and_alternatives() -> None:
    model, tokenizer = load_model(), load_tokenizer()
    texts = ["The friend of Anna is", "The boss of Carl is"]
    finding = layer_programs(
        model, texts, [["Julia", "Bert"], ["Paris. The", "Rome"]], tries=5, tokenizer=tokenizer,
        control=False, progress=False,
    )  # fmt: skip
    assert any("several tokens" in note for note in finding.notes)
    assert any("1 alternative answers were left out" in note for note in finding.notes)


def test_the_control_seeks_answers_of_the_same_label() -> None:
    from layerscope.analyses.material.answers import Answers
    from layerscope.analyses.material.shuffled_answers import shuffled

    answers = Answers((((1,),), ((2,),), ((1,), (3,)), ((4,),)), (("a",),) * 4)
    found = shuffled(answers, ["x", "x", "x", "y"], seed=0)
    assert found == {0: ((2,),), 1: found[1], 2: ((2,),)}
    assert found[1] in (((1,),), ((1,), (3,)))
    anyone = shuffled(answers, None, seed=0)
    assert set(anyone) == {0, 1, 2, 3}
    assert all(not set(anyone[i]) & set(answers.ids[i]) for i in anyone)


def test_the_finding_speaks_and_survives_saving(planted: Counter, tmp_path: Any) -> None:
    finding = searched(planted, tries=60, control=True)
    assert finding.answer().startswith("The model answers 1 of 7 prompts right. Of the others, ")
    assert "the same search for another prompt's answer finds" in finding.answer()
    again = LayerProgramsFinding.load(finding.save(tmp_path / "programs"))
    assert again.answer() == finding.answer()
    assert again.figure().to_json() == finding.figure().to_json()


def test_bad_input_is_refused(planted: Counter) -> None:
    with pytest.raises(ValueError, match="the model's own order is all there is"):
        searched(planted, skip=False, repeat=False)
    with pytest.raises(ValueError, match="tries is at least 1; got 0"):
        searched(planted, tries=0)
    with pytest.raises(ValueError, match=r"longest is at least 1; got 0\.5"):
        searched(planted, longest=0.5)
    with pytest.raises(ValueError, match="alike has 2 entries for 7 prompts"):
        searched(planted, alike=[1, 2], control=True)
    with pytest.raises(ValueError, match="guesses has 2 entries for 7 prompts"):
        searched(planted, guesses=[1, 2])
    with pytest.raises(ValueError, match="at least 1; got 0"):
        searched(planted, guesses=0)
