"""`--open` shows the page that was just written, and says where it is if there is no browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from layerscope.cli import app, opening


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Addresses that a browser was asked for, in a folder of its own."""
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: asked.append(address) or True)
    monkeypatch.setenv("BROWSER", "some")
    monkeypatch.chdir(tmp_path)
    return asked


def run(*words: str) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output


def test_the_page_that_was_written_is_shown(opened: list[str], tmp_path: Path) -> None:
    run("calibrate", "layer_programs", "--quiet", "--out", "finding")
    assert not opened
    run("calibrate", "layer_programs", "--quiet", "--report", "instruments.html", "--open")
    run("report", "finding", "--out", "page.html", "--open")
    assert opened == [(tmp_path / name).as_uri() for name in ("instruments.html", "page.html")]
    assert all((tmp_path / name).is_file() for name in ("instruments.html", "page.html"))


def test_without_a_screen_the_file_is_named(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    opening.open_page("page.html")
    assert not opened
    assert (
        f"no browser found here; open {Path('page.html').resolve()} in one"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["demo", "survey", "report", "calibrate"])
def test_every_command_that_writes_a_page_offers_it(command: str) -> None:
    assert "--open" in CliRunner().invoke(app, [command, "--help"]).output
