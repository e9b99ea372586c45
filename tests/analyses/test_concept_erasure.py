"""Erasing a label inside a model: planted costs, plain hooks as a second computation, controls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from layerscope.analyses.concept_erasure import concept_erasure
from layerscope.analyses.erasing.concept_erasure_finding import ConceptErasureFinding
from layerscope.corpus import Corpus, Samples, Text, Words, bundled
from layerscope.finding import Finding
from layerscope.hooks.capture import capture
from layerscope.hooks.extract import extract
from layerscope.planted.used_label import corners, loss, loss_without, used_label, walk
from layerscope.probes.erasers import fit_eraser

STRENGTH = 3.0


@pytest.fixture(scope="module")
def words() -> Any:
    """A tokenizer whose token t is the word `w{t}`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({f"w{t}": t for t in range(11)}, unk_token="w10"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw)


@pytest.fixture(scope="module")
def cube() -> Corpus:
    """120 texts of 13 tokens, each word with its used and its idle label."""
    texts = [walk(13, seed=seed) for seed in range(120)]

    def opened() -> list[Text]:
        return [text_of(number, ids.tolist()) for number, ids in enumerate(texts)]

    return Corpus("cube", opened)


def text_of(number: int, ids: list[int]) -> Text:
    starts = tuple(range(0, 3 * len(ids), 3))
    signs = corners()[ids]
    labels = {
        "word": tuple(f"w{t}" for t in ids),
        "used": tuple("up" if s > 0 else "down" for s in signs[:, 0].tolist()),
        "idle": tuple("left" if s > 0 else "right" for s in signs[:, 1].tolist()),
        "third": tuple(s if t else None for s, t in zip(signs[:, 2].tolist(), ids, strict=True)),
    }
    span = Words(starts, tuple(s + 2 for s in starts), labels)
    content = " ".join(f"w{t}" for t in ids)
    return Text(content=content, id=f"t{number}", group=f"g{number}", labels={}, words=span)


def asked(model: Any, corpus: Any, words: Any, label: str, **more: Any) -> ConceptErasureFinding:
    given = {"methods": "leace", "draws": 3, "progress": False} | more
    return concept_erasure(model, corpus, label=label, tokenizer=words, **given)


def line(finding: ConceptErasureFinding, part: str, **chosen: Any) -> Any:
    table = finding.part(part)
    for column, value in chosen.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


# Known answers


def test_a_used_label_costs_what_algebra_says(cube: Corpus, words: Any) -> None:
    model = used_label(STRENGTH)
    found = asked(model, cube, words, "used")
    for site in ("blocks.0.resid_post", "blocks.1.resid_post"):
        read = line(found, "decodable", site=site)
        assert read["before"] == 1.0
        assert read["after"] == pytest.approx(read["baseline"], abs=1e-12)
        assert read["rank"] == 1
        used = line(found, "used", site=site, measure="loss", scope="all")
        assert used["before"] == pytest.approx(loss(STRENGTH), abs=1e-5)
        # The label is 50 : 50 within a few per cent, so its mean is near 0, and the loss near ln 8.
        assert used["after"] == pytest.approx(math.log(8), abs=0.03)
        assert used["ci_low"] <= used["value"] <= used["ci_high"]
        assert used["beyond_low"] > 0
        assert used["value"] > max(used["null_mean"], used["matched_mean"]) + 0.1
    # With three directions of variance in all, random ones of equal variance hit the label, too.
    assert line(found, "used", site=site, measure="divergence", scope="all")["before"] == 0


def test_the_loss_after_is_that_of_the_coordinate_at_its_mean(cube: Corpus, words: Any) -> None:
    model = used_label(STRENGTH)
    store = extract(model, cube, ["embed"], tokenizer=words, progress=False)
    signs = np.where(store.rows["used"] == "up", 1.0, -1.0)
    eraser = fit_eraser(store, "embed", "used")
    frame = model.embed.weight[:8].double()
    erased = model.head(eraser(frame)).detach()
    # Rank 1 along the covariance with the label: what the head reads is then the same for all.
    spread = erased[:, 1] - erased[:, 0]
    assert spread.std() < 0.05
    expected = STRENGTH * signs.mean()
    assert float(spread.mean()) == pytest.approx(expected, abs=0.1)
    up = (signs > 0).mean()
    whole = up * _nats(spread.mean()) + (1 - up) * _nats(-spread.mean())
    assert loss_without(STRENGTH, float(signs.mean())) == pytest.approx(float(whole), abs=0.02)


