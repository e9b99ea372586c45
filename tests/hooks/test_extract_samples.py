"""Extraction from models that do not read text: rows of images, sequences and plain vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from layerscope.corpus import Samples
from layerscope.hooks.extract import extract


@pytest.fixture
def cnn() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 5)
        ).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(11, 1, 4, 4, generator=torch.Generator().manual_seed(1))


class Tagger(nn.Module):
    """A recurrent network over ids, padded with 0."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.emb = nn.Embedding(9, 6)
        self.rnn = nn.LSTM(6, 7, batch_first=batch_first)
        self.batch_first = batch_first

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids)
        states, _ = self.rnn(x if self.batch_first else x.transpose(0, 1))
        return states  # type: ignore[no-any-return]


def test_maps_become_their_mean_their_pixels_or_one_long_row(
    cnn: nn.Sequential, images: Tensor
) -> None:
    maps = cnn[:2](images).detach()
    data = Samples(images, labels={"digit": np.arange(11) % 3})
    mean = extract(cnn, data, "1", progress=False)
    torch.testing.assert_close(mean["1"][:], maps.mean((2, 3)))
    assert mean.rows["digit"].tolist() == (np.arange(11) % 3).tolist()
    long = extract(cnn, data, "1", rows="flatten", progress=False)
    torch.testing.assert_close(long["1"][:], maps.flatten(1))
    pixels = extract(cnn, data, "1", rows="positions", progress=False)
    torch.testing.assert_close(pixels["1"][:], maps.permute(0, 2, 3, 1).reshape(-1, 3))
    assert pixels.rows["digit"].tolist() == np.repeat(np.arange(11) % 3, 16).tolist()


@pytest.mark.parametrize("size", [1, 4, 64])
def test_the_batch_size_does_not_matter(cnn: nn.Sequential, images: Tensor, size: int) -> None:
    store = extract(cnn, images, ["1", "3"], batch_tokens=size, progress=False)
    torch.testing.assert_close(store["3"][:], cnn(images).detach())


def test_a_loader_gives_the_rows_of_its_tensors(cnn: nn.Sequential, images: Tensor) -> None:
    loader = DataLoader(TensorDataset(images, torch.arange(11)), batch_size=3)
    store = extract(cnn, loader, "3", progress=False)
    torch.testing.assert_close(store["3"][:], cnn(images).detach())
    assert store.rows["label"].tolist() == list(range(11))


@pytest.mark.parametrize("batch_first", [True, False])
def test_positions_of_a_padded_sequence_drop_the_pads(batch_first: bool) -> None:
    torch.manual_seed(0)
    model = Tagger(batch_first).eval()
    ids = torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0], [6, 7, 8, 1]])
    letters = [["a", "b", "c", None], ["d", "e", None, None], ["f", "g", "h", "a"]]
    data = Samples(ids, mask=ids != 0, labels={"letter": letters})
    store = extract(model, data, ["emb", "rnn"], rows="positions", progress=False)
    want = torch.cat([model(ids[i : i + 1, :n]).reshape(n, 7) for i, n in enumerate((3, 2, 4))])
    torch.testing.assert_close(store["rnn"][:], want.detach())
    assert store.rows["letter"].tolist() == list("abcdefgha")
    assert store.rows["sample"].tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert store.rows["position"].tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]


def test_the_mean_of_a_padded_sequence_leaves_the_pads_out() -> None:
    torch.manual_seed(0)
    model = Tagger().eval()
    ids = torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0]])
    store = extract(model, Samples(ids, mask=ids != 0), "emb", progress=False)
    states = model.emb(ids).detach()
    torch.testing.assert_close(store["emb"][:], torch.stack([states[0, :3].mean(0), states[1, 0]]))


def test_sites_with_different_rows_are_refused(cnn: nn.Sequential, images: Tensor) -> None:
    with pytest.raises(ValueError, match="extract it by itself, or use rows='mean'"):
        extract(cnn, images, ["1", "3"], rows="positions", progress=False)


def test_an_unknown_row_rule_is_refused(cnn: nn.Sequential, images: Tensor) -> None:
    with pytest.raises(ValueError, match="mean, flatten, positions"):
        extract(cnn, images, "1", rows="tokens", progress=False)


def test_many_samples_make_several_shards(
    cnn: nn.Sequential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import layerscope.hooks.extracting.sample_feed as module

    monkeypatch.setattr(module, "MOST_SAMPLES", 20)
    images = torch.randn(75, 1, 4, 4)
    store = extract(cnn, images, "3", to=tmp_path / "store", progress=False)
    assert len(list(tmp_path.glob("store/shards/*.safetensors"))) == 4
    torch.testing.assert_close(store["3"][:], cnn(images).detach())


def test_labels_among_the_inputs_are_answered_with_where_they_go(
    cnn: nn.Sequential, images: Tensor
) -> None:
    both = Samples((images, torch.arange(11)))
    said = r"Sequential was called with 2 tensors: .* Labels are no inputs"
    with pytest.raises(TypeError, match=said):
        extract(cnn, both, "0", progress=False)


def test_an_error_inside_the_model_is_told_as_it_is(images: Tensor) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x + None)  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match=r"^unsupported operand") as raised:
        extract(Broken(), Samples(images), "conv", progress=False)
    assert "Labels" not in str(raised.value)
