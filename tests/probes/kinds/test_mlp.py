"""The hidden layer: what a line cannot read, training side by side, stopping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from layerscope.probes.fitting import fit
from layerscope.probes.kinds import MLP
from layerscope.probes.kinds.kind import Work
from layerscope.probes.kinds.mlp import Net, train
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Engine


@pytest.fixture
def xor() -> tuple[Tensor, Tensor]:
    """The class is whether two features have the same sign."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 6, generator=generator)
    return x * 10 + 3, (x[:, 0] * x[:, 4] > 0).long()


def work_of(x: Tensor, y: Tensor, classes: int = 2) -> Work:
    rows = len(x)
    bounds = [rows * fold // 5 for fold in range(6)]
    targets = y if y.ndim == 2 else y[None]
    return Work(Design.of(x, bounds), targets, classes, Engine("torch", "cpu"), np.arange(rows))


def test_what_no_line_can_read(xor, scored) -> None:
    x, y = xor
    line = scored(MLP(hidden=32), x, y)
    assert line["value"] > 0.95
    assert scored("linear", x, y)["value"] < 0.55
    assert line["epochs"] > 5


def test_side_by_side_is_one_at_a_time(xor) -> None:
    """Ten networks in one model end where each ends alone."""
    x, y = xor
    both = torch.stack([y, 1 - y.flip(0)])
    work = work_of(x[:500], both[:, :500])
    kind = MLP(hidden=8, epochs=4, batch=64)
    nets = [Net(target, (fold,), None) for target in (0, 1) for fold in range(5)]
    together = train(kind, work, nets)
    for number in (0, 7):
        alone = train(kind, work, [nets[number]])
        for a, b in zip(together.parts, alone.parts, strict=True):
            torch.testing.assert_close(a[number], b[0], atol=1e-5, rtol=1e-4)


def test_it_stops_before_it_learns_noise_by_heart(scored) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 20, generator=generator)
    y = torch.arange(400)[torch.randperm(400, generator=generator)] % 2
    line = scored(MLP(hidden=64), x, y)
    assert line["epochs"] < 60
    assert line["unfinished"] == 0
    assert line["ci_low"] < 0.5 < line["ci_high"]


def test_the_best_epoch_is_kept() -> None:
    """Loss on the fold that stops, with the weights that were kept, is the least of all epochs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 10, generator=generator)
    y = (x[:, 0] + torch.randn(300, generator=generator) > 0).long()
    work = work_of(x, y)
    losses = []
    for epochs in range(1, 9):
        at = train(MLP(hidden=64, epochs=epochs, batch=16, lr=0.01), work, [Net(0, (0,), None)])
        scores = at.scores(0, work.design.fold(0))
        losses.append(torch.nn.functional.cross_entropy(scores, y[:60]).item())
    stopped = train(
        MLP(hidden=64, epochs=8, patience=8, batch=16, lr=0.01), work, [Net(0, (0,), 0)]
    )
    assert stopped.epochs[0] == int(np.argmin(losses)) + 1 < 8
    kept = torch.nn.functional.cross_entropy(stopped.scores(0, work.design.fold(0)), y[:60])
    assert kept.item() == pytest.approx(min(losses), rel=1e-5)


def test_about_as_good_as_scikit_learns(xor, scored) -> None:
    x, y = xor
    noisy = torch.where(torch.arange(3000) % 10 == 0, 1 - y, y)
    line = scored(MLP(hidden=32), x, noisy)
    z = ((x - x.mean(0)) / x.std(0)).numpy()
    model = MLPClassifier(
        32, early_stopping=True, random_state=0, max_iter=100, learning_rate_init=2e-3
    )
    hits = []
    for fold in range(5):
        held = np.arange(3000) // 600 == fold
        hits.append(model.fit(z[~held], noisy[~held]).score(z[held], noisy[held]))
    assert line["value"] > np.mean(hits) - 0.02
    assert 0.83 < line["value"] < 0.9


def test_numbers(scored) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 4, generator=generator)
    y = (1000 + 50 * (x[:, 1].abs() + 0.1 * torch.randn(2000, generator=generator))).double()
    assert scored(MLP(hidden=32), x, y, classes=0)["value"] > 0.9
    assert scored("linear", x, y, classes=0)["value"] < 0.1
    readout = fit(x, y, kind=MLP(hidden=32))
    assert (readout.predict(x) - y).abs().mean() < 10


def test_readout_and_seed(xor) -> None:
    x, y = xor
    before = torch.random.get_rng_state()
    kind = MLP(hidden=32, epochs=30)
    readouts = [fit(x, y, kind=kind, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(readouts[0](x), readouts[1](x))
    assert not torch.equal(readouts[0](x), readouts[2](x))
    assert np.mean(np.array(readouts[0].predict(x)) == y.numpy()) > 0.95


def test_gradients_may_be_off_around_it(xor, scored) -> None:
    x, y = xor
    kind = MLP(hidden=4, epochs=2)
    with torch.inference_mode():
        inside = scored(kind, x, y)
    assert inside == pytest.approx(scored(kind, x, y), nan_ok=True)


def test_options_that_are_none() -> None:
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
        MLP(hidden=0)
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        MLP(patience=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_as_on_the_processor(xor) -> None:
    x, y = xor
    here = work_of(x, y)
    there = Work(
        Design.of(x, here.design.bounds, device="cuda"),
        y[None].cuda(),
        2,
        Engine("torch", "cuda"),
        here.groups,
    )
    nets = [Net(0, (fold,), fold) for fold in range(5)]
    kind = MLP(hidden=16, epochs=3)
    a, b = (train(kind, work, nets).scores(0, slice(0, 50)).cpu() for work in (here, there))
    torch.testing.assert_close(a, b, atol=1e-2, rtol=1e-2)
