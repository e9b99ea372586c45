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
from layerscope.probes.kinds.mlp import Net, _Orders, train
from layerscope.probes.scoring.evaluate import Measurement
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


def test_parts_of_an_epoch_are_near_equal(xor) -> None:
    """Adam takes a full step for a last batch of one row."""
    x, y = xor
    work = work_of(x[:321], y[:321])
    for without, size in (((0,), 256), ((0,), 64), ((), 320), ((), 1000)):
        orders = _Orders(work, [Net(0, without, None)])
        batches = orders.batches(size)
        lengths = [batch.shape[1] for batch in batches]
        assert len(lengths) == -(-sum(lengths) // size) == orders.steps(size)
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1
        seen = torch.cat(batches, 1)[0].sort().values
        start = 0 if not without else 64
        assert seen.tolist() == list(range(start, 321))


def test_one_row_more_than_a_batch_costs_nothing() -> None:
    """Accuracy on fresh rows after training on 256 and on 257 rows, over four draws."""
    hits: dict[int, list[float]] = {256: [], 257: []}
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(2257, 40, generator=generator)
        y = ((x[:, :5].sum(1) + torch.randn(2257, generator=generator)) > 0).long()
        for rows, found in hits.items():
            design = Design.of(x[: rows + 2000], (0, rows, rows + 2000))
            work = Work(design, y[None, : rows + 2000], 2, Engine("torch", "cpu"), np.arange(1))
            at = train(MLP(epochs=12), work, [Net(0, (1,), None)])
            said = at.scores(0, design.fold(1)).argmax(1)
            found.append((said == y[rows : rows + 2000]).float().mean().item())
    assert np.mean(hits[257]) > np.mean(hits[256]) - 0.01


def test_the_final_network_takes_as_many_steps_as_those_that_were_stopped(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=generator)
    y = (x[:, 0] > 0).long()
    steps = []
    once = torch.optim.AdamW.step

    def step(self, *args, **more):  # type: ignore[no-untyped-def]
        steps[-1] += 1
        return once(self, *args, **more)

    def trained(kind, work, nets, **more):  # type: ignore[no-untyped-def]
        steps.append(0)
        found.append(train(kind, work, nets, **more))
        return found[-1]

    found: list = []  # type: ignore[type-arg]
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    monkeypatch.setattr("layerscope.probes.kinds.mlp.train", trained)
    # Folds of 60: 240 rows are one batch, 300 are two.
    MLP(hidden=4, epochs=7, batch=250).fit(work_of(x, y), (0, 1))
    assert len(found[1].epochs) == 1
    assert steps[1] == np.median(found[0].epochs)


def test_who_is_beside_a_network_does_not_keep_it_going(xor) -> None:
    """One that has run out of patience keeps its epoch, whatever the others still learn."""
    x, y = xor
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(2, (500,), generator=generator)
    work = work_of(x[:500], torch.stack([noise, y[:500]]))
    kind = MLP(hidden=16, epochs=60, patience=1, batch=32, lr=1e-2)
    first = [Net(0, (fold, (fold + 1) % 5), (fold + 1) % 5) for fold in range(5)]
    second = [Net(1, (fold, (fold + 1) % 5), (fold + 1) % 5) for fold in range(5)]
    alone, together = (train(kind, work, nets) for nets in (first, first + second))
    assert together.epochs[:5] == alone.epochs
    assert max(together.epochs[5:]) > max(alone.epochs)  # the others did go on
    for number in range(5):
        assert alone.epochs[number] == train(kind, work, [first[number]]).epochs[0]


def test_the_value_is_the_same_with_and_without_the_control(xor, planned) -> None:
    x, y = (part[:500] for part in xor)
    wrong = torch.rand(500, generator=torch.Generator().manual_seed(1)) < 0.2
    # Four types that features tell apart: the control goes on long after the label is done.
    both = 2 * (x[:, 1] > 3) + (x[:, 2] > 3).long()
    kind = MLP(hidden=16, patience=1, batch=32, lr=1e-2)
    lines = [
        Measurement(planned((y ^ wrong).numpy(), types=types), kind, solver="torch").score("x", x)
        for types in (None, both.numpy())
    ]
    assert "control" in lines[1]
    assert lines[0]["value"] == lines[1]["value"]
    assert lines[0]["epochs"] == lines[1]["epochs"]
