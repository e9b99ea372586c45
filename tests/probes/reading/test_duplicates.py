"""Copies of rows across folds, counted."""

from __future__ import annotations

import torch

from layerscope.probes.reading.duplicates import straddling
from layerscope.probes.solving.design import Design


def rows(width: int = 32) -> torch.Tensor:
    return torch.randn(1000, width, generator=torch.Generator().manual_seed(0))


BOUNDS = (0, 200, 400, 600, 800, 1000)


def test_no_copies() -> None:
    for width in (1, 4, 32, 300):
        assert straddling(Design.of(rows(width), BOUNDS)) == 0


def test_copies_in_one_fold_do_not_count() -> None:
    x = rows()
    x[10:150] = x[3]
    assert straddling(Design.of(x, BOUNDS)) == 0


def test_all_of_a_run_of_copies_that_straddles_counts() -> None:
    x = rows()
    x[100:300] = x[3]  # with row 3: 201 rows in two folds
    x[999] = x[500]
    for width in (32, 1):
        assert straddling(Design.of(x[:, :width], BOUNDS)) == 203


def test_nearly_equal_rows_count() -> None:
    x = rows(256)
    noise = torch.randn(200, 256, generator=torch.Generator().manual_seed(1))
    x[800:] = x[:200] + 1e-4 * noise
    assert straddling(Design.of(x, BOUNDS)) > 360
    x[800:] = x[:200] + 0.1 * noise
    assert straddling(Design.of(x, BOUNDS)) == 0


def test_blocks_do_not_matter(monkeypatch) -> None:
    x = rows()
    x[100:300] = x[3]
    whole = straddling(Design.of(x, BOUNDS))
    monkeypatch.setattr("layerscope.probes.reading.duplicates._BLOCK", 7)
    assert straddling(Design.of(x, BOUNDS)) == whole == 201


def test_constant_rows_are_all_copies() -> None:
    assert straddling(Design.of(torch.ones(1000, 20), BOUNDS)) == 1000
