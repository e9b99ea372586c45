"""What the pages of docs/ tell people to type works: their code runs, and their comments say what comes out."""

from __future__ import annotations

import ast
import doctest
import gzip
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import layerscope as ls
from layerscope import demo
from layerscope.cli import app
from layerscope.corpus import bundled

DOCS = Path(__file__).resolve().parents[1] / "docs"
Names = dict[str, Any]


def code(name: str, language: str) -> list[str]:
    """Blocks of code of a page; those inside tabs lose their indent."""
    text = (DOCS / name).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\b.*?\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


PAGES = [str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))]
FETCHING = {"index.md"}
"""Loads a model of the hub; start.md says the same with a folder."""
RUN = [name for name in PAGES if name not in FETCHING and code(name, "python")]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpt2: Any, tokenizer: Any) -> Path:
    """A folder with a model, texts and a store under the names that the pages use."""
    folder = tmp_path / "desk"
    for part in (gpt2, tokenizer):
        part.save_pretrained(folder / "path" / "to" / "model")
    treebank = gzip.decompress((demo.folder() / "sentences.conllu.gz").read_bytes()).decode()
    few = "\n\n".join(treebank.split("\n\n")[:60]) + "\n\n"
    (folder / "texts.conllu").write_text(few)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return folder


def run(block: str, names: Names) -> int:
    """Run code statement by statement; how many had a value in their comment, which is then theirs."""
    told = 0
    for statement in ast.parse(block).body:
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), "page", "exec"), names)  # noqa: S102
            continue
        got = eval(compile(ast.Expression(statement.value), "page", "eval"), names)
        line = block.splitlines()[(statement.end_lineno or 1) - 1]
        comment = re.search(r"  # (\[[\d, ]+\]|\d[\d.]*|True|False|\(\))([:,] .*)?$", line)
        if comment and got is not None:  # as print gives
            assert str(list(got) if isinstance(got, torch.Size) else got) == comment[1], line
            told += 1
    return told


TOLD = {
    "capture.md": 9,
    "concepts/rows.md": 1,
    "concepts/sites.md": 2,
    "concepts/stores.md": 1,
    "concepts/what-ifs.md": 2,
    "edits.md": 5,
    "replay.md": 12,
    "training_runs.md": 1,
}
"""Page -> how many of its comments say a value."""


def back_patched(names: Names) -> None:
    assert "At the last token" in names["finding"].answer()


def mapped_by_depth(names: Names) -> None:
    best = names["finding"].best
    # A model maps to itself; ridge and few rows leave a little.
    assert (best["source_index"] == best["target_index"]).all()
    assert best["value"].max() < 0.05


def programmed(names: Names) -> None:
    table = names["finding"].table
    assert set(table["search"]) == {"answer", "control", "fixed"}
    assert table["tries"].max() == 60


def read_by_lens(names: Names) -> None:
    assert names["kept"].kind == "affine"
    assert names["finding"].lenses == ["logit", "affine"]


def informed(names: Names) -> None:
    assert names["finding"].verdict == "unreliable"
    assert set(names["by_layer"].sites["verdict"]) == {"value"}


def patched(names: Names) -> None:
    text = (DOCS / "patching.md").read_text(encoding="utf-8")
    page = " ".join(text.replace("\n>", "").split())
    for name in ("finding", "estimated"):
        assert names[name].answer() in page
    assert set(names["cut"].table["flow"]) == {"last ⇸ name", "last ⇸ relations"}
    assert names["traced"].table["n"].max() <= 2


def trained(names: Names) -> None:
    assert int((names["codes"] != 0).sum(1).max()) <= 8
    assert names["again"].shape == (10, names["sae"].d_out)
    assert 0.3 < names["finding"].value("explained_variance") < 1


def made(names: Names) -> None:
    assert names["sae"].activation == "jumprelu"


def looked_at(names: Names) -> None:
    assert Path("features.html").is_file()
    page = (DOCS / "sae_features.md").read_text(encoding="utf-8")
    said = set(re.findall(r"`(\w+)`", page.split("## What is computed")[1]))
    assert set(names["finding"].table) - {"label", "n", "latent"} <= said


