"""`features` on a dictionary whose latents are known, on odd ones, and on a real model."""

from __future__ import annotations

import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import layerscope as ls
from layerscope.analyses.material.pieces import piece
from layerscope.analyses.sae.features import MOST, FeaturesFinding, features
from layerscope.analyses.sae.looking.page import page
from layerscope.analyses.sae.rows.statistics import statistics_of
from layerscope.analyses.sae.sae import SAE
from layerscope.store import Store

PLAIN: dict[str, Any] = {"layout": "pca", "progress": False}


@pytest.fixture(scope="module")
def found(known_words: Any) -> FeaturesFinding:
    return features(known_words.sae, known_words.store, label="kind", shown=4, **PLAIN)


def test_the_table_is_what_was_planted(found: FeaturesFinding, known_words: Any) -> None:
    table, codes = found.table, known_words.codes
    rows = len(codes)
    assert table["latent"].tolist() == list(range(6))
    assert table["fired"].tolist() == (codes > 0).sum(0).tolist()
    assert table["density"].tolist() == [count / rows for count in (codes > 0).sum(0)]
    assert table["max"].tolist() == codes.max(0).tolist()
    energy = (codes.astype(float) ** 2).sum(0)
    assert table["energy"].tolist() == pytest.approx((energy / energy.sum()).tolist())
    alive = [0, 1, 2, 3, 5]
    mean = [codes[codes[:, i] > 0, i].mean() for i in alive]
    assert table["mean_active"][alive].tolist() == pytest.approx(mean)
    assert table["class"].tolist()[:4] == ["noun", "noun", "colour", "verb"]
    assert pd.isna(table["class"][4])
    assert table["score"][[2, 3]].tolist() == [1, 1]
    # Orthonormal rows: every cosine is 0, and of equals the lower number comes first.
    assert table["nearest"].tolist() == [1, 0, 0, 0, 0, 0]
    assert table["cosine"].tolist() == [0] * 6
    assert table["neighbours"][2] == [0, 1, 3, 4, 5]


def test_a_dead_latent_is_told_as_dead(found: FeaturesFinding) -> None:
    dead = found.table.iloc[4]
    assert (dead["fired"], dead["density"], dead["max"], dead["examples"]) == (0, 0, 0, [])
    assert np.isnan(dead["mean_active"])
    assert pd.isna(dead["token"])
    assert pd.isna(dead["top_token"])
    assert pd.isna(dead["place"])
    assert "1 never fire" in found.answer()
    assert "never fires here" in found.page([4])
    assert "none of 360 rows" in found.page([4])


def test_the_answer_has_its_numbers(found: FeaturesFinding) -> None:
    median = found.table["density"][[0, 1, 2, 3, 5]].median()
    assert found.answer().startswith(
        f"5 of 6 latents fire, half of them on more than {median:.1%} of 360 rows; 1 never fire. 4 tell "
        "a class of kind better than shuffled labels (by 3 sd; "
        f"{found.table['random_told'][0]:.0%} of a random dictionary's latents do), half of them with an F1 below "
        f"{found.table['score'][:4].median():.2f}; the best is latent 2 for colour: F1 1.00"
    )


def test_a_random_dictionary_tells_a_class_as_well(
    known_words: Any, found: FeaturesFinding
) -> None:
    """Of words that always have one class even random directions tell it: the count needs a control."""
    sae, store, codes = known_words.sae, known_words.store, known_words.codes
    x = store[known_words.site][:]
    drawn = torch.Generator().manual_seed(0)
    directions = torch.randn(6, 8, generator=drawn)
    directions /= directions.norm(dim=1, keepdim=True)
    k = round((codes > 0).sum() / len(codes))
    twin = SAE(directions.T, torch.zeros(6), directions, x.mean(0), activation="topk", k=k)
    table = features(twin, store, site=known_words.site, label="kind", **PLAIN).table
    alive = table[table["fired"] > 0]
    told = alive["score"] > alive["null"] + 3 * alive["null_sd"]
    assert found.table["random_told"].tolist() == [pytest.approx(told.mean())] * sae.n_latents
    assert told.any()


