"""A store is found again by key, holds what was put in, and refuses what is not its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from layerscope.store import Store, StoreMismatch, default_folder

SITES = {"blocks.0.resid_post": 3}


def empty(path: Path, **parts: Any) -> Store:
    whole = {"dtype": "float32", "model": {"class": "M"}} | parts
    return Store.create(path, whole, sites=SITES, dtype=torch.float32, about={"model": "m"})


def put(store: Store, index: int, rows: int = 2) -> None:
    tensor = torch.full((rows, 3), float(index))
    store.write(index, {"blocks.0.resid_post": tensor}, pd.DataFrame({"text": [index] * rows}))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_what_was_written_is_read_again_bit_by_bit(make: Any, dtype: torch.dtype) -> None:
    known = make(dtype=dtype)
    store = Store.open(known.store.path)
    assert store.complete
    assert len(store) == 13
    for site, truth in known.truth.items():
        assert store[site].dtype == dtype
        assert torch.equal(store[site].tensor(), truth)
    store.verify()


def test_rows_texts_labels_and_sums_come_back(known: Any) -> None:
    store = Store.open(known.store.path)
    rows = store.rows
    assert list(rows.columns) == [name for name in known.frame if name != "content"]
    for name in rows:
        want = known.frame[name]
        same = (rows[name].astype(object) == want.astype(object)) | (
            rows[name].isna() & want.isna()
        )
        assert same.all(), name
    assert isinstance(rows["upos"].dtype, pd.CategoricalDtype)
    assert store.labels == ("upos", "depth")
    assert store.texts.to_dict() == {t: f"the content of {t}" for t in (0, 1, 4, 5, 7)}
    assert store.info == {"truncated": 6}
    assert store.notes == ("a note",)


def test_columns_added_to_rows_stay_out_of_the_store(known: Any) -> None:
    rows = known.store.rows
    rows["mine"] = 1
    assert "mine" not in known.store.rows


def test_label_columns_may_differ_between_shards(tmp_path: Path) -> None:
    """A shard without a label, one with whole numbers, one with missing ones, one all missing."""
    store = empty(tmp_path / "s")
    columns: list[dict[str, list[Any]]] = [
        {},
        {"n": [1, 2], "word": ["a", "b"]},
        {"n": [1.5, None], "word": [None, "a"]},
        {"n": [None, None], "word": [None, None]},
    ]
    for index, labels in enumerate(columns):
        frame = pd.DataFrame({"text": [index] * 2, **labels})
        store.write(index, {"blocks.0.resid_post": torch.zeros(2, 3)}, frame)
    rows = store.rows
    np.testing.assert_array_equal(rows["n"].to_numpy(float, na_value=np.nan)[2:5], [1, 2, 1.5])
    assert rows["n"].isna().tolist() == [True, True, False, False, False, True, True, True]
    assert rows["word"].tolist()[2:6] == ["a", "b", np.nan, "a"]
    assert store.labels == ("n", "word")


def test_a_label_that_is_text_here_and_a_number_there_is_refused(tmp_path: Path) -> None:
    store = empty(tmp_path / "s")
    for index, values in enumerate((["a", "b"], [1, 2])):
        frame = pd.DataFrame({"mood": values})
        store.write(index, {"blocks.0.resid_post": torch.zeros(2, 3)}, frame)
    with pytest.raises(ValueError, match=r"shards disagree about the kind of a column.*mood"):
        _ = store.rows


def test_a_column_of_mixed_kinds_is_refused_by_name(tmp_path: Path) -> None:
    store = empty(tmp_path / "s")
    frame = pd.DataFrame({"text": [0, 0], "mood": ["a", 3]})
    with pytest.raises(ValueError, match="column 'mood' mixes kinds of values"):
        store.write(0, {"blocks.0.resid_post": torch.zeros(2, 3)}, frame)
    assert not store.has(0)


def test_identical_input_gives_identical_files(make: Callable[..., Any]) -> None:
    first, second = make(name="one"), make(name="two")
    names = sorted(path.name for path in first.shards.iterdir())
    assert len(names) == 8
    for name in names:
        assert (first.shards / name).read_bytes() == (second.shards / name).read_bytes(), name


def test_long_contents_are_stored_once_per_text(tmp_path: Path) -> None:
    """A thousand rows point to five texts of 300,000 characters, and none is spelled out."""
    store = empty(tmp_path / "s")
    rng = np.random.default_rng(0)
    long = ["".join(map(chr, rng.integers(32, 127, 300_000))) for _ in range(5)]
    content = pd.Categorical.from_codes(np.repeat(range(5), 200), categories=long)
    frame = pd.DataFrame({"text": np.repeat(range(5), 200), "content": content})
    store.write(0, {"blocks.0.resid_post": torch.zeros(1000, 3)}, frame)
    assert (store.path / "shards" / "000000.parquet").stat().st_size < 1.1 * sum(map(len, long))
    assert store.texts.tolist() == long


def test_the_same_key_opens_the_same_store_and_goes_on(tmp_path: Path) -> None:
    put(empty(tmp_path / "s"), 0)
    again = empty(tmp_path / "s")
    assert again.has(0)
    put(again, 1)
    again.finish(2)
    assert empty(tmp_path / "s").complete


def test_another_key_is_refused_with_both_keys_and_what_differs(tmp_path: Path) -> None:
    here = empty(tmp_path / "s")
    before = (tmp_path / "s" / "store.json").read_bytes()
    with pytest.raises(StoreMismatch, match="What differs") as caught:
        empty(tmp_path / "s", dtype="bfloat16", model={"class": "M", "tensors": {"w": "f 1"}})
    message = str(caught.value)
    assert here.key in message
    assert "dtype: float32 here, bfloat16 asked" in message
    assert 'model.tensors: absent here, {"w": "f 1"} asked' in message
    assert "Give another folder" in message
    assert (tmp_path / "s" / "store.json").read_bytes() == before


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds files that are not a store \(thesis.tex\)"):
        empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match="is a file; a store needs a folder"):
        empty(tmp_path / "x")


def test_no_store_here(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no store.json here; give a folder that extract"):
        Store.open(tmp_path)


@pytest.mark.parametrize("number", [2, "1", None])
def test_another_format_is_refused_with_advice(tmp_path: Path, number: object) -> None:
    path = empty(tmp_path / "s").path / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    for call in (lambda: Store.open(tmp_path / "s"), lambda: empty(tmp_path / "s")):
        with pytest.raises(ValueError, match=r"this layerscope reads format 1; read it with the"):
            call()


def test_an_altered_store_json_is_refused_and_can_be_made_again(tmp_path: Path) -> None:
    put(empty(tmp_path / "s"), 0)
    path = tmp_path / "s" / "store.json"
    path.write_text(path.read_text().replace('"width": 3', '"width": 4'))
    with pytest.raises(ValueError, match=r"store.json was altered.*Delete it and run extract"):
        Store.open(tmp_path / "s")
    path.unlink()
    assert empty(tmp_path / "s").has(0)


@pytest.mark.parametrize("damage", ["", "[]", '{"format": 1', '{"format": 1}'])
def test_a_store_json_that_is_no_longer_one(tmp_path: Path, damage: str) -> None:
    (empty(tmp_path / "s").path / "store.json").write_text(damage)
    with pytest.raises(ValueError, match=r"store.json was altered"):
        Store.open(tmp_path / "s")


def test_sites_are_found_by_name_and_by_layer(known: Any) -> None:
    store = known.store
    assert store[1].site == store[-1].site == "blocks.1.resid_post"
    assert store[-2].site == "blocks.0.resid_post"
    with pytest.raises(LookupError, match=r"'blocks.1.resid_pos' is not in s; closest: blocks.1.r"):
        store["blocks.1.resid_pos"]
    with pytest.raises(LookupError, match=r"site 7 is not in s; closest: blocks"):
        store[7]
    with pytest.raises(LookupError, match=r"site -3 is not in s; closest: blocks"):
        store[-3]


def test_a_shard_already_there_is_left_as_it_is(tmp_path: Path) -> None:
    store = empty(tmp_path / "s")
    put(store, 0)
    other = torch.full((2, 3), 9.0)
    store.write(0, {"blocks.0.resid_post": other}, pd.DataFrame({"text": [0, 0]}))
    assert (store[0][:] == 0).all()


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    store, rows = empty(tmp_path / "s"), pd.DataFrame({"text": [0, 0]})
    site = "blocks.0.resid_post"
    with pytest.raises(ValueError, match=r"the store holds \['blocks.0.resid_post'\], got .*x"):
        store.write(0, {"x": torch.zeros(2, 3)}, rows)
    for wrong in (torch.zeros(2, 4), torch.zeros(1, 3), torch.zeros(2, 3).double()):
        with pytest.raises(ValueError, match=r"the store needs torch.float32 \[2, 3\], got"):
            store.write(0, {site: wrong}, rows)
    with pytest.raises(ValueError, match=r"at least one site.*got \{\}"):
        Store.create(tmp_path / "t", {}, sites={}, dtype=torch.float32, about={})
    with pytest.raises(ValueError, match=r"at least one site, as torch.float64.*got .*int64"):
        Store.create(tmp_path / "t", {}, sites=SITES, dtype=torch.int64, about={})
    assert not (tmp_path / "t").exists()


def test_tensors_are_stored_by_value_whatever_their_strides(tmp_path: Path) -> None:
    store = empty(tmp_path / "s")
    tensor = torch.arange(6.0).reshape(3, 2).T.requires_grad_()
    store.write(0, {"blocks.0.resid_post": tensor}, pd.DataFrame({"text": [0, 0]}))
    assert store[0][:].tolist() == [[0, 2, 4], [1, 3, 5]]


def test_unfinished_and_incomplete_stores_say_so(tmp_path: Path) -> None:
    store = empty(tmp_path / "s")
    put(store, 0)
    put(store, 1)
    assert not store.complete
    assert "unfinished store: 2 shards are there; run extract again" in store.notes[-1]
    assert "unfinished store" in repr(store)
    with pytest.raises(ValueError, match=r"shards 0..2 expected, check \[2\]"):
        store.finish(3)
    with pytest.raises(ValueError, match=r"shards 0..0 expected, check \[1\]"):
        store.finish(1)
    store.finish(2, ["cut"])
    for ending in ("safetensors", "parquet"):
        (store.path / "shards" / f"000001.{ending}").unlink()
    again = empty(tmp_path / "s")
    assert not again.complete
    assert again.notes == (
        "cut",
        "unfinished store: 1 of 2 shards are there; run extract again to go on",
    )
    put(again, 1)
    assert empty(tmp_path / "s").complete


def test_a_claim_is_exclusive_and_ends_with_its_block(tmp_path: Path) -> None:
    one, two = empty(tmp_path / "s"), empty(tmp_path / "s")
    with one.claim(0) as mine, two.claim(0) as also, two.claim(1) as other:
        assert (mine, also, other) == (True, False, True)
        put(one, 0)
    with two.claim(0) as mine:
        assert not mine, "the shard is there: nothing to compute"
    with two.claim(1) as mine:
        assert mine


def test_leftovers_of_the_dead_are_removed_and_of_the_living_kept(tmp_path: Path) -> None:
    one = empty(tmp_path / "s")
    shards = one.path / "shards"
    dead, alive = (shards / f".00000{i}.safetensors.1-a.part" for i in range(2))
    root = one.path / ".store.json.1-a.part"
    foreign = one.path / ".download.part"
    for path in (dead, alive, root, foreign):
        path.write_bytes(b"half")
    with one.claim(1):
        empty(tmp_path / "s")
    assert [path.exists() for path in (dead, alive, root, foreign)] == [False, True, False, True]


def test_a_finished_store_holds_nothing_but_its_data(known: Any) -> None:
    names = {str(path.relative_to(known.store.path)) for path in known.store.path.rglob("*")}
    pairs = {f"shards/00000{i}.{e}" for i in range(4) for e in ("parquet", "safetensors")}
    assert names == {"store.json", "shards", "locks", "locks/store.lock", *pairs}


def test_a_read_only_store_can_be_opened_by_key(known: Any, monkeypatch: Any) -> None:
    """A finished store on a shared disk: extract must find it complete without writing."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("layerscope.store.disk.os.write", refuse)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    store = Store.create(
        known.store.path, known.store.parts, sites={"a": 1}, dtype=torch.float32, about={}
    )
    assert store.complete


def test_repr_says_what_there_is(known: Any) -> None:
    text = repr(known.store)
    assert "13 rows x 3 sites, width 6, 10, float32" in text
    assert "labels: upos, depth" in text
    assert "unfinished" not in text


def test_default_folder_is_in_the_cache_by_key(cache_folder: Path, monkeypatch: Any) -> None:
    assert default_folder("abc") == cache_folder / "stores" / "abc"
    monkeypatch.delenv("LAYERSCOPE_CACHE")
    assert default_folder("abc").parts[-3:] == ("layerscope", "stores", "abc")
