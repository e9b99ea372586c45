"""The largest of a batch: exactly those that sorting everything would give."""

from __future__ import annotations

import pytest
import torch

from layerscope.analyses.sae.architectures import selecting
from layerscope.analyses.sae.architectures.selecting import batch_largest, largest


def sorted_mask(values: torch.Tensor, counts: list[int]) -> torch.Tensor:
    mask = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    for matrix, count, out in zip(values, counts, mask, strict=True):
        order = matrix.flatten().argsort(descending=True)[:count]
        out.view(-1)[order] = True
    return mask & (values > 0)


def selected(values: torch.Tensor, counts: list[int]) -> torch.Tensor:
    places, keep = batch_largest(values, counts)
    found = torch.zeros_like(values, dtype=torch.int64)
    return found.scatter_add_(-1, places, keep.long())


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0], ids=["even", "uneven", "a few rows take all"])
@pytest.mark.parametrize("counts", [[50, 150], [50, 1], [500, 2000]])
def test_it_selects_what_sorting_everything_selects(spread: float, counts: list[int]) -> None:
    own = torch.Generator().manual_seed(0)
    values = torch.randn(2, 50, 80, generator=own)
    # Rows of very different size: the largest of all lie in a few of them.
    values *= (spread * torch.randn(2, 50, 1, generator=own)).exp()
    found = selected(values, counts)
    assert torch.equal(found, sorted_mask(values, counts).long())
    enough = [min(c, int((v > 0).sum())) for c, v in zip(counts, values, strict=True)]
    assert found.sum((1, 2)).tolist() == enough


def test_one_row_that_holds_all_of_them() -> None:
    values = torch.zeros(1, 20, 60) - 1
    values[0, 7] = torch.arange(1.0, 61.0)
    found = selected(values, [40])
    assert found[0, 7].nonzero().flatten().tolist() == list(range(20, 60))
    assert found.sum() == 40


def test_fewer_positive_values_than_asked_for() -> None:
    values = -torch.ones(1, 10, 8)
    values[0, 2, 3] = 0.5
    values[0, 4, 4] = 0.0
    assert selected(values, [20]).nonzero().tolist() == [[0, 2, 3]]
    assert selected(-torch.ones(1, 4, 5), [4]).sum() == 0


def test_of_equal_values_just_enough_are_taken() -> None:
    values = torch.ones(1, 6, 10)
    values[0, 0, 0] = 2
    found = selected(values, [17])
    assert found.sum() == 17
    assert found[0, 0, 0] == 1
    assert found.max() == 1


@pytest.mark.parametrize("where", ["in the sampled rows", "between them"])
def test_a_misleading_sample_costs_time_and_nothing_else(where: str) -> None:
    own = torch.Generator().manual_seed(0)
    values = torch.randn(1, 40 * selecting.SAMPLE, 30, generator=own)
    start = 0 if where == "in the sampled rows" else 1
    values[:, start::40] *= 100
    counts = [values.shape[1]]
    assert torch.equal(selected(values, counts), sorted_mask(values, counts).long())


def test_only_candidates_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(1, 400, 500, generator=torch.Generator().manual_seed(0))
    searched = []
    plain = torch.Tensor.kthvalue

    def counted(self: torch.Tensor, k: int) -> object:
        searched.append(self.numel())
        return plain(self, k)

    monkeypatch.setattr(torch.Tensor, "kthvalue", counted)
    batch_largest(values, [2000])
    assert max(searched) < 0.1 * values.numel()


def test_matrices_that_lie_interleaved_in_memory() -> None:
    values = torch.randn(30, 2, 40, generator=torch.Generator().manual_seed(0)).transpose(0, 1)
    assert torch.equal(selected(values, [60, 90]), sorted_mask(values, [60, 90]).long())


def test_rows_get_as_many_as_they_need_and_not_more() -> None:
    values = torch.arange(24.0).view(1, 2, 12)
    needs = torch.tensor([[2, 9]])
    top, places = largest(values, 3, lambda top: top.isfinite().sum(-1) < needs)
    assert top.shape == (1, 2, 12)
    assert top.isfinite().sum(-1).tolist() == [[3, 12]]
    assert top[0, 0, :3].tolist() == [11, 10, 9]
    assert places[0, 1].tolist() == list(range(11, -1, -1))
    assert torch.equal(values.gather(-1, places)[top.isfinite()], top[top.isfinite()])


def test_filled_up_places_are_spread_over_the_columns() -> None:
    values = torch.randn(1, 50, 64, generator=torch.Generator().manual_seed(0))
    _, places = largest(values, 4, lambda top: torch.arange(50)[None] == 0)
    filled = places[0, 1:, 4:]
    assert filled.unique().numel() == filled.shape[-1]


def test_growth_is_by_the_factor_that_is_written_down() -> None:
    values = torch.rand(1, 3, 1000, generator=torch.Generator().manual_seed(0))
    top, _ = largest(values, 2, lambda top: torch.full((1, 3), top.shape[-1] < 30))
    assert top.shape[-1] == 2 * selecting.FACTOR**2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu() -> None:
    values = torch.randn(2, 50, 80, generator=torch.Generator().manual_seed(0)).cuda()
    values *= torch.linspace(0, 3, 50, device="cuda")[None, :, None].exp()
    assert torch.equal(selected(values, [50, 150]), sorted_mask(values, [50, 150]).long())
