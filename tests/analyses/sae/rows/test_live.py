"""Rows of a running model: those of a store, continued bit by bit, the model left as it was."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerscope.analyses.sae.rows.live import LiveRows
from layerscope.analyses.sae.rows.producer import AHEAD
from layerscope.corpus import read
from layerscope.hooks.edits import edit, zero
from layerscope.hooks.extract import SHARD_BYTES, extract
from layerscope.hooks.extracting import feeds

SITES = ["blocks.1.resid_post", "blocks.0.mlp_out"]


@pytest.fixture(autouse=True)
def many_shards(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A pass over these few texts is cut into shards, and these into batches."""
    monkeypatch.setattr(feeds, "FEWEST_CHARACTERS", 100)
    monkeypatch.setitem(feeds.BATCH, "cpu", 96)
    monkeypatch.setitem(SHARD_BYTES, "cpu", 16_384)


@pytest.fixture
def corpus(sentences, tmp_path) -> Path:  # type: ignore[no-untyped-def]
    """Sixty texts, all different."""
    texts = [f"{n} {text}" for n in range(6) for text in sentences]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    return tmp_path / "texts.txt"


@pytest.fixture
def live(gpt2, tokenizer, corpus) -> Iterator[Callable[..., LiveRows]]:  # type: ignore[no-untyped-def]
    made = []

    def make(sites: Any = SITES, **options: Any) -> LiveRows:
        made.append(LiveRows(gpt2, corpus, sites, tokenizer=tokenizer, **options))
        return made[-1]

    yield make
    for source in made:
        source.close()


def threads() -> int:
    return sum(thread.name == "sae-rows" for thread in threading.enumerate())


def untouched(model: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return not any(getattr(module, kind) for module in model.modules() for kind in kinds)


def in_order(rows: Tensor) -> np.ndarray:
    """Rows as a multiset: sorted by their bits."""
    bits = rows.numpy().view(np.int32)
    return bits[np.lexsort(bits.T)]


@pytest.fixture
def stored(gpt2, tokenizer, corpus):  # type: ignore[no-untyped-def]
    return extract(gpt2, corpus, SITES, tokenizer=tokenizer, progress=False)


def test_rows_are_those_of_a_store_bit_by_bit(live, stored) -> None:  # type: ignore[no-untyped-def]
    """A pass that fits into the reservoir: exactly the store's rows, at all sites alike."""
    source = live()
    assert source.per_pass is None
    a, b = source.next(len(stored))
    assert source.per_pass == len(stored)
    found = torch.cat([a, b], 1)
    wanted = torch.cat([stored[SITES[0]][:], stored[SITES[1]][:]], 1)
    assert (in_order(found) == in_order(wanted)).all()
    again = torch.cat(source.next(len(stored)), 1)
    assert not torch.equal(again, found)
    assert (in_order(again) == in_order(wanted)).all()
    assert threads() == 0, "the whole corpus is held: the model is done"


def test_a_small_reservoir_loses_and_repeats_nothing(live, stored) -> None:  # type: ignore[no-untyped-def]
    source, slots = live(reservoir_rows=200), 200
    batches = len(stored) * 2 // 40
    out = torch.cat([torch.cat(source.next(40), 1) for _ in range(batches)])
    inside = torch.cat(source._full().rows, 1)
    found = in_order(torch.cat([out, inside]))
    wanted = torch.cat([stored[SITES[0]][:], stored[SITES[1]][:]], 1)
    passes, rest = divmod(slots + 40 * batches, len(stored))
    assert len(found) == passes * len(stored) + rest
    seen, kinds = _counted(found), _counted(in_order(wanted))
    assert seen.keys() == kinds.keys()
    for row, count in kinds.items():  # some rows are equal: those of the same first token
        assert passes * count <= seen[row] <= (passes + 1) * count
    assert source.per_pass == len(stored)


def _counted(rows: np.ndarray) -> Counter[bytes]:
    return Counter(row.tobytes() for row in rows)


@pytest.mark.parametrize("reservoir", [None, 150])
@pytest.mark.parametrize("after", [0, 1, 9])
def test_restored_it_goes_on_bit_by_bit(live, reservoir, after) -> None:  # type: ignore[no-untyped-def]
    source, other = live(reservoir_rows=reservoir), live(reservoir_rows=reservoir)
    for _ in range(after):
        source.next(64)
    state = source.state()
    copies = {name: tensor.clone() for name, tensor in state.items()}
    wanted = [source.next(64) for _ in range(25)]
    assert all(torch.equal(state[name], copies[name]) for name in state), "a state is a copy"
    other.next(10)
    other.restore(state)
    for batch in wanted:
        for found, want in zip(other.next(64), batch, strict=True):
            assert torch.equal(found, want)
    assert other.per_pass == source.per_pass
    assert other.effective_groups(64) == source.effective_groups(64)


def test_after_close_it_goes_on_where_it_was(live) -> None:  # type: ignore[no-untyped-def]
    one, other = live(reservoir_rows=150), live(reservoir_rows=150)
    for _ in range(12):
        one.next(30)
        other.next(30)
        one.close()
    assert torch.equal(one.next(30)[0], other.next(30)[0])
    assert one.per_pass == other.per_pass


def test_a_state_of_another_kind_is_refused(live) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"reservoir \[\[150, 16\], \[150, 16\]\]"):
        live(reservoir_rows=120).restore(live(reservoir_rows=150).state())
    with pytest.raises(ValueError, match="a corpus that fits into the reservoir"):
        live(reservoir_rows=120).restore(live().state())


