"""Samples: the same batches from tensors, dicts and loaders, identified by their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from layerscope.corpus import Samples, read

X = torch.arange(60.0).reshape(10, 3, 2)
Y = torch.arange(10) % 3


def samples(source: Any, **how: Any) -> Samples:
    found = read(source, **how)
    assert isinstance(found, Samples)
    return found


def loader(*parts: Any, **how: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*parts), batch_size=4, **how)


def joined(found: Samples, size: int = 4) -> Tensor:
    return torch.cat([batch.args[0] for batch in found.batches(size)])


SOURCES = {
    "tensor": lambda: X,
    "array": lambda: X.numpy(),
    "loader": lambda: loader(X),
    "dataset": lambda: TensorDataset(X),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_every_source_gives_the_same_batches(make: Any) -> None:
    found = samples(make())
    assert len(found) == 10
    torch.testing.assert_close(joined(found), X)
    torch.testing.assert_close(joined(found), X)
    assert found.fingerprint == samples(X).fingerprint
    places = [(batch.start, batch.stop, len(batch.args[0])) for batch in found.batches(3)]
    assert places[0] == (0, 3, 3)
    assert [stop for _, stop, _ in places[:-1]] == [start for start, _, _ in places[1:]]
    assert places[-1][1] == 10
    assert found.groups.tolist() == [str(place) for place in range(10)]


def test_a_dict_is_keyword_arguments_with_labels_and_groups_taken_out() -> None:
    source = {"x": X, "digit": Y, "who": ["a", "b"] * 5, "image": torch.arange(10) // 2}
    found = samples(source, label=["digit", "who"], group="image", name="images")
    (batch,) = found.batches(99)
    assert (batch.args, list(batch.kwargs)) == ((), ["x"])
    assert found.labels["digit"].tolist() == Y.tolist()
    assert found.labels["who"].tolist() == ["a", "b"] * 5
    assert found.groups.tolist() == ["0", "0", "1", "1", "2", "2", "3", "3", "4", "4"]
    assert repr(found) == "Samples('images', 10 samples, inputs: x [3, 2], labels: digit, who)"


def test_lists_in_a_dict_are_labels_unless_others_are_named() -> None:
    source = {"x": X, "y": Y, "who": ["a"] * 10}
    assert list(samples(source).labels) == ["who"]
    assert list(next(samples(source).batches(1)).kwargs) == ["x", "y"]
    assert list(samples(source, label={"y": "digit"}).labels) == ["digit"]
    assert list(next(samples(source, label="y").batches(1)).kwargs) == ["x"]


def test_several_tensors_are_positional_arguments() -> None:
    (batch,) = samples((X, Y)).batches(10)
    assert len(batch.args) == 2
    torch.testing.assert_close(batch.args[1], Y)


def test_pairs_of_a_loader_are_input_and_label() -> None:
    found = samples(loader(X, Y))
    assert found.labels["label"].tolist() == Y.tolist()
    torch.testing.assert_close(joined(found), X)
    assert list(samples(loader(X, Y), label="digit").labels) == ["digit"]
    assert list(samples(loader(X, Y), label={"label": "digit"}).labels) == ["digit"]
    three = next(samples(loader(X, X, Y)).batches(2))
    assert (len(three.args), list(three.labels)) == (2, ["label"])


class Named(Dataset[dict[str, Any]]):
    """Padded sequences in dicts, as transformers collators make them."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        real = torch.arange(4) <= index % 4
        return {"input_ids": real.long() * index, "attention_mask": real.long(), "tags": real.long() * 2, "doc": f"d{index // 2}"}  # fmt: skip


def test_batches_of_dicts_carry_mask_labels_per_position_and_groups() -> None:
    found = samples(DataLoader(Named(), batch_size=4), label="tags", group="doc")
    first, second = found.batches(4)
    assert sorted(first.kwargs) == ["attention_mask", "input_ids"]
    assert first.mask is not None
    assert first.mask.dtype == torch.bool
    torch.testing.assert_close(first.mask.long(), first.kwargs["attention_mask"])
    assert (first.labels["tags"].shape, second.labels["tags"].shape) == ((4, 4), (2, 4))
    assert found.labels["tags"].shape == (6, 4)
    assert found.groups.tolist() == ["d0", "d0", "d1", "d1", "d2", "d2"]
    assert found.mask is not None
    assert found.mask.shape == (6, 4)


def test_a_mask_may_be_given() -> None:
    mask = torch.tensor([[1, 1, 0]] * 10)
    found = Samples(X, mask=mask, labels={"y": Y, "tag": np.ones((10, 3))}, groups=Y)
    batch = list(found.batches(4))[1]
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True, True, False]] * 4
    assert batch.labels["tag"].shape == (4, 3)
    assert batch.groups is not None
    assert batch.groups.tolist() == [str(y) for y in Y.tolist()[4:8]]
    assert samples(X).mask is None


def test_labels_of_differently_padded_batches_are_read_batch_by_batch() -> None:
    def collate(items: list[int]) -> dict[str, Tensor]:
        width = max(items) + 1
        return {"x": torch.zeros(len(items), width), "tag": torch.ones(len(items), width)}

    found = samples(DataLoader([0, 1, 2, 3], batch_size=2, collate_fn=collate), label="tag")  # type: ignore[arg-type]
    assert [batch.labels["tag"].shape for batch in found.batches(9)] == [(2, 2), (2, 4)]
    assert len(found.fingerprint) == 64
    with pytest.raises(ValueError, match="label 'tag' has another length in each batch"):
        found.labels  # noqa: B018


