"""Whatever a person has in hand becomes a source of rows, or is refused in words."""

from __future__ import annotations

import pytest
import torch

from layerscope.analyses.sae.rows.held import HeldRows
from layerscope.analyses.sae.rows.live import LiveRows
from layerscope.analyses.sae.rows.open import rows_of
from layerscope.analyses.sae.rows.stored import StoredRows


def test_stores_and_their_paths(numbered) -> None:  # type: ignore[no-untyped-def]
    store = numbered()
    for data in (store, store.path, str(store.path)):
        with rows_of(data, "b") as source:
            assert isinstance(source, StoredRows)
            assert (source.sites, source.widths, source.per_pass) == (("b",), (6,), 300)
    with rows_of(store, ["b", "a"], rows=slice(0, 50)) as source:
        assert (source.sites, source.per_pass) == (("b", "a"), 50)


def test_layers_are_sites(make_store) -> None:  # type: ignore[no-untyped-def]
    store = make_store({f"blocks.{i}.resid_post": torch.zeros(8, 2) + i for i in range(3)})
    with rows_of(store, [1, -1]) as source:
        assert source.sites == ("blocks.1.resid_post", "blocks.2.resid_post")
        assert [rows[0, 0].item() for rows in source.next(4)] == [1, 2]


def test_tensors() -> None:
    x, y = torch.zeros(20, 3), torch.zeros(20, 5)
    assert rows_of(x).sites == ("rows",)
    assert rows_of(x, "mid").sites == ("mid",)
    assert rows_of({"a": x, "b": y}).sites == ("a", "b")
    assert rows_of({"a": x, "b": y}, "b").widths == (5,)
    assert rows_of({"a": x, "b": y}, ["b", "a"]).widths == (5, 3)


def test_a_model_and_a_source_that_is_already_one(gpt2, tokenizer, sentences, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "t.txt").write_text("\n".join(sentences))
    with rows_of(gpt2, 1, corpus=tmp_path / "t.txt", tokenizer=tokenizer) as source:
        assert isinstance(source, LiveRows)
        assert source.sites == ("blocks.1.resid_post",)
        assert rows_of(source, batch=4) is source
        assert rows_of(source, 1) is source
        with pytest.raises(
            ValueError, match=r"made for blocks.1.resid_post, and blocks.2.resid_po"
        ):
            rows_of(source, 2)


def test_fewer_rows_than_a_batch_are_refused_at_once(numbered) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"a, b has 300 rows and a batch takes 4,096; pass batch="):
        rows_of(numbered(), ["a", "b"], batch=4096)
    with pytest.raises(ValueError, match="rows has 20 rows and a batch takes 21"):
        rows_of(torch.zeros(20, 3), batch=21)
    assert isinstance(rows_of(torch.zeros(20, 3), batch=20), HeldRows)


def test_what_cannot_be_meant(numbered, gpt2, tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = numbered()
    with pytest.raises(LookupError, match="site 'aa' is not in this store; did you mean 'a'"):
        rows_of(store, "aa")
    with pytest.raises(ValueError, match="which site"):
        rows_of(store)
    with pytest.raises(ValueError, match="which site"):
        rows_of(store, [])
    with pytest.raises(ValueError, match=r"corpus= is for a model"):
        rows_of(store, "a", corpus=["text"])
    with pytest.raises(ValueError, match="a model needs texts"):
        rows_of(gpt2, 1)
    with pytest.raises(LookupError, match="layer 9 asked"):
        rows_of(gpt2, 9, corpus=["text"])
    with pytest.raises(LookupError, match="no tensor for 'c'; there are a"):
        rows_of({"a": torch.zeros(4, 2)}, "c")
    with pytest.raises(ValueError, match="one tensor cannot be 2 sites"):
        rows_of(torch.zeros(4, 2), ["a", "b"])
    with pytest.raises(ValueError, match="rows= is for stores"):
        rows_of(torch.zeros(4, 2), rows=[1])
    with pytest.raises(TypeError, match="not from list"):
        rows_of([1, 2], "a")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        rows_of(tmp_path / "nowhere", "a")