def read_and_written(names: Names) -> None:
    assert repr(names["again"]) == "SAE(topk k=8, 64 -> 256 latents -> 64 at blocks.3.resid_post)"
    theirs = {"format": "dictionary_learning", "architecture": "AutoEncoder"}
    assert names["theirs"].about == theirs
    files = {"cfg.json", "layerscope.json", "sae_weights.safetensors"}
    assert {path.name for path in names["folder"].iterdir()} == files


def measured(names: Names) -> None:
    assert 0 < names["finding"].value("explained_variance") < 1


def read_rows(names: Names) -> None:
    assert names["x"].shape == (64, 64) or names["x"].ndim == 2


def recorded(names: Names) -> None:
    run = names["run"]
    assert run.seeds == (0, 1)
    assert run.noise == "additive Gaussian noise of sd 0.3 at 2, 5"
    assert run.activations(16, "5").shape == (2, 597, 16)
    assert len(run.scores) == 2 * len(run.steps)
    trainer = names["open_run"](Path(names["to"]) / "trainer")
    assert trainer.steps == (0, 1, 2, 3, 4)
    assert names["mine"].steps == (0, 9)


def kept_trees(names: Names) -> None:
    assert Path("trees.safetensors").is_file()


HOLDS: dict[str, Callable[[Names], None]] = {
    "back_patching.md": back_patched,
    "depth_use.md": mapped_by_depth,
    "layer_programs.md": programmed,
    "lens.md": read_by_lens,
    "mutual_information.md": informed,
    "patching.md": patched,
    "sae.md": trained,
    "sae_architectures.md": made,
    "sae_features.md": looked_at,
    "sae_formats.md": read_and_written,
    "sae_measures.md": measured,
    "sae_rows.md": read_rows,
    "training_runs.md": recorded,
    "tree_probes.md": kept_trees,
}
"""Page -> what holds after its code has run."""


@pytest.mark.parametrize("name", RUN)
def test_the_code_of_a_page_runs(name: str, desk: Path, request: pytest.FixtureRequest) -> None:
    blocks = code(name, "python")
    if "../shared/data" in "".join(blocks):
        (desk.parent / "shared").symlink_to(request.getfixturevalue("shared_data").parent)
    if name == "store.md":  # which reads one that is there
        ls.extract(demo.load_model(), bundled().take(300), [3], to="my-store", progress=False)
    names: Names = {}
    with torch.random.fork_rng():
        told = sum(run(block, names) for block in blocks)
    assert told == TOLD.get(name, 0)
    HOLDS.get(name, lambda _: None)(names)


def test_every_page_with_code_is_run() -> None:
    assert set(PAGES) - set(RUN) == {
        *FETCHING,
        "architecture.md",
        "corpus.md",  # a session, below
        "glossary.md",
        "performance.md",
        "reference.md",
        "shell.md",
        "stories.md",
    }
    for name in RUN:
        assert len(code(name, "python")) == (DOCS / name).read_text().count("```python"), name


def test_the_sessions_of_the_page_of_corpora(desk: Path) -> None:
    text = (DOCS / "corpus.md").read_text(encoding="utf-8")
    for name, content in re.findall(r'```conllu title="(.*?)"\n(.*?)```', text, re.DOTALL):
        Path(name).write_text(content)
    # Only the fenced examples: doctest would take the closing fence for output.
    examples = "\n".join(code("corpus.md", "pycon"))
    test = doctest.DocTestParser().get_doctest(examples, {}, "corpus.md", "docs/corpus.md", 0)
    failed, tried = doctest.DocTestRunner().run(test)
    assert tried > 20
    assert failed == 0


def test_the_commands_of_the_first_page_run(desk: Path) -> None:
    lines = [line for block in code("start.md", "bash") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("layerscope ") and "demo" not in line]
    assert len(commands) == 4
    for command in commands:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}"
    assert (desk / "report.html").is_file()