def test_how_strings_are_batched_does_not_enter_the_fingerprint() -> None:
    source = {"x": X, "who": ["a", "b", "c", "d", "longer", "e", "f", "g", "h", "i"]}
    pairs = [{"x": X[i], "who": source["who"][i]} for i in range(10)]
    streamed = samples(DataLoader(pairs, batch_size=3), label="who")  # type: ignore[arg-type]
    assert streamed.fingerprint == samples(source).fingerprint


def test_bf16_and_strings_have_fingerprints() -> None:
    half = samples({"x": X.bfloat16(), "who": ["a", "b"] * 5})
    assert half.fingerprint != samples({"x": X, "who": ["a", "b"] * 5}).fingerprint
    assert half.fingerprint != samples({"x": X.bfloat16(), "who": ["a", "c"] * 5}).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        lambda: samples(X + (X == 7)),
        lambda: samples(X.double()),
        lambda: samples(X.reshape(10, 2, 3)),
        lambda: samples({"0": X}),
        lambda: Samples(X, groups=Y),
        lambda: Samples(X, mask=torch.ones(10, 3)),
        lambda: Samples(X, labels={"y": Y}),
    ],
)
def test_any_change_changes_the_fingerprint(other: Any) -> None:
    assert other().fingerprint != samples(X).fingerprint


def test_a_change_in_place_changes_the_fingerprint() -> None:
    x = X.clone()
    found = samples(x)
    before = found.fingerprint
    x[3, 0, 0] = -1
    assert found.fingerprint != before


def test_a_known_fingerprint_stays() -> None:
    """Stores are keyed by it: another value makes every stored activation of users stale."""
    assert samples(loader(X, Y)).fingerprint[:12] == "e2ca88f70dd9"


def test_reading_a_loader_leaves_the_global_generator_alone() -> None:
    found = samples(loader(X, Y))
    state = torch.get_rng_state()
    joined(found)
    assert (torch.get_rng_state() == state).all()


class Stream(IterableDataset[Tensor]):
    """Counts how many samples were asked for."""

    def __init__(self) -> None:
        self.made = 0

    def __iter__(self) -> Iterator[Tensor]:
        for number in range(1000):
            self.made += 1
            yield torch.full((2,), float(number))


def test_a_loader_is_read_as_it_goes() -> None:
    stream = Stream()
    found = samples(DataLoader(stream, batch_size=5))
    stream.made = 0
    assert next(found.batches(5)).stop == 5
    assert stream.made <= 10
    assert len(found) == 1000


class Noisy(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.as_tensor(np.random.default_rng().normal(size=2))


def test_orders_and_contents_that_change_are_refused() -> None:
    with pytest.raises(ValueError, match=r"this DataLoader shuffles; .* shuffle=False"):
        read(loader(X, shuffle=True))
    with pytest.raises(ValueError, match="another first batch the second time"):
        read(DataLoader(Noisy(), batch_size=2))


@pytest.mark.parametrize(
    ("source", "how", "message"),
    [
        ({"x": X, "y": Y[:4]}, {"label": "y"}, "label 'y' has 4 samples, others have 10"),
        ({"x": X, "z": X[:4]}, {}, "input 'z' has 4 samples, others have 10"),
        ({"x": X, "y": Y}, {"label": "yy"}, "no 'yy' among these tensors; did you mean 'y'"),
        ({"x": X, "y": Y}, {"group": "doc"}, "no 'doc' among these tensors; there are: 'x', 'y'"),
        ({"x": X, "group": Y}, {"label": "group"}, "label 'group' is a column that rows always"),
        ({"y": Y}, {"label": "y"}, "there is no input tensor"),
        (X, {"label": "y"}, "label='y': bare tensors have no labels; give a dict"),
        (X, {"group": "y"}, "group='y': these samples have no names"),
        (X, {"text": "y"}, "text='y': tensors have no column of texts"),
        (X[:0], {}, "'samples' holds no samples"),
        (torch.tensor(1.0), {}, "input '0' is one number"),
    ],
)
def test_what_does_not_fit(source: Any, how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(source, **how)


def test_a_list_of_tensors_says_too_little() -> None:
    with pytest.raises(TypeError, match=r"give torch.stack\(...\) for samples, or a tuple"):
        read([X[0], X[1]])


def test_an_empty_loader_and_a_batch_of_none() -> None:
    with pytest.raises(ValueError, match="this DataLoader holds no samples"):
        read(DataLoader(TensorDataset(X[:0])))
    with pytest.raises(ValueError, match="a batch has at least 1 sample, not 0"):
        next(samples(X).batches(0))


def test_samples_read_as_themselves() -> None:
    found = samples(X)
    assert read(found) is found
    with pytest.raises(ValueError, match="label='y': this is a Samples already"):
        read(found, label="y")


def test_numbers_beside_texts_are_a_table(tmp_path: Path) -> None:
    corpus = read({"text": np.array(["a", "b"]), "n": [1, 2]})
    assert [dict(text.labels) for text in corpus] == [{"n": 1}, {"n": 2}]
