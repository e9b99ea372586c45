"""The command line: what it prints for people and programs, and how it refuses."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from layerscope.cli import CHECK_FAILED, REFUSED, app, main
from layerscope.store import Store

CLASSES = {"the": "DET", "a": "DET", "cat": "NOUN", "dog": "NOUN", "sees": "VERB", "hears": "VERB"}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A saved random GPT-2 with its tokenizer, as `save_pretrained` leaves it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=300, n_positions=64)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def treebank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty sentences of five words, two to a document."""
    lines = []
    words = list(CLASSES)
    for i in range(40):
        lines += [f"# newdoc id = d{i // 2}"] if i % 2 == 0 else []
        chosen = [
            words[i % 2],
            words[2 + i % 2],
            words[4 + i % 2],
            words[1 - i % 2],
            words[3 - i % 2],
        ]
        lines += [f"# sent_id = s{i}", f"# text = {' '.join(chosen)}"]
        for n, word in enumerate(chosen, 1):
            lines.append(f"{n}\t{word}\t{word}\t{CLASSES[word]}\t_\t_\t{int(n > 1)}\tdep\t_\t_")
        lines.append("")
    path = tmp_path_factory.mktemp("data") / "small.conllu"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: object) -> str:
    """Run the real entry point; it must exit with REFUSED. Returns stderr."""
    monkeypatch.setattr(sys, "argv", ["layerscope", *map(str, arguments)])
    with pytest.raises(SystemExit, match=str(REFUSED)) as stop:
        main()
    assert stop.value.code == REFUSED
    error: str = capsys.readouterr().err
    assert re.search(r"^error: ", error, flags=re.MULTILINE)
    assert "Traceback" not in error
    return error


def test_anatomy_prints_the_tree_and_json(model_folder: Path) -> None:
    plain = run("anatomy", model_folder)
    assert plain.exit_code == 0
    assert "GPT2LMHeadModel" in plain.output
    body = json.loads(run("anatomy", model_folder, "--json").output)
    assert [block["path"] for block in body["blocks"]] == ["transformer.h.0", "transformer.h.1"]
    assert "blocks.1.resid_post" in body["sites"]
    assert all(check["passed"] is not False for check in body["checks"])


def test_anatomy_exits_with_its_own_code_when_a_check_fails(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    import layerscope.hooks.anatomy as module

    look = module.anatomy

    def doubting(model: Any) -> Any:
        found = look(model)
        failed = dataclasses.replace(found.checks[0], passed=False)
        return dataclasses.replace(found, checks=(failed, *found.checks[1:]))

    monkeypatch.setattr(module, "anatomy", doubting)
    assert run("anatomy", model_folder).exit_code == CHECK_FAILED


def test_dump_then_probe_then_report(model_folder: Path, treebank: Path, tmp_path: Path) -> None:
    store, finding, page = tmp_path / "store", tmp_path / "finding", tmp_path / "report.html"
    dumped = run("dump", model_folder, treebank, "--out", store, "--json")
    assert dumped.exit_code == 0, dumped.output
    body = json.loads(dumped.stdout)
    assert list(body["sites"]) == ["embed", "blocks.0.resid_post", "blocks.1.resid_post"]
    assert body["rows"] == len(Store.open(store))

    probed = run("probe", store, "--label", "upos", "--out", finding, "--json")
    assert probed.exit_code == 0, probed.output
    body = json.loads(probed.stdout)
    assert {line["site"] for line in body["table"]} == {
        "embed",
        "blocks.0.resid_post",
        "blocks.1.resid_post",
    }

    reported = run("report", finding, "--out", page)
    assert reported.exit_code == 0, reported.output
    assert "upos" in page.read_text()


def test_dump_of_chosen_layers_and_texts(
    model_folder: Path, treebank: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    done = run(
        "dump", model_folder, treebank, "--layers", "-1,blocks.0.mlp_out", "--out", out,
        "--rows", "words", "--dtype", "bfloat16", "--limit", 3, "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    store = Store.open(out)
    assert list(store.sites) == ["blocks.0.mlp_out", "blocks.1.resid_post"]
    assert len(store) == 15


def test_a_model_can_be_a_function_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Linear(4, 4), nn.ReLU())\n"
    )
    done = run("anatomy", f"{tmp_path}/mine.py:build")
    assert done.exit_code == 0
    assert "Sequential" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["anatomy", "./no/such/model"], "does not exist"),
        (["anatomy", "nothing.py:build"], "no file 'nothing.py'"),
        (["dump", "MODEL", "./nothing.conllu"], "nothing.conllu"),
        (["dump", "MODEL", "DATA", "--layers", "7"], "7"),
        (["dump", "MODEL", "DATA", "--layers", "blocks.0.resid_pots"], "blocks.0.resid_post"),
        (["dump", "MODEL", "DATA", "--dtype", "int8"], "float32, bfloat16, float16"),
        (["dump", "MODEL", "DATA", "--rows", "letters"], "tokens, words"),
        (["probe", "MODEL", "DATA", "--label", "upas"], "upos"),
        (["report", "./nothing"], "nothing"),
    ],
)
def test_wrong_input_is_refused_with_the_next_step(
    arguments: list[str],
    says: str,
    model_folder: Path,
    treebank: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    real = {"MODEL": str(model_folder), "DATA": str(treebank)}
    error = refused(monkeypatch, capsys, *(real.get(word, word) for word in arguments))
    assert says in error


def test_a_wrong_command_line_is_a_usage_error() -> None:
    assert run("dump").exit_code == 2
    assert run("no-such-command").exit_code == 2
