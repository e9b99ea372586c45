"""A training that is stopped, killed or asked again ends in the same bits."""

import signal
import subprocess
import sys
import time

import pytest
import torch

from layerscope.analyses import sae
from layerscope.analyses.sae.fitting import loop
from layerscope.analyses.sae.fitting.group import Group
from layerscope.analyses.sae.sae import SAE
from layerscope.demo import load_model, load_tokenizer


def rows() -> torch.Tensor:
    return torch.randn(600, 8, generator=torch.Generator().manual_seed(3))


def trained(to=None, **options) -> tuple[SAE, ...]:
    asked = {"k": (2, 4), "width": 24, "batch": 64, "tokens": 20 * 64, "dead_after": 300} | options
    return sae.train_together(rows(), to=to, progress=False, **asked)


def stopped_after(steps: int, train, *args, **options) -> None:
    """Press Ctrl-C while that step is being done."""
    step = Group.step

    def pressed(self, number, batch):
        if number == steps - 1:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Group, "step", pressed)
        with pytest.raises(KeyboardInterrupt, match=f"stopped after {steps} of"):
            train(*args, **options)


def same(ours: SAE, theirs: SAE) -> bool:
    mine, other = ours.state_dict(), theirs.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[n], other[n]) for n in mine)


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "gated"])
def test_ten_and_ten_steps_are_twenty(architecture, tmp_path) -> None:
    options = {"architecture": architecture}
    if architecture == "gated":
        options |= {"k": None, "l1": (0.1, 0.2)}
    whole = trained(**options)
    stopped_after(10, trained, to=tmp_path / "run", **options)
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    halves = trained(to=tmp_path / "run", **options)
    assert all(same(a, b) for a, b in zip(whole, halves, strict=True))
    columns = ["member", "step", "loss", "explained_variance", "l0", "dead_share"]
    for one, two in zip(whole, halves, strict=True):
        assert one.history.table[columns].equals(two.history.table[columns])
    assert "continued after 10 of 20 steps" in halves[0].history.notes
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_finished_training_is_given_back(tmp_path, monkeypatch) -> None:
    first = trained(to=tmp_path)
    monkeypatch.setattr(Group, "step", None)
    again = trained(to=tmp_path)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert again[1].history.table.equals(first[1].history.table)
    assert again[0].statistics is not None


def test_another_training_in_the_folder_is_refused(tmp_path) -> None:
    trained(to=tmp_path / "done")
    with pytest.raises(ValueError, match=r"latents is 24 there, 32 asked"):
        trained(to=tmp_path / "done", width=32)
    stopped_after(4, trained, to=tmp_path / "half")
    with pytest.raises(ValueError, match=r"seeds is \[0, 0\] there, \[5, 5\] asked"):
        trained(to=tmp_path / "half", seed=5)


def test_other_numbers_of_the_same_shape_are_another_training(tmp_path) -> None:
    options = {"k": 2, "width": 16, "batch": 64, "tokens": 640, "progress": False}
    sae.train(rows(), to=tmp_path / "done", **options)
    stopped_after(4, sae.train, rows(), to=tmp_path / "half", **options)
    for place in ("done", "half"):
        with pytest.raises(ValueError, match=r"rows.identity is '\w+' there"):
            sae.train(rows() + 1e-6, to=tmp_path / place, **options)


def test_another_model_of_the_same_class_is_another_training(tmp_path) -> None:
    model = load_model()
    options = {"k": 2, "width": 16, "batch": 8, "tokens": 64, "progress": False, "to": tmp_path}
    live = {"corpus": ["the old king saw a red bird"] * 3, "tokenizer": load_tokenizer()}
    first = sae.train(model, 1, **live, **options)
    assert same(first, sae.train(model, 1, **live, **options))
    with pytest.raises(ValueError, match=r"rows.identity is"):
        sae.train(model, 1, **(live | {"corpus": ["a red bird saw the old king"] * 3}), **options)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    with pytest.raises(ValueError, match=r"rows.identity is"):
        sae.train(model, 1, **live, **options)


def test_a_transcoder_of_another_kind_is_another_training(tmp_path) -> None:
    sites = {"a": rows(), "b": rows() + 1}
    options = {"width": 16, "batch": 64, "tokens": 640, "progress": False, "to": tmp_path}
    sae.train(sites, "a", target="b", architecture="topk", k=4, **options)
    with pytest.raises(
        ValueError, match=r"inner is .'architecture': 'topk'.* there, .'architecture': 'batchtopk'"
    ):
        sae.train(sites, "a", target="b", architecture="batchtopk", k=4, **options)


def test_what_others_left_in_the_folder_stays(tmp_path) -> None:
    sae.save(trained()[0], tmp_path / "theirs")
    before = (tmp_path / "theirs" / "sae_weights.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="holds an SAE that this training did not make"):
        trained(to=tmp_path / "theirs", k=2)
    assert (tmp_path / "theirs" / "sae_weights.safetensors").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file; give a folder"):
        trained(to=tmp_path / "file")


def test_a_checkpoint_of_another_site_is_refused(tmp_path) -> None:
    both = {"blocks.0.resid_post": rows(), "blocks.1.resid_post": rows() + 1}
    options = {"k": 2, "width": 16, "batch": 64, "progress": False, "to": tmp_path}
    stopped_after(4, sae.train, both, "blocks.0.resid_post", **options)
    with pytest.raises(ValueError, match=r"inputs is \[\['blocks.0.resid_post'\]\] there"):
        sae.train(both, "blocks.1.resid_post", **options)


def test_a_damaged_checkpoint_says_so(tmp_path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not this")
    with pytest.raises(ValueError, match=r"checkpoint.safetensors is damaged .* delete it"):
        trained(to=tmp_path)


def test_a_killed_process_goes_on(tmp_path) -> None:
    script = f"""
import torch
from layerscope.analyses import sae
from layerscope.analyses.sae.fitting import loop
loop.CHECKPOINT_SECONDS = 0.0
x = torch.randn(600, 8, generator=torch.Generator().manual_seed(3))
sae.train(x, k=2, width=24, batch=64, tokens=2000 * 64, progress=False, to={str(tmp_path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        checkpoint = tmp_path / "checkpoint.safetensors"
        deadline = time.monotonic() + 60
        while not checkpoint.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert checkpoint.is_file()
    options = {"k": 2, "width": 24, "batch": 64, "tokens": 2000 * 64, "progress": False}
    halves = sae.train(rows(), to=tmp_path, **options)
    whole = sae.train(rows(), **options)
    assert same(halves, whole)
    assert any("continued after" in note for note in halves.history.notes)


def test_ctrl_c_means_the_same_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    stopped_after(2, trained)
    assert signal.getsignal(signal.SIGINT) is before


def test_checkpoints_are_written_on_the_way(tmp_path, monkeypatch) -> None:
    written = []
    write = loop.Checkpoint.write
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(
        loop.Checkpoint,
        "write",
        lambda self, folder, plan: (written.append(self.step), write(self, folder, plan))[1],
    )
    trained(to=tmp_path)
    assert written[:3] == [1, 2, 3]
    assert written[-1] == 20
