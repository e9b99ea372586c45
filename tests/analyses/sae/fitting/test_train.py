"""`train` from every kind of data, and what it leaves with the SAE."""

import pytest
import torch

import layerscope as ls
from layerscope.analyses import sae
from layerscope.analyses.sae.fitting import loop
from layerscope.demo import load_model, load_tokenizer

OPTIONS = {"width": 32, "k": 4, "batch": 64, "tokens": 640, "progress": False}


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return torch.randn(600, 8, generator=torch.Generator().manual_seed(0))


def test_a_transcoder_learns_a_linear_map(rows) -> None:
    target = rows @ torch.randn(8, 5, generator=torch.Generator().manual_seed(1)) + 3
    sites = {"in": rows, "out": target}
    made = sae.train(sites, "in", target="out", **(OPTIONS | {"tokens": 60_000, "lr": 3e-3}))
    assert (made.site, made.target, made.d_in, made.d_out) == ("in", "out", 8, 5)
    assert not made.subtract_b_dec
    left = (target - made(rows)).square().sum() / (target - target.mean(0)).square().sum()
    assert float(left) < 0.15
    assert made.history.table["explained_variance"].iloc[-1] > 0.8


def test_a_crosscoder_reads_and_writes_several_sites(rows) -> None:
    sites = {"a": rows, "b": 100 * rows[:, :5] + 7}
    options = OPTIONS | {"k": None, "l1": 0.05, "tokens": 40_000}
    made = sae.train(sites, ["a", "b"], architecture="crosscoder", **options)
    assert made.parts == (8, 5)
    assert made.site == "a,b"
    joined = torch.cat([rows, sites["b"]], dim=1)
    for part, columns in (("a", slice(0, 8)), ("b", slice(8, 13))):
        truth, rebuilt = joined[:, columns], made(joined)[:, columns]
        left = (truth - rebuilt).square().sum() / (truth - truth.mean(0)).square().sum()
        assert float(left) < 0.5, part


def test_several_sites_for_one_sae_need_a_crosscoder(rows) -> None:
    with pytest.raises(ValueError, match="pass architecture='crosscoder' for one dictionary"):
        sae.train({"a": rows, "b": rows}, ["a", "b"], **OPTIONS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": (2, 4)}, r"train makes one SAE, and these options are for 2 \(k=2; k=4\)"),
        ({"seed": (0, 1)}, r"for 2 \(seed=0; seed=1\); call train_together"),
    ],
)
def test_options_for_several_are_refused_before_the_work(rows, options, said, monkeypatch) -> None:
    monkeypatch.setattr(loop.Training, "run", None)
    with pytest.raises(ValueError, match=said):
        sae.train(rows, **(OPTIONS | options))
    with pytest.raises(ValueError, match=r"topk at several sites \(a, b\): pass architecture="):
        sae.train({"a": rows, "b": rows}, **OPTIONS)


def test_a_crosscoder_takes_all_sites_that_are_meant(rows) -> None:
    sites = {"a": rows, "b": rows[:, :5]}
    options = OPTIONS | {"k": None, "architecture": "crosscoder"}
    assert sae.train(sites, **options).parts == (8, 5)
    weak, strong = sae.train_together(sites, l1=(0.01, 10.0), **options)
    assert weak.parts == strong.parts == (8, 5)
    alone = sae.train(sites, ["a", "b"], l1=10.0, **options)
    torch.testing.assert_close(strong.W_dec, alone.W_dec, rtol=0, atol=1e-5)
    assert float((weak.W_dec - alone.W_dec).abs().max()) > 1e-3


def test_transcoders_train_together(rows) -> None:
    sites = {"in": rows, "out": rows[:, :5] @ torch.ones(5, 5) + rows[:, 3:]}
    options = OPTIONS | {"k": (2, 4)}
    together = sae.train_together(sites, "in", target="out", **options)
    assert [(one.site, one.target, one.k) for one in together] == [
        ("in", "out", 2),
        ("in", "out", 4),
    ]
    for one in together:
        alone = sae.train(sites, "in", target="out", **(OPTIONS | {"k": one.k}))
        torch.testing.assert_close(one.W_dec, alone.W_dec, rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [5, 8])
def test_an_architecture_as_an_object_makes_a_transcoder_too(rows, width) -> None:
    sites = {"in": rows, "out": (rows**2)[:, :width]}
    options = OPTIONS | {"target": "out"}
    named = sae.train(sites, "in", **options)
    given = sae.train(sites, "in", architecture=sae.TopK(k=(4,)), **(options | {"k": None}))
    assert given.about["architecture"] == "transcoder"
    assert torch.equal(named.W_enc, given.W_enc)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"architecture": "transcoder"}, "reconstructs another site than it reads: pass target="),
        ({"architecture": "crosscoder", "target": "b"}, "leave out target="),
        ({"architecture": "afa", "target": "b"}, "afa compares the norms .* leave out target="),
        ({"architecture": "afa", "scaling": "whiten"}, "take scaling='scale' or 'none'"),
    ],
)
def test_what_could_not_be_exported_is_refused_before_the_work(rows, options, said) -> None:
    with pytest.raises(ValueError, match=said):
        sae.train({"a": rows, "b": rows}, "a", **(OPTIONS | {"k": None} | options))


