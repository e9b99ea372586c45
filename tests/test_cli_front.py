"""The front of the command line: groups, help, version, slips, Ctrl-C, completion."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from layerscope.cli import app, checks, main
from layerscope.cli import data as data_command
from layerscope.cli.choices import among
from layerscope.cli.commands import COMMANDS
from layerscope.cli.front import INTERRUPTED
from layerscope.cli.geometry import MEASURES
from layerscope.cli.opening import open_page
from layerscope.cli.options import FORMATS
from layerscope.cli.sae_training import ARCHITECTURES
from layerscope.cli.waiting import waiting


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(result: Any) -> str:
    """What was printed, without the box around it."""
    return " ".join(result.output.replace("│", " ").split())


def registered() -> list[str]:
    names = [info.name or info.callback.__name__ for info in app.registered_commands]
    for group in app.registered_groups:
        inner = group.typer_instance
        assert inner is not None
        names.append(str(group.name))
        for info in inner.registered_commands:
            assert info.callback is not None
            names.append(f"{group.name} {info.name or info.callback.__name__}")
    return names


def refused(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: object) -> str:
    """Run the real entry point; it must refuse. Returns the line that says why."""
    monkeypatch.setattr(sys, "argv", ["layerscope", *map(str, arguments)])
    with pytest.raises(SystemExit, match="1"):
        main()
    lines: list[str] = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == "(LAYERSCOPE_DEBUG=1 shows where)"
    assert lines[0].startswith("error: ")
    return " ".join(lines[:-1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place with a model, a store, a finding, texts and a page; the hub is not to be asked."""
    for name, mark in (("model", "config.json"), ("finding", "finding.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / mark).write_text('{"num_hidden_layers": 3}')
    (tmp_path / "acts" / "shards").mkdir(parents=True)
    sites = {"embed": {}, "blocks.0.resid_post": {}}
    about = {"model": "tiny"}
    (tmp_path / "acts" / "store.json").write_text(json.dumps({"sites": sites, "about": about}))
    pd.DataFrame({"text": [0], "token": ["a"], "upos": ["X"], "deprel": ["y"]}).to_parquet(
        tmp_path / "acts" / "shards" / "000000.parquet"
    )
    (tmp_path / "texts.conllu").write_text("1\ta\ta\tX\t_\t_\t0\troot\t_\t_\n\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "page.html").write_text("<p>")
    (tmp_path / "build.py").write_text("def build():\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("layerscope.hooks.model_names._ask_hub", _not_asked)
    return tmp_path


def _not_asked(name: str) -> None:
    raise AssertionError(f"the hub was asked for {name}")


def test_every_command_has_its_place_in_the_list() -> None:
    assert set(registered()) == set(COMMANDS)
    help_text = said(run("--help"))
    groups = list(dict.fromkeys(entry.group for entry in COMMANDS.values()))
    places = [help_text.index(group) for group in groups]
    assert places == sorted(places)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"sae"}))
def test_help_ends_in_an_example(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0, result.output
    for example in COMMANDS[command].examples:
        assert example in said(result)


def test_dump_names_every_format_it_reads() -> None:
    from layerscope.corpus.reading import KINDS

    assert set(KINDS) == set(re.findall(r"\.\w+", FORMATS)) - {".gz"}
    assert ".json " in said(run("dump", "--help"))


def test_names_offered_by_the_shell_are_those_there_are() -> None:
    from layerscope.analyses.resemblance.cells import MEASURES as MEASURED
    from layerscope.analyses.sae.architectures.catalogue import ARCHITECTURES as TRAINED

    assert tuple(MEASURED) == MEASURES
    assert set(TRAINED) == set(ARCHITECTURES)


def test_version() -> None:
    import layerscope

    result = run("--version")
    assert result.exit_code == 0
    assert result.output.strip() == f"layerscope {layerscope.__version__}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["prob"], "Did you mean 'probe'?"),
        (["cluster"], "There are demo, anatomy, survey, dump, probe"),
        (["train"], "Did you mean 'sae train'?"),
        (["sae", "trian"], "Did you mean 'train'?"),
        (["help"], "layerscope COMMAND --help"),
        (["--json", "anatomy"], "--json goes after the command: layerscope anatomy ... --json"),
        (["probe", "acts", "--layr", "3"], "--layers"),
        (["dump"], "For example: layerscope dump gpt2 texts.conllu"),
        (["sae", "eval", "sae"], "For example: layerscope sae eval sae acts"),
        (["acts"], "a command comes first, as in: layerscope probe acts"),
    ],
)
def test_slips_of_the_command_line(folder: Path, arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in said(result)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["anatomy", "modle"], "did you mean 'model' (a model)?"),
        (["probe", "atcs"], "did you mean 'acts' (a store)?"),
        (["anatomy", "acts"], "acts is a store of activations, which dump read from tiny"),
        (["anatomy", "finding"], "layerscope report finding"),
        (["anatomy", "build.py"], "build.py:build"),
        (["dump", "texts.conllu", "model"], "the model comes before the texts"),
        (
            ["dump", "nothing.txt", "model"],
            "no file 'nothing.txt'; its name is that of a file of texts",
        ),
        (["probe", "nothing.txt"], "no file 'nothing.txt'; its name is that of a file of texts"),
        (["dump", "model", "text.conllu"], "there is: texts.conllu"),
        (["dump", "model", "acts"], "given in place of the model"),
        (["dump", "model", "page.html"], "no reader for '.html'"),
        (["dump", "model", "texts.conllu", "--out", "model"], "--out model/store"),
        (["probe", "acts", "--out", "page.html"], "page.html is a file"),
        (["probe", "acts", "--out", "page.html/found"], "page.html is a file, not a folder"),
        (["probe", "acts", "--out", "acts"], "acts holds a store of activations"),
        (["sae", "train", "acts", "--to", "model"], "as model-out"),
        (["report", "page.html"], "page.html is a page"),
        (["report", "acts"], "acts is a store of activations, not a finding"),
        (["report", "model"], "model is a model, not a finding"),
        (["report", "texts.conllu"], "a saved finding is a folder: there is: finding"),
        (["report", "findign"], "no folder findign; there is: finding"),
        (["report", "finding", "--out", "acts"], "--out acts/report.html"),
        (["probe", "acts", "--kind", "linera"], "--kind 'linera': did you mean 'linear'?"),
        (["words", "acts", "--maps", "pca,tsne"], "--maps 'tsne': there are: 'pca'"),
        (
            ["skip", "model", "--change", "drop"],
            "--change 'drop': there are: 'skip', 'repeat', 'swap'",
        ),
        (
            ["sae", "train", "acts", "--architecture", "topkk"],
            "--architecture 'topkk': did you mean",
        ),
        (["demo", "--out", "acts"], "--out acts/report.html"),
        (["survey", "acts", "--out", "report"], "try --out report.html"),
        (["sae", "features", "sae", "model"], "model is a model, not a store"),
        (["sae", "features", "sae", "atcs"], "there is: acts"),
    ],
)
def test_slips_are_answered_before_any_work(
    folder: Path,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert says in refused(monkeypatch, capsys, *arguments)


def test_what_may_be_a_store_is_asked_for_as_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def not_found(name: str) -> None:
        raise OSError("no local folder; give the path of a model folder")

    monkeypatch.setattr("layerscope.hooks.model_names._ask_hub", not_found)
    line = refused(monkeypatch, capsys, "probe", "nothere")
    assert line.endswith("give the path of a model folder; or of a store, as dump writes them")


@pytest.mark.parametrize("command", ["anatomy model", "dump model texts.conllu", "geometry acts"])
def test_a_device_that_is_not_there(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(monkeypatch, capsys, *command.split(), "--device", "cuda:77")
    assert "device 'cuda:77' cannot be used here" in line
    assert line.endswith("cpu")


def test_what_the_system_says_of_a_file_has_a_next_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied", "/elsewhere")

    monkeypatch.setattr(data_command, "loaded", full)
    line = refused(monkeypatch, capsys, "dump", "model", "texts.conllu")
    assert line == (
        "error: /elsewhere: permission denied; give a place of your own, or change its rights"
    )


def test_the_library_s_next_step_is_given_as_a_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(*_: object) -> None:
        raise LookupError("no site 'x'; print(anatomy(model)) lists every site")

    monkeypatch.setattr(data_command, "loaded", unknown)
    line = refused(monkeypatch, capsys, "dump", "model", "texts.conllu")
    assert line == "error: no site 'x'; layerscope anatomy MODEL lists every site"


def test_what_is_right_is_taken_as_it_is(folder: Path) -> None:
    assert checks.page(Path("REPORT.HTML")) == Path("REPORT.HTML")
    assert among("--maps", "pca", "umap", several=True)["callback"]("pca, umap") == "pca, umap"
    # A store whose first run was stopped before it had a name is gone on with.
    for begun in ("shards", "locks"):
        (folder / f"new-{begun}" / begun).mkdir(parents=True)
        assert checks.new_store(folder / f"new-{begun}") == folder / f"new-{begun}"


def test_of_several_stores_the_nearest_name_is_offered(folder: Path) -> None:
    for name in ("aaa", "steps"):
        (folder / name).mkdir()
        (folder / name / "store.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"there is: acts$"):
        checks.store("atcs")


def test_commands_of_a_group_stand_in_the_order_of_their_use() -> None:
    from typer.main import get_command

    group: Any = get_command(app).commands["sae"]  # type: ignore[attr-defined]
    context = group.make_context(
        "sae", [], parent=get_command(app).context_class(get_command(app)), resilient_parsing=True
    )
    order = [name.removeprefix("sae ") for name in COMMANDS if name.startswith("sae ")]
    assert group.list_commands(context) == order


def test_what_cannot_be_saved_is_printed_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from layerscope.cli.printing import show
    from layerscope.corpus import Corpus, Text

    finding = Corpus("c", lambda: [Text("a b", "0", "0")]).finding()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "finding.json").write_text(
        '{"format": 1, "kind": "layerscope.x:Other", "notes": [], "provenance": {}}'
    )
    with pytest.raises(ValueError, match=r"not saved: .*taken holds a Other"):
        show(finding, tmp_path / "taken", as_json=False)
    assert finding.answer() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (KeyboardInterrupt(), COMMANDS["dump"].stopped),
        (KeyboardInterrupt("stopped at row 7"), "stopped at row 7"),
    ],
)
def test_ctrl_c_is_one_line_and_130(
    folder: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, line: str
) -> None:
    def stop(*_: object) -> None:
        raise raised

    monkeypatch.setattr(data_command, "loaded", stop)
    result = run("dump", "model", "texts.conllu")
    assert result.exit_code == INTERRUPTED
    assert result.output.strip() == line