def test_the_model_is_as_it_was(live, gpt2) -> None:  # type: ignore[no-untyped-def]
    gpt2.train()
    gpt2.transformer.h[1].eval()
    modes = [module.training for module in gpt2.modules()]
    state = torch.get_rng_state()
    source = live(reservoir_rows=150)
    for _ in range(5):
        source.next(64)
    with source.paused():
        assert untouched(gpt2)
        assert [module.training for module in gpt2.modules()] == modes
    source.close()
    assert threads() == 0
    assert untouched(gpt2)
    assert [module.training for module in gpt2.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_idle_it_leaves_the_model_too(live, gpt2) -> None:  # type: ignore[no-untyped-def]
    """With as many batches ready as may wait, nothing stays attached."""
    source = live(reservoir_rows=30)
    source.next(4)
    _wait(lambda: untouched(gpt2) and len(source._producer._ready) == AHEAD)
    assert threads() == 1
    with torch.no_grad():
        gpt2(torch.zeros(1, 3, dtype=torch.long))
    assert len(source._producer._ready) == AHEAD


def _wait(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not done():
        assert time.monotonic() < limit, "waited 30 seconds for nothing"
        time.sleep(0.002)


def _drain(source: LiveRows, size: int) -> None:
    for _ in range(1000):
        source.next(size)


class Failing(nn.Module):
    """Raises in its forward after some calls."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.left = inner, 3

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise ArithmeticError("the weights are haunted")
        out: Tensor = self.inner(x)
        return out


def test_an_error_of_the_model_arrives_and_leaves_it_as_it_was() -> None:
    inner = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 2)).train()
    model = Failing(inner)
    source = LiveRows(model, torch.randn(500, 4), ["inner.0"], reservoir_rows=100)
    with pytest.raises(ArithmeticError, match="haunted"):
        _drain(source, 50)
    _wait(lambda: threads() == 0)
    assert untouched(model)
    assert all(module.training for module in model.modules())
    with pytest.raises(ArithmeticError, match="haunted"):
        source.next(50)
    source.close()


def test_broken_rows_are_named_by_sample() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    data = torch.randn(200, 4)
    data[150, 2] = float("nan")
    with (
        LiveRows(model, data, ["0"]) as source,
        pytest.raises(ValueError, match="0 is NaN at sample 150, position 0"),
    ):
        source.next(50)


def test_samples_of_a_model_that_reads_no_text() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    data = torch.randn(300, 4)
    with LiveRows(model, data, ["1"]) as source, torch.no_grad():
        rows = source.next(300)[0]
        wanted = torch.cat([model(part) for part in data.split(64)])
        torch.testing.assert_close(torch.sort(rows.sum(1)).values, torch.sort(wanted.sum(1)).values)
        assert not rows.is_inference()
        assert source.effective_groups(300) == float("inf")


def test_nothing_waits_for_ever_inside_paused(live) -> None:  # type: ignore[no-untyped-def]
    source = live(reservoir_rows=30)
    source.next(4)
    with source.paused(), pytest.raises(RuntimeError, match="the model is paused"):
        _drain(source, 30)
    assert len(source.next(30)[0]) == 30


def test_edits_belong_inside_paused(live, gpt2) -> None:  # type: ignore[no-untyped-def]
    source, other = live(reservoir_rows=150), live(reservoir_rows=150)
    for _ in range(10):
        with source.paused(), edit(gpt2, {"blocks.0.resid_post": zero()}), torch.no_grad():
            gpt2(torch.zeros(1, 5, dtype=torch.long))
        for found, wanted in zip(source.next(30), other.next(30), strict=True):
            assert torch.equal(found, wanted)
    with edit(gpt2, {"blocks.0.resid_post": zero()}):
        with pytest.raises(ValueError, match="an edit is running on the model"):
            live()
        with pytest.raises(RuntimeError, match=r"edit it inside `with rows\.paused"):
            _drain(source, 30)
        gpt2(torch.zeros(1, 5, dtype=torch.long))


def test_two_sources_of_one_model_do_not_meet(live, gpt2, tokenizer, corpus) -> None:  # type: ignore[no-untyped-def]
    one, other = live([SITES[0]], reservoir_rows=100), live([SITES[1]], reservoir_rows=100)
    # A store of each site by itself: which texts share a batch depends on the width of a row.
    stores = [extract(gpt2, corpus, site, tokenizer=tokenizer, progress=False) for site in SITES]
    kinds = [
        {row.tobytes() for row in store[site][:].numpy()}
        for site, store in zip(SITES, stores, strict=True)
    ]
    for _ in range(20):
        for source, known in zip((one, other), kinds, strict=True):
            assert all(row.tobytes() in known for row in source.next(40)[0].numpy())


def test_a_forgotten_source_ends_its_thread(live, gpt2, tokenizer, corpus) -> None:  # type: ignore[no-untyped-def]
    source = LiveRows(gpt2, corpus, SITES, tokenizer=tokenizer, reservoir_rows=50)
    source.next(10)
    assert threads() == 1
    del source
    gc.collect()
    assert threads() == 0
    assert untouched(gpt2)


def test_a_sample_moves_nothing(live) -> None:  # type: ignore[no-untyped-def]
    for reservoir in (None, 150):
        one, other = live(reservoir_rows=reservoir), live(reservoir_rows=reservoir)
        a, b = one.sample(100, seed=1)
        assert (a.shape, b.shape) == ((100, 16), (100, 16))
        assert len(torch.unique(a, dim=0)) > 90
        assert torch.equal(one.next(40)[0], other.next(40)[0])


def test_a_reservoir_mixes_more_than_the_stream(live, gpt2, tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Texts of equal length: a full reservoir of B rows mixes B / n texts and later up to 2 B / n."""
    texts = [f"{n:04d} the cat sat on the mat" for n in range(600)]
    (tmp_path / "equal.txt").write_text("\n".join(texts))
    source = LiveRows(
        gpt2, read(tmp_path / "equal.txt"), [0], tokenizer=tokenizer, reservoir_rows=960
    )
    with source:
        source.next(16)
        held = 960 / len(tokenizer(texts[0]).input_ids)
        wanted = held * 959 / (960 - held)
        assert source.effective_groups(16) == pytest.approx(wanted, rel=0.05)
        for _ in range(200):
            source.next(16)
        assert source.effective_groups(16) > 1.5 * wanted


def test_about_and_what_is_refused(live, gpt2, tokenizer, corpus) -> None:  # type: ignore[no-untyped-def]
    source = live(reservoir_rows=150)
    assert source.about["data"] == "texts"
    assert source.about["store_key"] == ""
    assert source.sites == tuple(SITES)
    with pytest.raises(ValueError, match=r"reservoir of .* has 150 rows and a batch takes 151"):
        source.next(151)
    with pytest.raises(ValueError, match="at least 1 row, not 0"):
        live(reservoir_rows=0)
    with pytest.raises(LookupError, match="layer 7 asked"):
        live([7])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("reservoir", [None, 150])
def test_on_cuda_it_goes_on_bit_by_bit(gpt2, tokenizer, corpus, reservoir) -> None:  # type: ignore[no-untyped-def]
    gpt2.cuda()
    options = {"tokenizer": tokenizer, "reservoir_rows": reservoir}
    with (
        LiveRows(gpt2, corpus, SITES, **options) as one,
        LiveRows(gpt2, corpus, SITES, **options) as other,
    ):
        one.next(64)
        other.restore(one.state())
        for _ in range(10):
            rows = one.next(64)[0]
            assert rows.device.type == "cuda"
            assert torch.equal(rows, other.next(64)[0])
