"""BatchTopK: how many are selected, what the threshold becomes, and what is exported."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.sae.architectures.batchtopk import SMOOTHING, BatchTopK, follow
from layerscope.analyses.sae.architectures.dense import preactivations


def rows(count: int = 50, d: int = 6) -> torch.Tensor:
    return 2 * torch.randn(1, count, d, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sparse", [True, False])
def test_k_codes_per_row_on_average_and_exactly(
    sparse: bool, make_weights: Any, make_moment: Any
) -> None:
    weights = make_weights()
    loss = BatchTopK(k=(1, 3, 7), sparse=sparse).loss(weights, rows(), rows(), make_moment(3, 24))
    assert loss.l0.tolist() == [1, 3, 7]


def test_k_is_a_mean_and_may_be_broken(make_weights: Any, make_moment: Any) -> None:
    architecture = BatchTopK(k=(1.22, 3.5))  # type: ignore[arg-type]
    loss = architecture.loss(make_weights(group=2), rows(), rows(), make_moment(2, 24))
    assert loss.l0.tolist() == pytest.approx([61 / 50, 3.5])


def test_fewer_where_fewer_are_positive(make_weights: Any, make_moment: Any) -> None:
    weights = make_weights(group=1)
    with torch.no_grad():
        weights.b_enc.fill_(-4)
    positive = int((preactivations(weights, rows(), True) > 0).sum())
    loss = BatchTopK(k=(20,)).loss(weights, rows(), rows(), make_moment(1, 24))
    assert loss.l0.item() == pytest.approx(positive / 50)
    assert 0 < positive < 20 * 50


def test_with_no_positive_code_nothing_moves(make_weights: Any, make_moment: Any) -> None:
    weights = make_weights(group=1)
    with torch.no_grad():
        weights.b_enc.fill_(-1e3)
    moment = make_moment(1, 24)
    moment.threshold.fill_(0.7)
    loss = BatchTopK(k=(3,)).loss(weights, rows(), rows(), moment)
    loss.total.sum().backward()
    assert loss.l0.item() == 0
    assert moment.threshold.item() == 0.7
    assert weights.encoder.grad.abs().max() == 0
    assert weights.decoder.grad.abs().max() == 0


def test_the_threshold_after_equal_batches_has_a_closed_form(
    make_weights: Any, make_moment: Any
) -> None:
    weights, moment = make_weights(group=2), make_moment(2, 24)
    architecture = BatchTopK(k=(2, 5))
    for _ in range(30):
        architecture.loss(weights, rows(), rows(), moment)
    pre = preactivations(weights, rows(), True).detach().double()
    smallest = [
        pre[g].flatten().sort(descending=True).values[k * 50 - 1] for g, k in ((0, 2), (1, 5))
    ]
    wanted = torch.stack(smallest) * (1 - (1 - SMOOTHING) ** 30)
    torch.testing.assert_close(moment.threshold, wanted, rtol=1e-12, atol=0)


def test_the_threshold_is_smoothed_in_float64() -> None:
    threshold = torch.tensor([1.0], dtype=torch.float64)
    follow(threshold, torch.tensor([[[1 + 2**-20, 5.0, 0.0]]]))
    assert threshold.item() == pytest.approx(1 + SMOOTHING * 2**-20, abs=1e-15)
    assert threshold.item() != 1


def test_the_exported_sae_selects_what_training_selected(
    make_weights: Any, make_moment: Any
) -> None:
    weights, moment = make_weights(group=2), make_moment(2, 24)
    architecture = BatchTopK(k=(2, 5))
    x = rows()
    pre = preactivations(weights, x, True).detach()
    for member, k in ((0, 2), (1, 5)):
        border = pre[member].flatten().sort(descending=True).values[k * 50 - 1]
        # The smallest selected code is the threshold itself, and JumpReLU keeps what lies above.
        moment.threshold[member], moment.steps = border.double(), 10_000
        sae = architecture.export(weights, member, moment)
        assert sae.activation == "jumprelu"
        assert sae.threshold is not None
        assert sae.threshold.unique().numel() == 1
        assert torch.equal(sae.threshold[0].nextafter(torch.tensor(torch.inf)), border)
        # The same pre-activations: those of the export round differently.
        assert int((pre[member] > sae.threshold).sum()) == 50 * k
        close = (sae.encode(x[0]) > 0) != (pre[member] >= border)
        assert int(close.sum()) <= 1


def test_a_short_training_exports_the_threshold_it_had(make_weights: Any, make_moment: Any) -> None:
    weights, moment = make_weights(group=1), make_moment(1, 24)
    for _ in range(20):
        follow(moment.threshold, torch.tensor([[[3.0, 2.0], [5.0, 0.0]]]))
    moment.steps = 20
    assert float(moment.threshold[0]) < 0.4  # still close to where the average began
    sae = BatchTopK(k=(2,)).export(weights, 0, moment)
    assert sae.threshold is not None
    assert float(sae.threshold[0]) == pytest.approx(2.0, rel=1e-6)


def test_before_any_batch_the_exported_threshold_is_zero(
    make_weights: Any, make_moment: Any
) -> None:
    sae = BatchTopK(k=(2,)).export(make_weights(group=1), 0, make_moment(1, 24))
    assert sae.threshold is not None
    assert sae.threshold.unique().tolist() == [0]


def test_a_row_that_takes_nearly_all_switches_to_dense_products(
    make_weights: Any, make_moment: Any
) -> None:
    weights = make_weights(group=1)
    x = rows()
    x[0, 0] *= 1e3
    architecture = BatchTopK(k=(1,))
    pre, codes = architecture.selected(weights, x, make_moment(1, weights.encoder.shape[1]))
    assert codes.places.indices.shape[-1] > 8
    assert pre.requires_grad
    wide = make_weights(group=1, latents=200)
    pre, codes = architecture.selected(wide, rows(), make_moment(1, 200))
    assert codes.places.indices.shape[-1] < 25
    assert not pre.requires_grad


def test_latents_in_another_order_are_the_same_sae(make_weights: Any, make_moment: Any) -> None:
    weights, other = make_weights(group=1), make_weights(group=1)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name in ("encoder", "b_enc", "decoder"):
            getattr(other, name).copy_(getattr(weights, name)[:, order])
    dead = torch.zeros(1, 24, dtype=torch.bool)
    dead[0, [1, 5, 6]] = True
    first = BatchTopK(k=(3,)).loss(weights, rows(), rows(), make_moment(dead))
    second = BatchTopK(k=(3,)).loss(other, rows(), rows(), make_moment(dead[:, order]))
    assert first.total.item() == pytest.approx(second.total.item(), rel=1e-5)
    assert torch.equal(first.active[:, order], second.active)
