"""`evaluate` on planted SAEs, stores, tensors and a running model."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.evaluate import evaluate
from layerscope.analyses.sae.measuring import measured_rows
from layerscope.analyses.sae.measuring.definitions import DEFINITIONS
from layerscope.analyses.sae.measuring.sae_finding import SAEFinding
from layerscope.analyses.sae.rows.statistics import statistics_of
from layerscope.analyses.sae.sae import SAE
from layerscope.finding import Finding
from layerscope.planted.sparse_features import sparse_features


def planted(rows: int = 3000, width: int = 32, k: int = 20, seed: int = 0):
    """Orthonormal features, and the SAE that is made of them: nothing is trained."""
    truth = sparse_features(rows, width, width, probability=3 / 32, orthonormal=True, seed=seed)
    zero = torch.zeros(width)
    sae = SAE(truth.directions.T, zero, truth.directions, zero, activation="topk", k=k)
    return truth, sae


def run(sae, data, **options) -> SAEFinding:
    return evaluate(sae, data, progress=False, **options)


def test_the_planted_dictionary_is_perfect() -> None:
    truth, sae = planted()
    torch.testing.assert_close(sae.encode(truth.x), truth.amplitudes, atol=1e-5, rtol=0)
    found = run(sae, truth.x, reference=truth.directions, features=truth.amplitudes)
    assert found.value("explained_variance") == pytest.approx(1.0, abs=1e-9)
    assert found.value("mcc") == pytest.approx(1.0, abs=1e-6)
    assert found.value("mmcs") == pytest.approx(1.0, abs=1e-6)
    assert found.value("uniqueness") == 1.0
    # Rounding leaves codes of 1e-8 where nothing is: precision counts them, recall does not mind.
    assert found.value("recall") == 1.0
    assert found.value("norm_error") < 1e-5
    assert found.value("coherence") < 1e-5
    assert found.value("dead_share") == 0.0
    assert found.line("mcc")["random"] < 0.6
    assert found.line("recall")["random"] < found.value("recall")
    assert found.line("explained_variance")["pca"] < 0.9


def test_an_sae_of_the_mean_explains_nothing() -> None:
    x = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0)) + 2
    sae = SAE(torch.zeros(6, 9), torch.zeros(9), torch.zeros(9, 6), x.mean(0))
    found = run(sae, x)
    assert found.value("explained_variance") == pytest.approx(0.0, abs=1e-5)
    assert found.value("l0") == 0.0
    assert found.value("dead_share") == 1.0
    assert found.value("empty_rows") == 1.0
    assert "9 of 9 latents never fired in 2,000 rows" in found.answer()
    assert found.figure().layout.title.text


def test_every_measure_has_a_definition_a_unit_and_baselines() -> None:
    truth, sae = planted()
    found = run(sae, truth.x, reference=truth.directions, features=truth.amplitudes)
    lines = found.measures
    assert lines["key"].is_unique
    assert set(lines["key"]) == {
        key for key, one in DEFINITIONS.items() if one.group != "behaviour"
    }
    assert (lines["unit"] != "").all()
    assert (lines["n"] > 0).all()
    both = lines[~lines["key"].isin(["pca_rank", "elbo_h_max", "elbo_k_max"])]
    assert both["random"].notna().all()
    assert list(lines["key"]) == [key for key in DEFINITIONS if key in set(lines["key"])]
    alone = run(sae, truth.x, baselines=False).measures
    assert alone["random"].isna().all()
    assert alone["pca"].isna().all()


def test_measures_are_found_by_key_or_name() -> None:
    truth, sae = planted(rows=500)
    found = run(sae, truth.x)
    assert found.value("L0 <number") == found.value("l0")
    with pytest.raises(
        LookupError, match="no measure 'ce_recovered_zero'; there are explained_var"
    ):
        found.value("ce_recovered_zero")
    with pytest.raises(LookupError, match="several measures begin with 'explained variance'"):
        found.value("explained variance")


def test_blocks_and_single_precision_change_nothing(monkeypatch) -> None:
    truth, sae = planted(rows=1000)
    whole = run(sae, truth.x).measures.set_index("key")["value"]
    monkeypatch.setattr(measured_rows, "CODES", 64 * 32)
    small = run(sae, truth.x).measures.set_index("key")["value"]
    np.testing.assert_allclose(small, whole, rtol=1e-6, atol=1e-9)


def test_the_order_of_latents_changes_nothing() -> None:
    truth, sae = planted(rows=1000)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3))
    other = SAE(
        sae.W_enc[:, order], sae.b_enc[order], sae.W_dec[order], sae.b_dec, activation="topk", k=20
    )
    one, two = (run(s, truth.x).measures.set_index("key")["value"] for s in (sae, other))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)


def stored(make_store, truth, **columns):
    rows = len(truth.x)
    return make_store(
        {"blocks.1.resid_post": truth.x, "other": truth.x * 3 + 1},
        group=(torch.arange(rows) // 10).tolist(),
        kind=["on" if one else "off" for one in truth.support[:, 0].tolist()],
        **columns,
    )


def test_a_store_gives_texts_labels_and_its_key(make_store, tmp_path) -> None:
    truth, sae = planted(rows=1500)
    store = stored(make_store, truth)
    sae.about = {"site": "blocks.1.resid_post", "store_key": store.key}
    found = run(sae, store, label="kind")
    line = found.line("explained_variance")
    assert line["n_groups"] == 150
    assert line["ci_low"] <= line["value"] <= line["ci_high"]
    one = found.line("probing_1")
    assert one["value"] == pytest.approx(1.0, abs=0.02)
    assert one["baseline"] < 0.8
    assert one["null_mean"] == pytest.approx(0.5, abs=0.1)
    assert one["ceiling"] > 0.9
    assert any("rows it was trained on" in note for note in found.notes)
    assert any("pass model=" in note for note in found.notes)
    assert found.provenance.store_key == store.key
    assert "tells a class of kind with a balanced accuracy of" in found.answer()
    by_path = run(sae, str(store.path))
    assert by_path.value("squared_error") == found.value("squared_error")
    found.save(tmp_path / "finding")
    again = Finding.load(tmp_path / "finding")
    assert again.answer() == found.answer()
    assert len(again.figure().data) == len(found.figure().data)


def test_rows_unlike_those_of_the_training_are_warned_about(make_store) -> None:
    truth, sae = planted(rows=1500)
    store = stored(make_store, truth)
    sae.statistics = statistics_of(truth.x, "blocks.1.resid_post")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(sae, store, site="blocks.1.resid_post", baselines=False)
    with pytest.warns(UserWarning, match=r"other .*not like .*mean norm .*, in training ") as seen:
        found = run(sae, store, site="other", baselines=False)
    assert seen[0].filename == __file__
    assert any("not like those of blocks.1.resid_post" in note for note in found.notes)


def test_few_rows_are_drawn_and_said(make_store) -> None:
    truth, sae = planted(rows=1500)
    found = run(sae, stored(make_store, truth), site="blocks.1.resid_post", rows=400)
    assert found.line("l0")["n"] == 400
    assert any("400 of 1,500 rows, drawn at random" in note for note in found.notes)


def test_a_transcoder_and_a_crosscoder(make_store) -> None:
    truth, _ = planted(rows=1500)
    store = stored(make_store, truth)
    codes, other = truth.directions, 3 * truth.directions
    transcoder = SAE(
        codes.T, torch.zeros(32), other, torch.ones(32), activation="topk", k=20,
        subtract_b_dec=False, about={"site": "blocks.1.resid_post", "target": "other"},
    )  # fmt: skip
    found = run(transcoder, store)
    assert found.value("explained_variance") == pytest.approx(1.0, abs=1e-6)
    assert found.provenance.parameters["target"] == "other"
    assert found.line("explained_variance")["pca"] < 0.9
    assert found.value("pca_rank") == 32  # a linear map of full rank does it too
    both = SAE(
        torch.cat([codes.T, torch.zeros(32, 32)]), torch.zeros(32), torch.cat([codes, other], 1),
        torch.cat([torch.zeros(32), torch.ones(32)]), activation="topk", k=20,
        subtract_b_dec=False, parts=(32, 32), about={"site": "blocks.1.resid_post,other"},
    )  # fmt: skip
    found = run(both, store, reference=torch.cat([codes, other], 1))
    assert found.value("explained_variance") == pytest.approx(1.0, abs=1e-6)
    assert found.value("mcc") == pytest.approx(1.0, abs=1e-5)
    assert "32 latents" in found.answer()


def test_a_running_model(gpt2, tokenizer, sentences) -> None:
    eye = torch.eye(16)
    sae = SAE(
        torch.cat([eye, -eye], 1), torch.zeros(32), torch.cat([eye, -eye]), torch.zeros(16),
        about={"site": "blocks.1.resid_post"},
    )  # fmt: skip
    gpt2.name_or_path = ""
    from layerscope.hooks.extract import extract

    store = extract(gpt2, sentences, [1, 2], tokenizer=tokenizer, progress=False)
    found = run(sae, store, model=gpt2, tokenizer=tokenizer)
    line = found.line("ce_recovered_zero")
    if np.isfinite(line["value"]):  # a random model may do no worse with zeros
        assert line["value"] == pytest.approx(1.0, abs=1e-3)
    kl = found.line("kl_recovered_zero")
    assert kl["value"] == pytest.approx(1.0, abs=1e-4)
    assert kl["random"] < kl["value"]
    assert kl["n"] == sum(len(tokenizer(one)["input_ids"]) - 1 for one in sentences)
    assert kl["n_groups"] == len(sentences)
    assert np.isnan(found.line("ce_zero")["random"])
    assert found.value("kl") == pytest.approx(0.0, abs=1e-6)
    some = run(sae, store, model=gpt2, tokenizer=tokenizer, tokens=30)
    assert some.line("kl")["n"] < kl["n"]
    assert any("raise tokens to use more" in note for note in some.notes)


def test_absorption_needs_tokens_of_texts(gpt2, tokenizer, sentences) -> None:
    from layerscope.hooks.extract import extract

    store = extract(gpt2, sentences, [1], tokenizer=tokenizer, progress=False)
    sae = SAE(torch.eye(16), torch.zeros(16), torch.eye(16), torch.zeros(16), about={"site": 1})
    sae.about["site"] = "blocks.1.resid_post"
    found = run(sae, store)
    assert found.line("absorption_full")["n"] == found.line("absorption_fraction")["n"]
    assert any("first letters in unseen tokens" in note for note in found.notes)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_named(make_store, bad) -> None:
    truth, sae = planted(rows=300)
    x = truth.x.clone()
    x[217, 3] = bad
    with pytest.raises(ValueError, match="the data: row 217 is NaN or infinite"):
        run(sae, x)
    with pytest.raises(ValueError, match=r"here: row 217 \(text 217, position 0\) is NaN or inf"):
        run(sae, make_store({"here": x}), site="here")


def test_bad_input_is_refused(make_store, gpt2) -> None:
    truth, sae = planted(rows=300)
    store = stored(make_store, truth)
    with pytest.raises(ValueError, match=r"reads rows of width 32, and the data has width 5"):
        run(sae, torch.randn(10, 5))
    with pytest.raises(ValueError, match="which site it reads, and the store has several"):
        run(sae, store)
    with pytest.raises(LookupError, match="site 'nowhere' is not in this store"):
        run(sae, store, site="nowhere")
    with pytest.raises(LookupError, match="site 'nowhere' is not in the data; there are 'here'"):
        run(sae, {"here": truth.x}, site="nowhere")
    with pytest.raises(TypeError, match=r"evaluate takes a store .*got int"):
        run(sae, 3)
    with pytest.raises(ValueError, match="there are no rows to measure on"):
        run(sae, truth.x[:0])
    with pytest.raises(ValueError, match="all 50 rows are the same"):
        run(sae, truth.x[:1].expand(50, 32))
    with pytest.raises(ValueError, match="a model needs texts to run on"):
        run(sae, gpt2, site=1)
    with pytest.raises(ValueError, match="label='kind' needs a store"):
        run(sae, truth.x, label="kind")
    with pytest.raises(LookupError, match="no label 'colour' here"):
        run(sae, store, site="other", label="colour")
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        run(sae, truth.x, rows=0)
    with pytest.raises(ValueError, match=r"features \[300, 32\] must be .* and need reference="):
        run(sae, truth.x, features=truth.amplitudes)
    with pytest.raises(ValueError, match="cannot be compared"):
        run(sae, truth.x, reference=torch.eye(5))


def test_a_label_that_is_not_there_is_said_before_the_work(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def never(*args: object) -> None:
        raise AssertionError("rows were read")

    monkeypatch.setattr(sys.modules[evaluate.__module__], "moments_of", never)
    sae = SAE(torch.eye(4), torch.zeros(4), torch.eye(4), torch.zeros(4))
    with pytest.raises(ValueError, match="label='kind' needs a store"):
        run(sae, torch.randn(20, 4), label="kind")


def test_codes_that_are_not_sparse_are_said_to_be_so() -> None:
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    sae = SAE(torch.randn(4, 60), torch.ones(60), torch.randn(60, 4), torch.zeros(4))
    notes = run(sae, x).notes
    assert any("the codes are not sparse" in note for note in notes)


def test_few_texts_make_intervals_too_narrow(make_store) -> None:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    sae = SAE(torch.eye(4), torch.zeros(4), torch.eye(4), torch.zeros(4))
    for texts, narrow in ((10, True), (30, False)):
        store = make_store({"here": x}, group=(torch.arange(60) % texts).tolist())
        said = "intervals rest on 10 texts only, and are likely too narrow"
        assert (said in run(sae, store, site="here").notes) is narrow


def test_a_reconstruction_that_is_farther_than_the_mean_is_said_to_be_so() -> None:
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) + 3
    good, off = (
        SAE(torch.eye(4), torch.zeros(4), torch.eye(4), torch.full((4,), b)) for b in (0.0, 9.0)
    )
    assert not any("below 0" in note for note in run(good, x).notes)
    assert any("explained variance is below 0" in note for note in run(off, x).notes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu() -> None:
    truth, sae = planted()
    here = run(sae, truth.x, reference=truth.directions, features=truth.amplitudes)
    there = run(
        sae.cuda(), truth.x.cuda(), reference=truth.directions.cuda(),
        features=truth.amplitudes.cuda(),
    )  # fmt: skip
    for key in ("explained_variance", "l0", "mcc", "recall", "density_median"):
        assert there.value(key) == pytest.approx(here.value(key), rel=1e-3)