def test_a_batch_of_one_row_has_no_error_to_share(rows) -> None:
    made = sae.train(rows, **(OPTIONS | {"batch": 1, "k": 1, "dead_after": 20}))
    assert made.history.table["dead_share"].iloc[-1] > 0.2
    assert bool(torch.isfinite(made.W_dec).all())


def test_weights_are_in_raw_units(rows) -> None:
    shifted = 50 * rows + 1000
    made = sae.train(shifted, **(OPTIONS | {"tokens": 30_000, "lr": 3e-3}))
    plain = sae.train(rows, **(OPTIONS | {"tokens": 30_000, "lr": 3e-3}))
    # The same training in other units: the same latents, codes times the factor.
    torch.testing.assert_close(made.encode(shifted), 50 * plain.encode(rows), rtol=1e-2, atol=0.5)
    torch.testing.assert_close(made.W_dec.norm(dim=1), torch.ones(32))
    assert made.history.table["explained_variance"].iloc[-1] == pytest.approx(
        plain.history.table["explained_variance"].iloc[-1], abs=0.01
    )


@pytest.mark.parametrize("scaling", ["none", "scale", "per_dimension", "whiten"])
def test_every_scaling_reconstructs_raw_rows(rows, scaling) -> None:
    stretched = rows * torch.logspace(-1, 1, 8) + 5
    made = sae.train(
        stretched, scaling=scaling, **(OPTIONS | {"k": 8, "tokens": 60_000, "lr": 3e-3})
    )
    left = (stretched - made(stretched)).square().sum()
    assert float(left / (stretched - stretched.mean(0)).square().sum()) < 0.2


def test_a_store_and_a_running_model_are_taken(tmp_path) -> None:
    model, tokenizer = load_model(), load_tokenizer()
    texts = ["the old king saw a red bird and the bird saw him"] * 8
    store = ls.extract(model, texts, [1, 2], tokenizer=tokenizer, to=tmp_path / "s", progress=False)
    options = OPTIONS | {"batch": 16, "tokens": 160}
    stored = sae.train(store, 1, **options)
    assert stored.site == "blocks.1.resid_post"
    assert stored.about["store_key"] == store.key
    assert stored.history.provenance.store_key == store.key
    assert stored.statistics.site == "blocks.1.resid_post"
    live = sae.train(model, 1, corpus=texts, tokenizer=tokenizer, **options)
    assert live.site == "blocks.1.resid_post"
    assert live.d_in == stored.d_in
    both = sae.train_together(store, "all", **options)
    assert [one.site for one in both] == ["blocks.1.resid_post", "blocks.2.resid_post"]


def test_the_history_is_a_finding(rows, tmp_path) -> None:
    made = sae.train(rows, **(OPTIONS | {"tokens": 6400}))
    table = made.history.table
    assert list(table["step"]) == list(range(1, 101))
    assert table["tokens"].iloc[-1] == 6400
    assert "explained variance" in made.history.answer()
    assert len(made.history.figure().data) == 3
    made.history.save(tmp_path / "h")
    assert ls.Finding.load(tmp_path / "h").table.equals(table)


def test_rows_that_are_not_numbers_are_named(rows) -> None:
    broken = rows.clone()
    broken[17, 3] = torch.nan
    with pytest.raises(ValueError, match="rows is NaN at row 17"):
        sae.train(broken, **OPTIONS)


def test_a_loss_that_explodes_says_what_to_do(rows) -> None:
    with pytest.raises(FloatingPointError, match=r"lower lr \(1e\+30 now\)"):
        sae.train(rows, architecture="relu_april", **(OPTIONS | {"k": None, "lr": 1e30}))


def test_constant_rows_have_nothing_to_teach() -> None:
    with pytest.raises(ValueError, match="rows is constant"):
        sae.train(torch.ones(600, 8), **OPTIONS)


def test_dead_dimensions_do_no_harm(rows) -> None:
    padded = torch.cat([rows, torch.zeros(600, 3)], dim=1)
    made = sae.train(padded, **OPTIONS)
    assert bool(torch.isfinite(made(padded)).all())


def test_nothing_moves_the_global_generator(rows) -> None:
    before = torch.get_rng_state()
    sae.train(rows, **OPTIONS)
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_is_said_and_missed(rows, monkeypatch, capsys) -> None:
    from layerscope.analyses.sae.fitting import memory

    sae.train(rows, **(OPTIONS | {"progress": True}))
    assert "memory: " in capsys.readouterr().err
    monkeypatch.setattr(memory, "free", lambda device: 1000)
    with pytest.warns(UserWarning, match="a smaller batch .64 now. or width .32. needs less"):
        sae.train(rows, **OPTIONS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_trains_the_same(rows) -> None:
    options = OPTIONS | {"tokens": 6400}
    here = sae.train(rows, device="cpu", **options)
    there = sae.train(rows, device="cuda", precision="float32", **options)
    torch.testing.assert_close(there.W_dec.cpu(), here.W_dec, rtol=1e-3, atol=1e-3)
    half = sae.train(rows, device="cuda", **options)
    assert half.history.table["explained_variance"].iloc[-1] == pytest.approx(
        here.history.table["explained_variance"].iloc[-1], abs=0.02
    )