def test_saved_and_loaded_it_shows_the_same(found: FeaturesFinding, tmp_path: Path) -> None:
    again = FeaturesFinding.load(found.save(tmp_path / "f"))
    assert again.page() == found.page()
    assert again.page([5, 4]) == found.page([5, 4])
    assert again.figure() == found.figure()
    assert again.answer() == found.answer()
    assert again.find("colour")["latent"].tolist() == [2]


def test_what_is_shown_follows_the_rule_then_chance(found: FeaturesFinding) -> None:
    shown = found.shown
    assert shown["place"].tolist() == [0, 1, 2, 3]
    assert set(shown["latent"]) <= {0, 1, 2, 3, 5}
    # Words are so few that only the latent of last words fires on 10 % of rows or less... and noun 0, 1.
    by_rule = shown[shown["why"] == "rule"]
    fit = found.table[(found.table["density"] <= 0.1) & (found.table["fired"] >= 10)]
    assert set(by_rule["latent"]) <= set(fit["latent"])
    assert any("at random (33%)" in note for note in found.notes)


def test_asked_latents_come_alone_and_in_order(known_words: Any) -> None:
    part = features(known_words.sae, known_words.store, latents=[3, 4, 0], **PLAIN)
    assert part.table["latent"].tolist() == part.shown["latent"].tolist() == [3, 4, 0]
    assert part.table["neighbours"].tolist()[0] == [0, 1, 2, 4, 5]
    with pytest.raises(LookupError, match="latent 5 is not among the 3 of this finding"):
        part.page([5])


def test_a_token_that_looks_like_the_key_of_the_page_stays_as_it_is(found: FeaturesFinding) -> None:
    lines = found.table.iloc[[0]].copy()
    lines["token"] = "@key@\0key\0"
    assert "<q>@key@key</q>" in page(lines, lines)


def test_words_find_latents(known_words: Any, found: FeaturesFinding) -> None:
    assert set(found.find("noun")["latent"]) == {0, 1}
    assert set(found.find("  Noun")["latent"]) == {0, 1}
    assert 3 in set(found.find("run")["latent"]) or 3 in set(found.find("sit")["latent"])
    assert found.find("5")["latent"].tolist() == [5]
    assert len(found.find("nou ")) == 0  # a blank asks for the whole word
    assert found.find("no such word").empty


def test_the_seed_decides_and_the_order_of_calls_does_not(known_words: Any) -> None:
    one, again = (features(known_words.sae, known_words.store, **PLAIN) for _ in range(2))
    pd.testing.assert_frame_equal(one.table, again.table)
    other = features(known_words.sae, known_words.store, seed=1, **PLAIN)
    assert other.table["examples"].tolist() != one.table["examples"].tolist()
    state = torch.get_rng_state()
    features(known_words.sae, known_words.store, **PLAIN)
    assert torch.equal(state, torch.get_rng_state())


def test_permuted_latents_are_the_same_latents(known_words: Any, found: FeaturesFinding) -> None:
    sae, order = known_words.sae, torch.tensor([5, 3, 1, 0, 4, 2])
    turned = SAE(
        sae.W_enc[:, order], sae.b_enc[order], sae.W_dec[order], sae.b_dec, about=sae.about
    )
    table = features(turned, known_words.store, label="kind", **PLAIN).table
    same = ["fired", "mean_active", "max", "energy", "class", "score", "null", "recall"]
    expected = found.table.iloc[order.numpy()].reset_index(drop=True)
    pd.testing.assert_frame_equal(table[same], expected[same])
    tops = [[o["row"] for o in one if o["kind"] == "top"] for one in table["examples"]]
    assert tops == [[o["row"] for o in one if o["kind"] == "top"] for one in expected["examples"]]


# The model's own head