def _nats(gap: Any) -> float:
    return math.log(4) + math.log(1 + math.exp(-float(gap)))


def test_an_idle_label_is_decodable_and_costs_nothing(cube: Corpus, words: Any) -> None:
    found = asked(used_label(STRENGTH), cube, words, "idle")
    for site in ("blocks.0.resid_post", "blocks.1.resid_post"):
        assert line(found, "decodable", site=site)["before"] == 1.0
        used = line(found, "used", site=site, measure="loss", scope="all")
        assert abs(used["value"]) < 1e-3
        # Random directions hit the coordinate that is used.
        assert used["null_mean"] > used["value"]
    assert found.used() == []
    assert "decodable, but not seen to be used" in found.answer()


def test_a_label_that_no_probe_reads_is_not_called_decodable(cube: Corpus, words: Any) -> None:
    import pandas as pd

    found = asked(used_label(STRENGTH), cube, words, "idle", layer=[0])
    table: pd.DataFrame = found.table.copy()
    read = table["part"] == "decodable"
    table.loc[read, ["before", "baseline", "n_groups"]] = 0.822, 0.826, 12
    weak = ConceptErasureFinding(table=table, provenance=found.provenance)
    text = weak.answer()
    assert "So it is not shown to be readable here, by a linear probe, nor to be used." in text
    assert "decodable" not in text
    assert "12 groups are few: the intervals are likely too narrow." in text
    table.loc[read, ["before", "n_groups"]] = 0.93, 24
    text = ConceptErasureFinding(table=table, provenance=found.provenance).answer()
    assert "So it is decodable, but not seen to be used" in text
    assert "groups are few" not in text


def test_a_number_is_erased_and_missing_labels_are_left_out(cube: Corpus, words: Any) -> None:
    found = asked(used_label(STRENGTH), cube, words, "third", task="number", layer=[0])
    read = line(found, "decodable")
    assert read["measure"] == "R2"
    assert read["before"] == pytest.approx(1.0, abs=1e-3)
    assert read["after"] == pytest.approx(0.0, abs=0.02)
    assert any("have no third: left out" in note for note in found.notes)


def test_scopes_count_the_predictions_they_name(cube: Corpus, words: Any) -> None:
    found = asked(used_label(), cube, words, "third", layer=[0], where="word == 'w3'")
    counts = {
        scope: line(found, "used", measure="loss", scope=scope)["n"]
        for scope in ("all", "next", "itself", "word == 'w3'")
    }
    held = counts["all"] // 12
    assert counts["all"] == 12 * held
    assert counts["next"] < counts["all"]
    assert counts["itself"] < counts["all"]
    assert 0 < counts["word == 'w3'"] < counts["itself"]


# A second computation


