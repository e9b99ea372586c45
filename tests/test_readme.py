"""What README.md tells people to type works as it stands there."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from layerscope import demo
from layerscope.analyses.training import Recorder, open_run
from layerscope.calibration.instruments.catalogue import CATALOGUE
from layerscope.cli import app
from layerscope.hooks.load import load_model, tokenizer_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a treebank under the names that README uses."""
    shutil.copytree(demo.folder() / "model", tmp_path / "path" / "to" / "model")
    treebank = gzip.decompress((demo.folder() / "sentences.conllu.gz").read_bytes()).decode()
    few = "\n\n".join(treebank.split("\n\n")[:250]) + "\n\n"
    (tmp_path / "en_ewt-ud-dev.conllu").write_text(few)
    questions = (demo.folder() / "questions.jsonl").read_text().splitlines()
    (tmp_path / "questions.jsonl").write_text("\n".join(questions[-6:]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recorded(folder: Path) -> str:
    """A training of three steps."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    recorder = Recorder(model, x, (x[:, 0] > 0).long(), layers=["1", "2"], to=folder, at=None)
    for step in range(3):
        recorder(step)
        with torch.no_grad():
            model[0].weight += 0.1
    return str(folder)


def test_the_python_calls_run(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from layerscope.corpus import builtin

    whole = builtin.bundled
    monkeypatch.setattr("layerscope.corpus.bundled", lambda: whole().take(150), raising=False)
    tokenizer = tokenizer_of(load_model("path/to/model"))
    batch = tokenizer("the cat sees the dog .", return_tensors="pt", return_token_type_ids=False)
    (code,) = blocks("python")
    asked = [question for question in demo.questions() if question.hops == 2][:6]
    names = {
        "batch": batch,
        "prompts": [question.prompt for question in asked],
        "answers": [question.answer for question in asked],
        "x": torch.randn(300, 2, generator=torch.Generator().manual_seed(0)),
        "y": torch.randn(300, 2, generator=torch.Generator().manual_seed(1)),
        "training_run": open_run(recorded(desk / "run")),
    }
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  (our own page)
    assert (desk / "report.html").stat().st_size > 100_000
    assert names["finding"].table["value"].between(0, 1).all()  # type: ignore[attr-defined]


def test_the_shell_commands_run(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = CATALOGUE[:6]  # each has a test of its own
    monkeypatch.setattr(import_module("layerscope.calibration.calibrate"), "CATALOGUE", few)
    lines = [
        line
        for block in blocks("bash")
        for line in block.splitlines()
        if line.startswith("layerscope ") and line != "layerscope demo"
    ]
    assert len(lines) >= 4
    run = recorded(desk / "run")
    for line in lines:
        words = shlex.split(line)[1:]
        real = {
            "MODEL": "path/to/model",
            "DATA": "en_ewt-ud-dev.conllu",
            "PROMPTS": "questions.jsonl",
            "RUN": run,
        }
        done = CliRunner().invoke(app, [real.get(word, word) for word in words])
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert (desk / "report.html").is_file()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", README, flags=re.MULTILINE))
    assert named
    assert named <= targets


def test_every_local_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing
