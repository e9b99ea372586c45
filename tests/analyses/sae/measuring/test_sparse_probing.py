"""Probes on few latents: where the answer is known, and against a plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.measuring import coded_rows, measured_rows
from layerscope.analyses.sae.measuring.sparse_probing import full_probe, sparse_probing
from layerscope.analyses.sae.sae import SAE
from layerscope.probes.reading.rows import plan

CPU = torch.device("cpu")


@pytest.fixture
def material(make_store):
    """Three classes on three of twelve orthogonal features, in a rotated space of 12 dimensions."""
    drawn = torch.Generator().manual_seed(0)
    label = torch.randint(3, (1500,), generator=drawn)
    features = torch.rand(1500, 12, generator=drawn) * (torch.rand(1500, 12, generator=drawn) < 0.3)
    features[:, :3] = torch.nn.functional.one_hot(label, 3) * (
        0.5 + torch.rand(1500, 1, generator=drawn)
    )
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=drawn))[0]
    store = make_store(
        {"here": features @ rotation},
        kind=[("red", "green", "blue")[i] for i in label.tolist()],
        group=(torch.arange(1500) // 5).tolist(),
    )
    sae = SAE(rotation.T, torch.zeros(12), rotation, torch.zeros(12))
    rows = measured_rows.measured_rows(
        sae, store, site="here", target=None, corpus=None, rows=10**6, seed=0, progress=False
    )
    return store, rows, sae


def test_planted_latents_say_it_all_and_single_dimensions_do_not(material) -> None:
    store, rows, sae = material
    chosen = plan(store, "kind", task="class", folds=5)
    coders = {"sae": (sae.encode, 12), "residual": (lambda x: x, 12)}
    found = sparse_probing(rows, chosen, coders, CPU)
    assert found["sae", 1].value == 1.0
    assert (found["sae", 1].low, found["sae", 1].high) == (1.0, 1.0)
    assert found["sae", 1].null_mean == pytest.approx(0.5, abs=0.05)
    assert found["residual", 1].value < 0.95
    assert found["residual", 1].low < found["residual", 1].value < found["residual", 1].high
    assert found["residual", 5].value > found["residual", 1].value
    assert np.isnan(found["residual", 1].null_mean)
    full = full_probe(rows, chosen, lambda x: x, 12, CPU)
    assert full.value >= found["residual", 5].value > 0.95
    assert full.n == chosen.bounds[1]


def test_the_score_against_scikit_learn(material) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    store, rows, sae = material
    chosen = plan(store, "kind", task="class", folds=5)
    codes = sae.encode(store["here"][chosen.index]).numpy().astype(float)
    test = np.arange(len(codes)) < chosen.bounds[1]
    scores = []
    for one in np.unique(chosen.values):
        inside = chosen.values == one
        gap = codes[~test & inside].mean(0) - codes[~test & ~inside].mean(0)
        best = np.argsort(-np.abs(gap))[:2]
        x = codes[:, best] / codes[~test][:, best].std(0)
        fit = LogisticRegression(class_weight="balanced").fit(x[~test], inside[~test])
        scores.append(balanced_accuracy_score(inside[test], fit.predict(x[test])))
    found = sparse_probing(rows, chosen, {"sae": (sae.encode, 12)}, CPU, ks=(2,))
    assert found["sae", 2].value == pytest.approx(np.mean(scores), abs=1e-9)


def test_the_size_of_blocks_changes_nothing(material, monkeypatch) -> None:
    store, rows, sae = material
    chosen = plan(store, "kind", task="class", folds=5)
    coders = {"sae": (sae.encode, 12)}
    whole = sparse_probing(rows, chosen, coders, CPU, ks=(1,))
    monkeypatch.setattr(measured_rows, "CODES", 12 * 64)
    sizes = [len(codes) for _, codes in coded_rows.coded(rows, sae.encode, 12, CPU)]
    assert max(sizes) == 64
    assert sparse_probing(rows, chosen, coders, CPU, ks=(1,)) == whole


def test_gaps_are_means_inside_minus_means_outside(material) -> None:
    store, rows, sae = material
    members = np.stack([np.arange(1500) % 3 == 0, np.arange(1500) < 400])
    found = coded_rows.class_gaps(rows, sae.encode, 12, CPU, members)
    codes = sae.encode(store["here"][:]).double().numpy()
    wanted = [codes[one].mean(0) - codes[~one].mean(0) for one in members]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