def test_the_change_is_that_of_plain_hooks(gpt2: Any, tokenizer: Any, sentences: Any) -> None:
    """One site, one eraser, one text after the other, without edits, lanes or batches."""
    corpus = bundled().take(200)
    found = concept_erasure(
        gpt2,
        corpus,
        [1],
        label="upos",
        methods="leace",
        draws=2,
        tokenizer=tokenizer,
        max_texts=10_000,
        progress=False,
    )
    store = extract(gpt2, corpus, [1], tokenizer=tokenizer, progress=False)
    from layerscope.analyses.erasing.decodable import Held
    from layerscope.analyses.erasing.erasers import erasers_at
    from layerscope.probes.reading.rows import plan

    held = Held(plan(store, "upos", pieces="all", max_rows=20_000))
    site = "blocks.1.resid_post"
    x = store[site][held.plan.index].float()
    eraser = erasers_at(site, x, held, ["leace"], 2, 0)["leace"].eraser
    texts = sorted(set(store.rows["text"].to_numpy()[held.plan.index[: held.cut]].tolist()))
    contents = [text.content for text in corpus]
    total, count = 0.0, 0

    def hook(module: Any, args: Any, output: Any) -> Any:
        return (eraser(output[0]), *output[1:]) if isinstance(output, tuple) else eraser(output)

    for number in texts:
        ids = torch.tensor([tokenizer(contents[number])["input_ids"][:64]])
        with torch.no_grad():
            plain = gpt2(input_ids=ids).logits[0, :-1].log_softmax(-1)
            handle = gpt2.transformer.h[1].register_forward_hook(hook)
            erased = gpt2(input_ids=ids).logits[0, :-1].log_softmax(-1)
            handle.remove()
        aim = ids[0, 1:, None]
        total += float((plain.gather(1, aim) - erased.gather(1, aim)).sum())
        count += len(aim)
    used = line(found, "used", measure="loss", scope="all")
    assert used["n"] == count
    assert used["value"] == pytest.approx(total / count, rel=1e-3, abs=1e-5)


def test_scrubbing_erases_every_layer_and_says_what_comes_back(cube: Corpus, words: Any) -> None:
    found = asked(used_label(STRENGTH), cube, words, "used", scrubbing=True)
    again = found.part("rederived")
    assert list(again["site"]) == ["blocks.0.resid_post", "blocks.1.resid_post"]
    assert again["after"].iloc[0] == 1.0
    # Blocks add nothing, so what was erased at the first is not found at the second.
    assert (again["after"].iloc[1:] <= again["baseline"].iloc[1:] + 1e-9).all()
    all_sites = line(found, "used", site="all", measure="loss", scope="all")
    alone = line(found, "used", site="blocks.0.resid_post", measure="loss", scope="all")
    assert all_sites["value"] == pytest.approx(alone["value"], abs=1e-6)
    assert all_sites["method"] == "scrubbing"


def test_a_model_that_fills_gaps_is_asked_for_gaps(tokenizer: Any) -> None:
    from transformers import BertConfig, BertForMaskedLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=300,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=128,
        )
        model = BertForMaskedLM(config).eval()
    corpus = bundled().take(200)
    with pytest.raises(ValueError, match="tokenizer has no mask token"):
        concept_erasure(
            model, corpus, [0], label="upos", tokenizer=tokenizer, draws=2, progress=False
        )
    tokenizer.mask_token = "<pad>"
    try:
        found = concept_erasure(
            model,
            corpus,
            [0],
            label="upos",
            methods="leace",
            tokenizer=tokenizer,
            draws=2,
            progress=False,
        )
    finally:
        tokenizer.mask_token = None
    assert set(found.part("used")["scope"]) == {"all", "itself"}
    assert any("the loss is that of gaps" in note for note in found.notes)
    assert line(found, "used", measure="loss", scope="all")["value"] != 0


def test_a_loss_of_ones_own_serves_any_model() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (400,), generator=generator)
    x = torch.randn(400, 6, generator=generator)
    x[:, 0] += 4 * (y - 0.5)
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(6, 2)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[1, 0], model[1].weight[0, 0] = 1.0, -1.0
        model[1].bias.zero_()
    data = Samples(x, labels={"kind": y.numpy()}, name="two")

    def nats(output: Any, batch: Any) -> Any:
        truth = torch.as_tensor(batch.labels["kind"])
        return torch.nn.functional.cross_entropy(output, truth, reduction="none")

    with pytest.raises(ValueError, match="these data are no texts"):
        concept_erasure(model, data, ["0"], label="kind", progress=False)
    found = concept_erasure(
        model, data, ["0"], label="kind", methods="leace", loss=nats, draws=3, progress=False
    )
    used = line(found, "used", measure="loss")
    assert used["n"] == 80
    assert used["before"] < 0.1
    assert used["after"] == pytest.approx(math.log(2), abs=0.15)
    assert used["unit"] == "as given"
    assert "nats/token" not in found.answer()
    assert "(80 samples in 80 groups)" in found.answer()
    with pytest.raises(ValueError, match=r"must return one number for each of the"):
        concept_erasure(
            model,
            data,
            ["0"],
            label="kind",
            methods="leace",
            loss=lambda output, batch: output.mean(),
            progress=False,
        )