@pytest.fixture(scope="module")
def with_model() -> tuple[Any, Any, Store, SAE]:
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=300, n_positions=64)
        ).eval()
    return model


def test_logit_effects_are_of_the_mean_code(
    with_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model = with_model
    store = ls.extract(
        model,
        ["a dog barks", "the cat sat", "who knows ?"],
        [0, 1],
        tokenizer=tokenizer,
        to=tmp_path / "s",
    )
    generator = torch.Generator().manual_seed(0)
    decoder = torch.randn(20, 16, generator=generator)
    # Latent i writes what the unembedding reads as token 10 i; the last is dead.
    tokens = torch.arange(20) * 10
    with torch.no_grad():
        rows = model.lm_head.weight[tokens]
        rows = (rows - rows.mean(1, keepdim=True)) / rows.norm(dim=1, keepdim=True)
    decoder = rows * torch.linspace(0.5, 4, 20)[:, None]
    bias = torch.zeros(20)
    bias[-1] = -1e6
    sae = SAE(rows.T, bias, decoder, torch.zeros(16), about={"site": "blocks.0.resid_post"})
    table = features(sae, store, model=model, tokenizer=tokenizer, **PLAIN).table
    last = store[1].tensor()
    middle = last[last.norm(dim=1).argsort(stable=True)[len(last) // 2]]
    scale = float((middle.var(correction=0) + model.transformer.ln_f.eps).rsqrt())
    for latent, line in enumerate(table.to_dict("records")):
        if not line["fired"]:
            assert line["up"] == line["down_logits"] == []
            continue
        direction = (decoder[latent] - decoder[latent].mean()) * scale * line["mean_active"]
        logits = (direction @ model.lm_head.weight.T).detach()
        logits = logits - logits.mean()
        assert line["up_logits"] == pytest.approx(logits.topk(6).values.tolist(), rel=1e-3)
        assert line["up"] == [piece(tokenizer, int(token)) for token in logits.topk(6).indices]
        assert line["down_logits"] == pytest.approx(
            logits.topk(6, largest=False).values.tolist(), rel=1e-3
        )
    assert table["fired"].iloc[-1] == 0


def test_a_site_that_is_not_added_to_the_stream_has_none_and_says_so(
    with_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    store = ls.extract(
        with_model, ["a dog barks"], ["blocks.0.mlp_act"], tokenizer=tokenizer, to=tmp_path / "s"
    )
    eye = torch.eye(64)
    sae = SAE(eye, torch.zeros(64), eye, torch.zeros(64), about={"site": "blocks.0.mlp_act"})
    finding = features(sae, store, model=with_model, tokenizer=tokenizer, **PLAIN)
    assert "up" not in finding.table
    assert any("blocks.0.mlp_act is not added to the residual stream" in n for n in finding.notes)


# Other kinds of autoencoders


def test_a_crosscoder_reads_its_sites_side_by_side(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x = {"a": torch.randn(40, 2, generator=generator), "b": torch.randn(40, 3, generator=generator)}
    store = Store.create(tmp_path / "s", {}, sites={"a": 2, "b": 3}, dtype=torch.float32, about={})
    store.write(0, x, pd.DataFrame({"sample": range(40), "group": range(40)}))
    store.finish(1)
    eye = torch.eye(5)
    sae = SAE(eye, torch.zeros(5), eye, torch.zeros(5), parts=(2, 3), about={"site": "a,b"})
    table = features(sae, store, **PLAIN).table
    both = torch.cat([x["a"], x["b"]], 1)
    assert table["fired"].tolist() == (both > 0).sum(0).tolist()
    assert table["token"].isna().all()
    assert "row " in FeaturesFinding.page(features(sae, store, **PLAIN))


def test_float64_gives_the_same(known_words: Any, found: FeaturesFinding) -> None:
    sae = known_words.sae
    wide = SAE(
        *(getattr(sae, name).double() for name in ("W_enc", "b_enc", "W_dec", "b_dec")),
        about=sae.about,
    )
    table = features(wide, known_words.store, label="kind", shown=4, **PLAIN).table
    pd.testing.assert_frame_equal(
        table.drop(columns="examples"), found.table.drop(columns="examples"), rtol=1e-3
    )
    assert table["examples"].tolist() == found.table["examples"].tolist()


# What does not fit


def test_rows_unlike_those_of_the_training_are_warned_about(known_words: Any) -> None:
    sae = known_words.sae
    x = known_words.store[known_words.site].tensor()
    try:
        sae.statistics = statistics_of(x, known_words.site)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fine = features(sae, known_words.store, **PLAIN)
        sae.statistics = statistics_of(5 * x + 3, "blocks.0.resid_post")
        with pytest.warns(UserWarning, match=r"mean norm .*, in training"):
            wrong = features(sae, known_words.store, **PLAIN)
    finally:
        sae.statistics = None
    assert not any("in training" in note for note in fine.notes)
    assert any("blocks.0.resid_post" in note and "in training" in note for note in wrong.notes)


def test_a_store_that_it_was_trained_on_is_said(known_words: Any) -> None:
    sae = known_words.sae
    sae.about["store_key"] = known_words.store.key
    try:
        notes = features(sae, known_words.store, **PLAIN).notes
    finally:
        del sae.about["store_key"]
    assert any("those that the autoencoder was trained on" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latents": [6]}, r"numbers from 0 to 5, got 6"),
        ({"latents": [1, 1]}, r"different numbers from 0 to 5"),
        ({"latents": []}, r"different numbers from 0 to 5"),
        ({"top": 0}, r"top must be at least 1"),
        ({"sampled": -1}, r"sampled at least 0, got 8 and -1"),
        ({"shown": MOST + 1}, rf"shown must be from 0 to {MOST}"),
        ({"layout": "tsne"}, r"layout is one of 'umap', 'pca', 'none', not 'tsne'"),
    ],
)
def test_bad_choices_are_named(known_words: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        features(known_words.sae, known_words.store, **(PLAIN | options))


def test_sites_that_do_not_fit_are_named(known_words: Any) -> None:
    with pytest.raises(LookupError, match="site 7 is not in store"):
        features(known_words.sae, known_words.store, site=7, **PLAIN)
    narrow = SAE(torch.eye(3), torch.zeros(3), torch.eye(3), torch.zeros(3))
    with pytest.raises(ValueError, match="does not say which site it reads"):
        features(narrow, known_words.store, **PLAIN)
    with pytest.raises(ValueError, match=r"vectors of width 3, blocks\.1\.resid_post .* has 8"):
        features(narrow, known_words.store, site=1, **PLAIN)


def test_an_empty_store_is_refused(known_words: Any, tmp_path: Path) -> None:
    store = Store.create(
        tmp_path / "s", {}, sites={known_words.site: 8}, dtype=torch.float32, about={}
    )
    with pytest.raises(ValueError, match="has no rows"):
        features(known_words.sae, store, **PLAIN)


# The page


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_has_a_block_for_each_latent_and_its_links_lead_somewhere(
    found: FeaturesFinding,
) -> None:
    tags = Tags(found.page()).tags
    blocks = [attrs for tag, attrs in tags if tag == "details"]
    assert [str(b["id"]).rpartition("-")[2] for b in blocks] == [
        str(x) for x in found.shown["latent"]
    ]
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [str(attrs["href"])[1:] for tag, attrs in tags if tag == "a"]
    assert links
    assert set(links) <= set(ids)
    label = next(attrs["for"] for tag, attrs in tags if tag == "label")
    box = next(attrs for tag, attrs in tags if tag == "input")
    assert box["id"] == label
    assert box["list"] in ids


def test_nothing_in_a_token_becomes_markup(found: FeaturesFinding) -> None:
    hostile = "</script><img src=x onerror='hurt'>\"\u202e\x00"
    table = found.table.copy()
    for name in ("token", "top_token", "class", "label"):
        table[name] = hostile
    table["up"] = table["down"] = [[hostile]] * len(table)
    table["up_logits"] = table["down_logits"] = [[1.0]] * len(table)
    table["examples"] = [
        [one | {"tokens": [hostile] * len(one["tokens"])} for one in examples]
        for examples in table["examples"]
    ]
    text = page(table, table)
    assert {tag for tag, _ in Tags(text).tags} == {tag for tag, _ in Tags(found.page()).tags}
    assert "<img" not in text
    names = {name for _, attrs in Tags(text).tags for name in attrs}
    assert not [name for name in names if name.startswith("on")]
    assert "\x00" not in text


def test_a_page_is_bounded_and_two_of_them_share_no_ids(
    found: FeaturesFinding, known_words: Any
) -> None:
    other = features(known_words.sae, known_words.store, shown=2, **PLAIN)
    ids = [
        {attrs["id"] for _, attrs in Tags(one.page()).tags if "id" in attrs}
        for one in (found, other)
    ]
    assert not ids[0] & ids[1]
    assert len(other.page()) < len(found.page()) < 40_000
    none = features(known_words.sae, known_words.store, shown=0, **PLAIN).page()
    assert "<details" not in none


def test_the_figure_has_a_point_for_each_latent_and_rings_for_those_shown(
    found: FeaturesFinding,
) -> None:
    figure = found.figure()
    rings = [trace for trace in figure.data if trace.name == "shown below"]
    assert [len(ring.x) for ring in rings] == [4]
    points = [trace for trace in figure.data if trace.name != "shown below"]
    assert sum(len(trace.x) for trace in points) == 6
    assert {trace.name for trace in points} == {"noun", "colour", "verb", "no class", "never fires"}
    told = [text for trace in points for text in trace.customdata]
    assert any("latent 2" in text and "colour: F1 1.00" in text for text in told)


def test_without_a_map_the_figure_says_so(known_words: Any) -> None:
    finding = features(known_words.sae, known_words.store, layout="none", progress=False)
    assert "No map was asked for" in finding.figure().layout.annotations[0].text


def test_a_report_holds_the_page_and_leaves_examples_out_of_the_table(
    found: FeaturesFinding, tmp_path: Path
) -> None:
    path = ls.report([found], tmp_path / "r.html")
    text = path.read_text("utf-8")
    assert found.page() in text
    headings = re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', text)
    assert "density" in headings
    assert "examples" not in headings


# A real model


def test_latents_of_a_real_model_fire_where_its_tokens_say(
    shared_data: Path, tmp_path: Path
) -> None:
    """Of stories260K: one latent that reads each token's own embedding finds that token."""
    import json

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(shared_data / "stories260K" / "hf").eval()
    texts = json.loads((shared_data / "text_tinystories" / "tinystories_500.json").read_text())[:6]
    store = ls.extract(model, texts, ["embed", -1], to=tmp_path / "s", progress=False)
    # Whitened nearest-token classifier: with every token's own row as a latent, the largest
    # pre-activation of w.x - |w|^2 / 2 is the token itself.
    rows = model.get_input_embeddings().weight.detach()
    sae = SAE(
        rows.T, -rows.square().sum(1) / 2 + 100, rows, torch.zeros(64),
        activation="topk", k=1, subtract_b_dec=False, about={"site": "embed"},
    )  # fmt: skip
    table = features(sae, store, model=model, **PLAIN).table
    counts = store.rows["token_id"].value_counts()
    assert table["fired"].tolist() == [int(counts.get(token, 0)) for token in range(512)]
    alive = table[table["fired"] > 0]
    assert (alive["token_share"] == 1).all()
    # The embedding is tied: a token's own row, through gain and unembedding, mostly raises itself.
    spelled = store.rows.drop_duplicates("token_id").set_index("token_id")["token"].astype(str)
    own = [
        spelled[line["latent"]].strip() == line["up"][0].strip()
        for line in alive.to_dict("records")
    ]
    assert np.mean(own) > 0.5
