"""Whole folders: what is recognised, what is refused, and what a stopped `save` leaves."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerscope.analyses.sae.formats import saelens, save_load
from layerscope.analyses.sae.formats.save_load import load, save
from layerscope.analyses.sae.rows.statistics import statistics_of
from layerscope.analyses.sae.sae import SAE

D, F = 12, 30


@pytest.fixture
def sae(draw, torched) -> SAE:
    weights = torched({"a": draw(D, F), "b": draw(F), "c": draw(F, D), "d": draw(D)})
    return SAE(*weights.values(), about={"site": "blocks.3.resid_post"})


def test_statistics_travel_with_it(sae, x, tmp_path) -> None:
    sae.statistics = statistics_of(torch.from_numpy(x), "blocks.3.resid_post")
    found = load(save(sae, tmp_path)).statistics
    assert found is not None
    assert (found.site, found.rows) == ("blocks.3.resid_post", len(x))
    assert found.mean_norm == sae.statistics.mean_norm
    assert torch.equal(found.mean, sae.statistics.mean)
    assert torch.equal(found.variance, sae.statistics.variance)


def test_without_statistics_there_are_none(sae, x, tmp_path) -> None:
    sae.statistics = statistics_of(torch.from_numpy(x), "blocks.3.resid_post")
    save(sae, tmp_path)
    sae.statistics = None
    assert load(save(sae, tmp_path, overwrite=True)).statistics is None


def test_damaged_statistics_are_said(sae, x, tmp_path) -> None:
    save(sae, tmp_path)
    save_file({"mean": torch.zeros(D)}, tmp_path / "statistics.safetensors")
    with pytest.raises(ValueError, match=r"statistics\.safetensors is damaged .* delete it to"):
        load(tmp_path)


def test_nothing_is_overwritten_unasked(sae, tmp_path) -> None:
    save(sae, tmp_path)
    with pytest.raises(FileExistsError, match="holds an SAE already; give another folder"):
        save(sae, tmp_path)
    sae.b_dec.data += 1
    save(sae, tmp_path, overwrite=True)
    assert torch.equal(load(tmp_path).b_dec, sae.b_dec)


@pytest.mark.parametrize("stopped_at", ["layerscope.json", "sae_weights.safetensors", "cfg.json"])
@pytest.mark.parametrize("before", [True, False])
def test_a_stopped_save_leaves_no_sae(sae, tmp_path, monkeypatch, stopped_at, before) -> None:
    """Killed while a file is written: neither half a file nor old and new ones together."""
    if before:
        save(sae, tmp_path)
    publish = saelens.publish

    def killed(path, parts, size):
        if path.name == stopped_at:
            raise KeyboardInterrupt
        publish(path, parts, size)

    monkeypatch.setattr(saelens, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        save(sae, tmp_path, overwrite=True)
    assert not (tmp_path / "cfg.json").exists()
    assert [name for name in os.listdir(tmp_path) if name.endswith(".part")] == []
    weights = (tmp_path / "sae_weights.safetensors").exists()
    words = r"lies without its cfg\.json" if weights else "is no SAE of a known format"
    with pytest.raises(ValueError, match=words):
        load(tmp_path)


def test_about_must_be_json(sae, tmp_path) -> None:
    save(sae, tmp_path)
    sae.about["rows"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"layerscope\.json: `about` must hold JSON values only"):
        save(sae, tmp_path, overwrite=True)
    assert "rows" not in load(tmp_path).about


def test_the_device_is_an_argument(sae, tmp_path) -> None:
    assert load(save(sae, tmp_path), device="meta").W_enc.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_writes_and_reads_the_same(sae, x, tmp_path) -> None:
    save(sae.cuda(), tmp_path)
    found = load(tmp_path, device="cuda")
    assert torch.equal(found.W_enc, sae.W_enc)
    assert found.W_enc.is_cuda


# What cannot be recognised


def test_no_such_path(tmp_path) -> None:
    with pytest.raises(
        FileNotFoundError, match="nowhere does not exist; nothing is downloaded here"
    ):
        load(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"is no SAE of a known format .* there is nothing"):
        load(tmp_path)


def test_an_unknown_format(sae, tmp_path) -> None:
    with pytest.raises(ValueError, match="format 'saelen'; there are saelens, sparsify"):
        load(save(sae, tmp_path), "saelen")


def test_k_is_not_ignored(sae, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"\(saelens\) says itself how many .*: leave out k=9"):
        load(save(sae, tmp_path), k=9)


def test_a_class_is_not_ignored(sae, tmp_path) -> None:
    with pytest.raises(ValueError, match="'saelens:TopK': only dictionary_learning has classes"):
        load(save(sae, tmp_path), "saelens:TopK")


def test_one_precision_for_all(sae, tmp_path) -> None:
    save(sae, tmp_path)
    tensors = {name: x.double() if x.ndim == 1 else x for name, x in sae.named_parameters()}
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    assert {x.dtype for x in load(tmp_path).parameters()} == {torch.float32}


def test_unknown_keys_are_shown(tmp_path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "model.pt")
    with pytest.raises(
        ValueError, match=r"its keys are weight\. If it is one of them, pass format="
    ):
        load(tmp_path)


def test_several_files_are_not_guessed(tmp_path) -> None:
    for name in ("1.pt", "2.pt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(ValueError, match=r"holds 2 SAEs: load one of 1\.pt, 2\.pt"):
        load(tmp_path)


def test_several_folders_are_not_guessed(sae, tmp_path) -> None:
    for name in ("k16", "k32"):
        save(sae, tmp_path / name)
    with pytest.raises(ValueError, match="holds 2 SAEs: load one of k16, k32"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_file_of_the_folder_stands_for_it(sae, tmp_path, name) -> None:
    assert torch.equal(load(save(sae, tmp_path) / name).W_enc, sae.W_enc)


def test_a_newer_layerscope_is_said(sae, tmp_path) -> None:
    save(sae, tmp_path)
    path = tmp_path / "layerscope.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match=r"has format 99, this version reads 1; update layerscope"):
        load(tmp_path)


# Pickles


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("name", ["ae.pt", "layer3.sae.pt", "5.pt", "model.pth"])
def test_objects_in_a_pytorch_file_are_not_run(tmp_path, monkeypatch, name) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"encoder.weight": torch.zeros(F, D), "bomb": Bomb()}, tmp_path / name)
    with pytest.raises(ValueError, match=r"holds more than tensors; .* save its state_dict"):
        load(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_plain_pickle_is_not_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ae.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(ValueError, match=r"ae\.pt holds more than tensors|no PyTorch file"):
        load(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_objects_in_a_numpy_archive_are_not_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "params.npz", W_enc=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match=r"params\.npz is damaged or holds Python objects"):
        load(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_every_torch_load_is_of_weights_only(monkeypatch, tmp_path) -> None:
    seen = []
    original = torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: seen.append(k.get("weights_only")) or original(*a, **k)
    )
    torch.save({"weight": torch.zeros(3)}, tmp_path / "x.pt")
    for name in ("openai", "crosscoder", "qwen_scope", "dictionary_learning"):
        with pytest.raises(ValueError, match="no key"):
            load(tmp_path / "x.pt", name)
    assert seen == [True] * 4


def test_the_list_of_formats_is_whole() -> None:
    assert len(save_load.FORMATS) == len(set(save_load.FORMATS)) == 9
