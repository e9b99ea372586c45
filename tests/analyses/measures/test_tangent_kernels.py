"""Tangent kernels: the explicit Jacobian, the layer-wise formula, linear models, chunks and sketches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from layerscope.analyses.measures.kernels import alignment
from layerscope.analyses.measures.tangent_kernels import tangent_kernel


def dense(sizes: list[int], seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def points(n: int, width: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def samples(model: nn.Module, x: Tensor) -> list[Callable[[Any], Tensor]]:
    return [lambda w, one=one: functional_call(model, dict(w), (one[None],))[0] for one in x]


def kernel(model: nn.Module, x: Tensor, outputs: int, **more: Any) -> Any:
    weights = {name: p.detach() for name, p in model.named_parameters()}
    part_of = {name: name.split(".")[0] for name in weights}
    return tangent_kernel(samples(model, x), weights, part_of, outputs, **more)


def by_jacobian(model: nn.Module, x: Tensor) -> Tensor:
    weights = {name: p.detach() for name, p in model.named_parameters()}
    blocks = jacrev(lambda w: functional_call(model, w, (x,)))(weights)
    j = torch.cat([b.flatten(2) for b in blocks.values()], dim=2).flatten(0, 1)
    return j @ j.T


def layer_by_layer(model: nn.Sequential, x: Tensor) -> Tensor:
    """Sum over layers of (signals that come back) x (activations that go in + 1 for the bias)."""
    entering: list[Tensor] = []
    leaving: list[Tensor] = []
    h = x
    for layer in model:
        if isinstance(layer, nn.Linear):
            entering.append(h)
            h = layer(h)
            leaving.append(h)
        else:
            h = layer(h)
    n, outputs = h.shape
    found = torch.zeros(n, outputs, n, outputs, dtype=x.dtype)
    for a, z in zip(entering, leaving, strict=True):
        rows = [torch.autograd.grad(h[:, c].sum(), z, retain_graph=True)[0] for c in range(outputs)]
        delta = torch.stack(rows, dim=1)
        found += torch.einsum("nco,mdo->ncmd", delta, delta) * (a @ a.T + 1)[:, None, :, None]
    return found.view(n * outputs, n * outputs).detach()


@pytest.mark.parametrize("sizes", [[5, 3], [5, 16, 3], [4, 12, 8, 2]])
def test_three_ways_to_the_kernel_of_a_dense_net(sizes: list[int]) -> None:
    model, x = dense(sizes), points(7, sizes[0])
    found = kernel(model, x, sizes[-1]).whole
    scale = float(found.abs().max())
    for other in (by_jacobian(model, x), layer_by_layer(model, x)):
        assert float((found - other).abs().max()) / scale < 1e-14


def test_parts_add_up_and_name_their_layers() -> None:
    model, x = dense([5, 16, 3]), points(6, 5)
    found = kernel(model, x, 3)
    assert list(found.parts) == ["0", "2"]
    assert torch.equal(found.whole, found.parts["0"] + found.parts["2"])
    last = layer_by_layer(model[2:], model[:2](x).detach())  # type: ignore[arg-type]
    assert torch.allclose(found.parts["2"], last, atol=1e-12)


def test_the_kernel_of_a_linear_model_never_changes() -> None:
    x = points(10, 6)
    one, other = (nn.Linear(6, 2, bias=False).double() for _ in range(2))
    found = kernel(one, x, 2).whole
    assert torch.allclose(found, torch.kron(x @ x.T, torch.eye(2, dtype=x.dtype)), atol=1e-12)
    assert float(alignment(found, kernel(other, x, 2).whole)) == pytest.approx(1, abs=1e-6)


def test_little_memory_gives_the_same_kernel_in_several_passes() -> None:
    model, x = dense([5, 16, 3]), points(6, 5)
    calls = []
    weights = {name: p.detach() for name, p in model.named_parameters()}
    part_of = dict.fromkeys(weights, "all")

    def counted(w: Any, one: Tensor) -> Tensor:
        calls.append(1)
        return functional_call(model, dict(w), (one[None],))[0]

    runs = [lambda w, one=one: counted(w, one) for one in x]
    largest = 18 * 16 * 5 * 8
    found = tangent_kernel(runs, weights, part_of, 3, max_bytes=largest)
    assert not found.sketched
    assert len(calls) == 6 * 2  # 80 weights, then the other 67
    assert torch.allclose(found.whole, kernel(model, x, 3).whole, atol=1e-12)


def test_a_sketch_is_right_on_average_and_says_so() -> None:
    model, x = dense([40, 256, 3]), points(6, 40)
    exact = kernel(model, x, 3).whole
    drawn = [kernel(model, x, 3, max_bytes=1000, seed=s) for s in range(20)]
    assert all(one.sketched for one in drawn)
    kernels = torch.stack([one.whole for one in drawn])
    assert not torch.allclose(kernels[0], exact, rtol=1e-6)
    assert float(alignment(kernels[0], exact)) > 0.999
    error = kernels.std(0) / len(kernels) ** 0.5
    off = (kernels.mean(0) - exact).abs() / (error + 1e-9 * exact.abs().max())
    assert float(off.mean()) < 1.2  # about 0.8 where there is no bias


def test_weights_that_an_output_does_not_depend_on_give_nothing() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 1), "idle": nn.Linear(3, 1)}).double()
    weights = {name: p.detach() for name, p in model.named_parameters()}
    part_of = {name: name.split(".")[0] for name in weights}
    x = points(4, 3)
    runs = [lambda w, one=one: one @ w["used.weight"].T + w["used.bias"] for one in x]
    found = tangent_kernel(runs, weights, part_of, 1)
    assert float(found.parts["idle"].abs().max()) == 0
    assert float(found.parts["used"].abs().max()) > 0


def test_outputs_of_another_number_are_refused() -> None:
    model, x = dense([5, 3]), points(2, 5)
    with pytest.raises(ValueError, match=r"sample 0 has outputs \(3,\), not \(2,\)"):
        kernel(model, x, 2)


def test_single_precision_agrees_with_double() -> None:
    model, x = dense([5, 16, 3]), points(6, 5)
    exact = kernel(model, x, 3).whole
    single = kernel(model.float(), x.float(), 3).whole
    assert torch.allclose(single, exact, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_on_a_gpu_agrees_with_the_cpu() -> None:
    model, x = dense([5, 16, 3]), points(6, 5)
    exact = kernel(model, x, 3).whole
    there = kernel(model.float().cuda(), x.float().cuda(), 3).whole.cpu()
    assert torch.allclose(there, exact, rtol=1e-3, atol=1e-3)