def completions(folder: Path, line: str) -> list[str]:
    """What bash is offered after `line`."""
    words = line.split(" ")
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['layerscope']; from layerscope.cli import main; main()",
        ],
        env=os.environ
        | {
            "_LAYERSCOPE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("probe acts --label ", ["upos", "deprel"]),
        ("probe acts --layers embed,", ["embed,embed", "embed,blocks.0.resid_post"]),
        ("probe model --layer ", ["all", "embed", "0", "1", "2"]),
        ("probe a", ["acts"]),
        ("report f", ["finding"]),
    ],
)
def test_the_shell_completes(folder: Path, line: str, offered: list[str]) -> None:
    from layerscope.cli import completing

    words = line.split(" ")
    source = words[1] if len(words) > 2 else ""
    ctx: Any = type("Ctx", (), {"params": {}, "args": [source]})()
    last = words[-1]
    by = {
        "--label": lambda: completing.labels(ctx, last),
        "--layers": lambda: completing.layers(ctx, last),
        "--layer": lambda: completing.layers(ctx, last),
        "probe": lambda: completing.stores(last),
        "report": lambda: completing.findings(last),
    }
    assert by[words[-2]]() == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("layerscope probe acts --label u", ["upos"]),
        ("layerscope probe acts --kind m", ["mass_mean", "mdl", "mlp"]),
    ],
)
def test_the_real_shell_is_offered_names(folder: Path, line: str, offered: list[str]) -> None:
    assert completions(folder, line) == offered


def test_a_page_is_opened_where_there_is_a_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: not opened.append(url))
    monkeypatch.setenv("DISPLAY", ":0")
    open_page(tmp_path / "a b.html")
    assert opened == [(tmp_path / "a b.html").as_uri()]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    open_page(tmp_path / "a b.html")
    assert f"open {tmp_path / 'a b.html'} in one" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_wait_is_said_at_a_terminal_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with waiting("opening torch"):
        assert screen.getvalue().count("opening torch ...") == 1
        assert sys.stderr is screen, "libraries imported meanwhile keep the real stream"
    erased = screen.getvalue().rpartition("opening torch ...")[2]
    assert erased.endswith("\x1b[1A\x1b[2K")


def test_a_wait_is_not_said_where_nobody_looks_on(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("opening torch"):
        pass
    assert capsys.readouterr() == ("", "")