# What does not matter, what is refused, what is kept


def test_the_model_is_left_as_it_was(cube: Corpus, words: Any) -> None:
    model = used_label(STRENGTH).train()
    state = torch.random.get_rng_state()
    before = {name: p.clone() for name, p in model.named_parameters()}
    asked(model, cube, words, "idle", layer=[0])
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_same_seed_gives_the_same_table(cube: Corpus, words: Any) -> None:
    one, two = (asked(used_label(), cube, words, "used", layer=[0], seed=3) for _ in range(2))
    assert one.table.equals(two.table)


def test_it_is_saved_and_loaded(cube: Corpus, words: Any, tmp_path: Any) -> None:
    found = asked(used_label(), cube, words, "used", methods=("leace", "inlp"))
    found.save(tmp_path / "found")
    again = Finding.load(tmp_path / "found")
    assert isinstance(again, ConceptErasureFinding)
    assert again.answer() == found.answer()
    figure = again.figure()
    names = {trace.name for trace in figure.data}
    assert {"probe before erasing", "after LEACE", "after INLP", "majority class"} <= names
    assert {"random directions, as many", "random directions, equal variance"} <= names


def test_what_is_refused(cube: Corpus, words: Any) -> None:
    model = used_label()
    with pytest.raises(ValueError, match="methods are of leace, inlp, mean_difference, not lace"):
        asked(model, cube, words, "used", methods="lace")
    with pytest.raises(ValueError, match="draws must be at least 2"):
        asked(model, cube, words, "used", draws=1)
    with pytest.raises(LookupError, match="no label 'usd'"):
        asked(model, cube, words, "usd")
    with pytest.raises(ValueError, match="where='wrd ==' is no query on the rows"):
        asked(model, cube, words, "used", where="wrd ==")
    headless = used_label()
    headless.head = torch.nn.Linear(16, 5).double()
    with pytest.raises(ValueError, match="UsedLabel does not predict tokens"):
        asked(headless, cube, words, "used", layer=["blocks.0"])


def test_few_groups_and_few_rows_are_noted(words: Any) -> None:
    corpus = Corpus("few", lambda: [text_of(i, walk(13, seed=i).tolist()) for i in range(12)])
    found = asked(used_label(), corpus, words, "idle", layer=[0], folds=3)
    assert any("held-out groups only" in note for note in found.notes)
    assert any("fewer than ten rows a feature" in note for note in found.notes)


def test_captured_states_are_erased_at_every_position_but_specials(gpt2: Any) -> None:
    from layerscope.analyses.erasing.asked import Questions
    from layerscope.analyses.material.texts import as_texts

    class Marked:
        all_special_ids = (7,)
        mask_token_id = 9

    texts = as_texts(gpt2, [[7, 7, 20, 21, 22, 7], [7, 23, 24, 25, 26, 27]])
    object.__setattr__(texts.prompts, "tokenizer", Marked())
    marks = {"labelled": [torch.tensor([False, False, True, False, True, False])] * 2}
    (question,) = Questions(texts, marks, fills=False).batches(100)
    assert question.erased == slice(2, 5)
    assert question.scopes["all"][0].tolist() == [False, False, True, True, True, False]
    assert question.scopes["next"][0].tolist() == [False, False, True, False, True, False]
    assert question.scopes["itself"][0].tolist() == [False, False, False, True, False, False]
    (gaps,) = Questions(texts, marks, fills=True).batches(100)
    assert gaps.scopes["all"].sum(1).tolist() == [1, 1]
    assert (gaps.ids[gaps.scopes["all"]] == 9).all()
    with torch.no_grad(), capture(gpt2, [0]) as seen:
        gpt2(input_ids=question.ids)
    assert seen[0].shape == (2, 6, 16)
