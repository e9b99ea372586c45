"""Sparse products against dense autograd that is written down naively, one SAE at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Moment, Weights
from layerscope.analyses.sae.architectures.auxk import auxk
from layerscope.analyses.sae.architectures.dense import preactivations
from layerscope.analyses.sae.architectures.sparse import Codes, Places, codes_at, decoded, pays
from layerscope.analyses.sae.architectures.topk import TopK

D, LATENTS, BATCH = 12, 40, 64
NAMES = ("encoder", "b_enc", "decoder", "b_dec")


def draw(
    group: int, *, d_out: int = D, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Weights:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(group, *shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = Weights(
        normal(LATENTS, D) / D**0.5,
        0.1 * normal(LATENTS),
        normal(LATENTS, d_out) / d_out**0.5,
        0.1 * normal(d_out),
    )
    for tensor in weights.named().values():
        tensor.requires_grad_()
    return weights


def rows(group: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(group, BATCH, D, generator=generator, dtype=torch.float64)
    # Some rows lie where few latents are positive: near b_dec, with a bias against all.
    x[:, :5] *= 1e-3
    return x.float()


def moment(dead: Tensor) -> Moment:
    most = int(dead.sum(-1).max())
    return Moment(dead, most, torch.zeros(len(dead), dtype=torch.float64))


def alive(group: int) -> Moment:
    return moment(torch.zeros(group, LATENTS, dtype=torch.bool))


def naive(
    weights: Weights,
    x: Tensor,
    y: Tensor,
    ks: tuple[int, ...],
    *,
    aux: float = 0.0,
    dead: Tensor | None = None,
    subtract: bool = True,
) -> Tensor:
    """Loss [group] in the precision of the weights: one SAE and one row after the other, all dense."""
    totals = []
    for g, k in enumerate(ks):
        encoder, b_enc, decoder, b_dec = (getattr(weights, name)[g] for name in NAMES)
        errors, pres = [], []
        for n in range(BATCH):
            row = x[g % len(x), n].to(encoder.dtype)
            pre = encoder @ (row - b_dec if subtract else row) + b_enc
            kept = set(sorted(range(LATENTS), key=lambda i: -float(pre[i].detach()))[:k])
            mask = torch.tensor([i in kept and float(pre[i].detach()) > 0 for i in range(LATENTS)])
            f = torch.where(mask, pre, torch.zeros_like(pre))
            errors.append(y[g % len(y), n].to(f.dtype) - f @ decoder - b_dec)
            pres.append(pre)
        error = torch.stack(errors)
        total = error.square().sum(1).mean()
        if aux and dead is not None and dead[g].any():
            total = total + aux * naive_auxk(torch.stack(pres), error, decoder, dead[g])
        totals.append(total)
    return torch.stack(totals)


def naive_auxk(pre: Tensor, error: Tensor, decoder: Tensor, dead: Tensor) -> Tensor:
    half = error.shape[1] // 2
    who = [i for i in range(LATENTS) if dead[i]]
    target = error.detach()
    left = torch.zeros((), dtype=pre.dtype)
    for n in range(BATCH):
        best = sorted(who, key=lambda i: -float(pre[n, i].detach()))[:half]
        guess = sum(pre[n, i].relu() * decoder[i] for i in best)
        left = left + (target[n] - guess).square().sum()
    spread = (target - target.mean(0)).square().sum(1).mean()
    return min(len(who) / half, 1.0) * (left / BATCH) / spread


def gradients(total: Tensor, weights: Weights) -> dict[str, Tensor]:
    tensors = weights.named()
    found = torch.autograd.grad(total.sum(), list(tensors.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if grad is None else grad
        for (name, tensor), grad in zip(tensors.items(), found, strict=True)
    }


def compare(ours: dict[str, Tensor], theirs: dict[str, Tensor], most: float = 1e-5) -> None:
    for name in NAMES:
        difference = (ours[name].double() - theirs[name].double()).norm()
        size = theirs[name].double().norm()
        assert float(difference) <= most * float(size), name


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("subtract", [True, False])
def test_loss_and_gradients_equal_the_naive_ones(
    sparse: bool, shared: bool, subtract: bool
) -> None:
    ks = (2, 5, 9)
    weights, exact = draw(3), draw(3, dtype=torch.float64)
    with torch.no_grad():
        weights.b_enc -= 0.3
        exact.b_enc.copy_(weights.b_enc)
        for name in ("encoder", "decoder", "b_dec"):
            getattr(exact, name).copy_(getattr(weights, name))
    x = rows(1 if shared else 3)
    loss = TopK(k=ks, aux=0.0, sparse=sparse, subtract_b_dec=subtract).loss(weights, x, x, alive(3))
    reference = naive(exact, x, x, ks, subtract=subtract)
    torch.testing.assert_close(loss.total.double(), reference, rtol=1e-6, atol=0)
    compare(gradients(loss.total, weights), gradients(reference, exact))
    # The draw holds what is easy to get wrong: rows with fewer than k, latents of no row.
    positive = (preactivations(weights, x, subtract) > 0).sum(-1)
    assert bool((positive < 9).any())
    assert not bool(loss.active.all())
    assert bool((loss.l0 < torch.tensor(ks)).any())


def test_a_transcoder_of_another_width_equals_the_naive_one() -> None:
    weights, exact = draw(2, d_out=7), draw(2, d_out=7, dtype=torch.float64)
    for name in NAMES:
        getattr(exact, name).data.copy_(getattr(weights, name))
    x = rows(2)
    y = x[..., :7].roll(1, -1)
    loss = TopK(k=(3, 3), aux=0.0, sparse=True, subtract_b_dec=False).loss(weights, x, y, alive(2))
    reference = naive(exact, x, y, (3, 3), subtract=False)
    torch.testing.assert_close(loss.total.double(), reference, rtol=1e-6, atol=0)
    compare(gradients(loss.total, weights), gradients(reference, exact))


@pytest.mark.parametrize("sparse", [True, False])
def test_auxk_equals_the_naive_one_and_trains_the_encoder(sparse: bool) -> None:
    ks = (2, 4, 4)
    weights, exact = draw(3), draw(3, dtype=torch.float64)
    for name in NAMES:
        getattr(exact, name).data.copy_(getattr(weights, name))
    dead = torch.zeros(3, LATENTS, dtype=torch.bool)
    dead[0, [1, 7, 30]] = True  # fewer than d / 2
    dead[1, ::2] = True  # more than d / 2
    x = rows(1)
    topk = TopK(k=ks, aux=0.25, sparse=sparse)
    loss = topk.loss(weights, x, x, moment(dead))
    reference = naive(exact, x, x, ks, aux=0.25, dead=dead)
    torch.testing.assert_close(loss.total.double(), reference, rtol=1e-6, atol=0)
    compare(gradients(loss.total, weights), gradients(reference, exact))

    pre = preactivations(weights, x, True)
    error = x - 0.5
    alone = auxk(weights, x, pre.detach(), error, moment(dead), 0.25, True)
    reached = gradients(alone, weights)
    assert alone[2] == 0
    for g in (0, 1):
        assert float(reached["encoder"][g][dead[g]].norm()) > 1e-3
        assert float(reached["encoder"][g][~dead[g]].norm()) == 0
        assert float(reached["b_enc"][g][~dead[g]].norm()) == 0
        assert float(reached["decoder"][g][~dead[g]].norm()) == 0
    assert float(reached["encoder"][2].norm()) == 0


def test_the_error_is_only_a_target_of_auxk() -> None:
    weights = draw(1)
    dead = torch.ones(1, LATENTS, dtype=torch.bool)
    x = rows(1)
    error = (x - 0.5).requires_grad_()
    pre = preactivations(weights, x, True).detach()
    total = auxk(weights, x, pre, error, moment(dead), 1.0, True).sum()
    (gradient,) = torch.autograd.grad(total, error, allow_unused=True)
    assert gradient is None


@pytest.mark.parametrize("sparse", [True, False])
def test_nothing_leaks_through_the_zeros_of_the_relu(sparse: bool) -> None:
    weights = draw(2)
    with torch.no_grad():
        weights.b_enc -= 100
    x = rows(1)
    dead = torch.ones(2, LATENTS, dtype=torch.bool)
    loss = TopK(k=(2, 5), aux=1.0, sparse=sparse).loss(weights, x, x, moment(dead))
    found = gradients(loss.total, weights)
    for name in ("encoder", "b_enc", "decoder"):
        assert float(found[name].abs().max()) == 0, name
    # b_dec still moves towards the mean, as the reconstruction; nothing comes through the encoder.
    torch.testing.assert_close(found["b_dec"], -2 * (x - weights.b_dec[:, None]).mean(1))
    assert loss.l0.tolist() == [0, 0]
    assert not loss.active.any()
    of_codes = Codes(weights, x, preactivations(weights, x, True).detach(), _few(2), True)
    every = gradients(of_codes.decoded(weights.decoder), weights)
    assert all(float(gradient.abs().max()) == 0 for gradient in every.values())


def _few(group: int) -> Tensor:
    return torch.arange(4).expand(group, BATCH, 4).contiguous()


def test_places_of_one_latent_add_up() -> None:
    """The same latent at every row and twice in a row, others at none."""
    generator = torch.Generator().manual_seed(3)
    indices = torch.randint(0, 6, (2, BATCH, 5), generator=generator)
    indices[:, :, 0] = 3
    values = torch.randn(2, BATCH, 5, generator=generator, dtype=torch.float64)
    for shared in (1, 2):
        x = torch.randn(shared, BATCH, D, generator=generator, dtype=torch.float64)
        expected = torch.zeros(2, LATENTS, D, dtype=torch.float64)
        for g in range(2):
            for n in range(BATCH):
                for j in range(5):
                    expected[g, indices[g, n, j]] += values[g, n, j] * x[g % shared, n]
        found = Places(indices, LATENTS).summed(values, x)
        torch.testing.assert_close(found, expected)
        assert float(found[:, 6:].abs().max()) == 0


def test_each_product_alone() -> None:
    """With latents twice in a row, against indexing and autograd; numerically in float64."""
    weights = draw(2)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(1, 6, D, generator=generator)
    indices = torch.randint(0, 5, (2, 6, 3), generator=generator)
    places = Places(indices, LATENTS)
    pre = preactivations(weights, x, True)
    values = codes_at(weights, x, pre.detach(), places, True)
    by_hand = pre.gather(-1, indices)
    torch.testing.assert_close(values, by_hand)
    upstream = torch.randn(values.shape, generator=generator)
    ours = gradients((values * upstream).sum(), weights)
    compare(ours, gradients((by_hand * upstream).sum(), weights), 1e-6)
    small = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    decoder = draw(2, dtype=torch.float64).decoder
    assert torch.autograd.gradcheck(lambda v, rows: decoded(v, places, rows), (small, decoder))


def test_the_sum_has_the_same_bits_each_time() -> None:
    first, second = (
        gradients(
            TopK(k=(4,), sparse=True).loss(weights, rows(1), rows(1), alive(1)).total, weights
        )
        for weights in (draw(1), draw(1))
    )
    for name in NAMES:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


def test_members_of_a_group_do_not_meet() -> None:
    ks, x = (2, 4, 8), rows(1)
    together = draw(3)
    dead = torch.zeros(3, LATENTS, dtype=torch.bool)
    dead[1, :9], dead[2, 5:30] = True, True
    joint = gradients(TopK(k=ks).loss(together, x, x, moment(dead)).total, together)
    for g, k in enumerate(ks):
        alone = Weights(*(getattr(together, name)[g : g + 1] for name in NAMES))
        single = TopK(k=(k,)).loss(alone, x, x, moment(dead[g : g + 1])).total
        for name, gradient in gradients(single, alone).items():
            torch.testing.assert_close(gradient[0], joint[name][g], rtol=1e-5, atol=1e-6)


def test_a_permutation_of_the_latents_changes_nothing_else() -> None:
    weights, x = draw(1), rows(1)
    order = torch.randperm(LATENTS, generator=torch.Generator().manual_seed(5))
    permuted = Weights(*(getattr(weights, name)[:, order] for name in NAMES[:3]), weights.b_dec)
    dead = torch.zeros(1, LATENTS, dtype=torch.bool)
    dead[0, :11] = True
    plain = TopK(k=(4,), sparse=True).loss(weights, x, x, moment(dead))
    other = TopK(k=(4,), sparse=True).loss(permuted, x, x, moment(dead[:, order]))
    torch.testing.assert_close(plain.total, other.total)
    assert bool((plain.active[:, order] == other.active).all())


def test_sparse_products_are_taken_where_they_are_faster() -> None:
    assert pays(torch.device("cpu"), 6144, 32)
    assert not pays(torch.device("cpu"), 128, 32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_on_cuda() -> None:
    weights, x = draw(2), rows(1)
    dead = torch.zeros(2, LATENTS, dtype=torch.bool)
    dead[:, ::3] = True
    here = TopK(k=(3, 6), sparse=True).loss(weights, x, x, moment(dead))
    there = Weights(*(getattr(weights, name).detach().cuda().requires_grad_() for name in NAMES))
    far = TopK(k=(3, 6), sparse=True).loss(there, x.cuda(), x.cuda(), moment(dead.cuda()))
    torch.testing.assert_close(far.total.cpu(), here.total)
    found = {name: one.cpu() for name, one in gradients(far.total, there).items()}
    compare(found, gradients(here.total, weights))
