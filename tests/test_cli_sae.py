"""`layerscope sae`: train, eval and features, and what they refuse."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from layerscope import demo
from layerscope.analyses.sae import load
from layerscope.cli.app import app
from layerscope.finding import Finding

MODEL = demo.folder() / "model"
FEW = ("--width", 24, "-k", 4, "--batch", 128, "--tokens", 1280, "-q")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from layerscope.corpus import bundled
    from layerscope.hooks.extract import extract

    folder = tmp_path_factory.mktemp("sae") / "store"
    extract(demo.load_model(), bundled().take(60), [2, 3], to=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "sae"
    done = run("sae", "train", store, "--layer", 2, "--to", folder, *FEW)
    assert done.exit_code == 0, done.output
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_train_writes_an_sae_that_loads(trained: Path) -> None:
    sae = load(trained)
    assert (sae.site, sae.n_latents, sae.k) == ("blocks.2.resid_post", 24, 4)
    assert Finding.load(trained / "history").answer()


def test_train_says_what_to_do_next(store: Path, tmp_path: Path) -> None:
    done = run("sae", "train", store, "--layers", "2,3", "--to", tmp_path / "two", *FEW)
    assert done.exit_code == 0, done.output
    assert done.output.count("explained variance") >= 2
    assert "next: layerscope sae eval" in done.output
    assert len(list((tmp_path / "two").glob("*/cfg.json"))) == 2


def test_several_k_train_together(store: Path, tmp_path: Path) -> None:
    few = [x for x in FEW if x not in ("-q", "-k", 4)]
    done = run(
        "sae", "train", store, "--layer", 2, "--to", tmp_path / "ks", *few, "-k", "2,4", "--json"
    )
    assert done.exit_code == 0, done.output
    body = json.loads(done.stdout)
    assert [each["table"][-1]["asked_k"] for each in body["saes"]] == [2, 4]


def test_a_running_model_is_trained_on(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("the cat sees the dog .\nthe old king reads a book .\n" * 20)
    done = run("sae", "train", MODEL, texts, "--layer", 2, "--to", tmp_path / "live", *FEW)
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "live").site == "blocks.2.resid_post"


def test_eval_prints_measures_beside_baselines(trained: Path, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    done = run("sae", "eval", trained, store, "--rows", 500, "--out", out, "-q")
    assert done.exit_code == 0, done.output
    assert "explained variance" in done.output
    assert "next: layerscope report" in done.output
    assert {"random", "pca"} <= set(Finding.load(out).table)


def test_features_are_saved_for_the_report(trained: Path, store: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "found", tmp_path / "page.html"
    done = run(
        "sae", "features", trained, store, "--model", MODEL, "--label", "upos", "--layout", "pca",
        "--shown", 4, "--out", out, "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert len(Finding.load(out).table) == 24
    assert run("report", out, "--out", page).exit_code == 0
    assert "latent" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--layer", 2], "where shall the SAE go. Pass --to FOLDER"),
        (["--to", "x"], "which layer. Pass --layer, such as --layer 3; the store has blocks.2"),
        (["--to", "x", "--layer", 9], "layer 9 is not in this store"),
        (["--to", "x", "--layer", 2, "-k", "many"], "-k many: give whole numbers"),
        (["--to", "x", "--layer", 2, "--width", 8, "-k", 9], "k=9 of 8 latents"),
        (["--to", "x", "--layer", 2, "--architecture", "topkk"], "did you mean 'topk'"),
        (["--to", "x", "--layer", 2, "--target", 3, "-k", "2,4"], "-k has 2 values; a transcoder"),
    ],
)
def test_train_refuses(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, LookupError), match=said):
        CliRunner().invoke(
            app, ["sae", "train", str(store), *map(str, arguments), "-q"], catch_exceptions=False
        )


def test_eval_of_what_is_no_sae_says_so(store: Path, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=r"no SAE|not there|no such|is no"):
        CliRunner().invoke(app, ["sae", "eval", str(tmp_path), str(store)], catch_exceptions=False)


def test_an_interrupted_training_says_where_it_stands(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerscope.analyses.sae.fitting.group import Group

    step = Group.step

    def pressed(self: Group, number: int, batch: Any) -> Any:
        if number == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, batch)

    monkeypatch.setattr(Group, "step", pressed)
    arguments = ("sae", "train", store, "--layer", 2, "--to", tmp_path / "half", *FEW)
    done = run(*arguments)
    assert done.exit_code == 130
    assert "stopped after 4 of 10 steps; the same call goes on" in done.stderr
    with pytest.raises(ValueError, match="a training that has not ended; the call that began it"):
        load(tmp_path / "half")
    monkeypatch.setattr(Group, "step", step)
    assert run(*arguments).exit_code == 0
    history = load(tmp_path / "half").history
    assert history is not None
    assert "continued after 4 of 10 steps" in history.notes


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("pass batch=203 or fewer", "pass --batch 203 or fewer"),
        ("pass tokens=, such as 10", "pass --tokens, such as 10"),
        ("give tokenizer='gpt2'", "give --tokenizer 'gpt2'"),
    ],
)
def test_errors_speak_the_words_of_the_command(library: str, command: str) -> None:
    from layerscope.cli import _in_words_of_the_command

    assert _in_words_of_the_command(library) == command
