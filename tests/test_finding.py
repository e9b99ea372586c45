from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import IPython.core.getipython
import IPython.display
import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from nbclient import NotebookClient

from layerscope.finding import Finding, Provenance
from layerscope.saved import FORMAT


class Count(Finding):
    question: ClassVar[str] = "How many rows are <there>?"

    def answer(self) -> str:
        return f"{len(self.table)} rows & no more."

    def figure(self) -> go.Figure:
        return go.Figure(go.Bar(x=self.table.index, y=self.table["value"]))


class Other(Finding):
    question: ClassVar[str] = "Another one?"


@dataclass(frozen=True)
class WithState(Count):
    secret: int = 3


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "value": [0.5, np.nan, -1e-12, np.inf],
            "float32": np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32),
            "n": np.array([1, 2, 3, 4], dtype=np.int32),
            "maybe": pd.array([1, None, 3, 4], dtype="Int64"),
            "flag": [True, False, True, True],
            "class": pd.Categorical(["NOUN", "VERB", None, "NOUN"], ["VERB", "NOUN"], ordered=True),
            "text": ["a", None, "", " <s>\n é 😀"],
            "when": pd.to_datetime(["2026-01-01", None, "2026-01-03", "2026-01-04"]),
            "bits": [[1, 2], [3], [], [4]],
        }
    )


def provenance() -> Provenance:
    return Provenance(
        model="toy",
        parameters={"layers": (1, 2), "folder": Path("a/b"), "scale": np.float64(0.5)},
        seed=0,
        seconds=0.25,
        call="count(store)",
    )


@pytest.fixture
def finding(table: pd.DataFrame) -> Count:
    return Count(table, provenance(), ("one caveat", "another ä"))


def header(folder: Path) -> Path:
    return folder / "finding.json"


def test_save_and_load_give_the_same_finding(finding: Count, tmp_path: Path) -> None:
    folder = finding.save(tmp_path / "deep" / "count")
    again = Count.load(folder)

    assert type(again) is Count
    pd.testing.assert_frame_equal(
        again.table.drop(columns="bits"), finding.table.drop(columns="bits"), check_exact=True
    )
    assert [list(bits) for bits in again.table["bits"]] == finding.table["bits"].tolist()
    assert again.provenance == finding.provenance
    assert again.notes == finding.notes
    assert again.answer() == finding.answer()
    assert again.figure() == finding.figure()
    assert sorted(path.name for path in folder.iterdir()) == ["finding.json", "table.parquet"]


def test_a_named_index_survives(tmp_path: Path) -> None:
    table = pd.DataFrame({"value": [1.0, 2.0]}, index=pd.Index(["x", "y"], name="site"))
    folder = Count(table, provenance()).save(tmp_path / "f")
    pd.testing.assert_frame_equal(Count.load(folder).table, table)


def test_saving_again_replaces(finding: Count, tmp_path: Path) -> None:
    finding.save(tmp_path)
    Count(finding.table.head(2), provenance()).save(tmp_path)
    assert len(Count.load(tmp_path).table) == 2
    assert Count.load(tmp_path).notes == ()


def test_a_finding_of_another_kind_is_not_replaced(finding: Count, tmp_path: Path) -> None:
    class Share(Count):
        pass

    finding.save(tmp_path)
    with pytest.raises(ValueError, match=r"holds a Count, which a .*Share does not replace"):
        Share(finding.table, provenance()).save(tmp_path)
    assert len(Count.load(tmp_path).table) == len(finding.table)
    header(tmp_path).write_text("{")
    Share(finding.table, provenance()).save(tmp_path)


@pytest.mark.parametrize(
    ("file", "says"),
    [("store.json", "a store of activations"), ("config.json", "a model")],
)
def test_nothing_is_saved_into_a_store_or_a_model(
    file: str, says: str, finding: Count, tmp_path: Path
) -> None:
    folder = tmp_path / "acts"
    folder.mkdir()
    (folder / file).write_text("{}")
    with pytest.raises(ValueError, match=rf"acts holds {says}, .* as .*acts-out$"):
        finding.save(folder)
    assert [entry.name for entry in folder.iterdir()] == [file]


def test_the_header_is_readable_without_layerscope(finding: Count, tmp_path: Path) -> None:
    body = json.loads(header(finding.save(tmp_path)).read_text("utf-8"))
    assert body["format"] == FORMAT
    assert body["question"] == "How many rows are <there>?"
    assert body["answer"] == "4 rows & no more."
    assert body["notes"] == ["one caveat", "another ä"]
    assert body["provenance"]["parameters"] == {"layers": [1, 2], "folder": "a/b", "scale": 0.5}


def test_findings_of_layerscope_load_by_name(
    finding: Count, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ModuleType("layerscope.counting")
    home.Count = Count  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "layerscope.counting", home)
    monkeypatch.setattr(Count, "__module__", "layerscope.counting")
    assert type(Finding.load(finding.save(tmp_path))) is Count


def test_a_foreign_class_is_not_looked_up(finding: Count, tmp_path: Path) -> None:
    folder = finding.save(tmp_path)
    with pytest.raises(ValueError, match=r"is not a layerscope finding.*Count\.load"):
        Finding.load(folder)


@pytest.mark.parametrize("kind", ["os:system", "layerscopes.evil:Count", "", "no_colon"])
def test_nothing_outside_layerscope_is_imported(kind: str, finding: Count, tmp_path: Path) -> None:
    change(finding.save(tmp_path), kind=kind)
    with pytest.raises(ValueError, match="is not a layerscope finding"):
        Finding.load(tmp_path)


@pytest.mark.parametrize(
    "kind",
    ["layerscope.finding:Gone", "layerscope.gone.deep:Count", "layerscope.finding:json"],
)
def test_a_class_that_is_gone_says_so(kind: str, finding: Count, tmp_path: Path) -> None:
    change(finding.save(tmp_path), kind=kind)
    with pytest.raises(ValueError, match=r"is not a finding in layerscope .* install the version"):
        Finding.load(tmp_path)


def test_another_kind_is_refused(
    finding: Count, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finding.save(tmp_path)
    change(folder, kind="layerscope.finding:Finding")
    with pytest.raises(ValueError, match="holds a Finding, not a Other"):
        Other.load(folder)


@pytest.mark.parametrize("number", [FORMAT + 1, None, "1"])
def test_another_format_is_refused(number: object, finding: Count, tmp_path: Path) -> None:
    change(finding.save(tmp_path), format=number)
    with pytest.raises(ValueError, match=r"this layerscope reads 1; run the analysis again"):
        Count.load(tmp_path)


def test_an_empty_folder_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no finding\.json here; give a folder that save"):
        Finding.load(tmp_path)


def test_a_damaged_header_names_the_file(finding: Count, tmp_path: Path) -> None:
    path = header(finding.save(tmp_path))
    path.write_text(path.read_text("utf-8")[:-20], encoding="utf-8")
    with pytest.raises(ValueError, match=r"finding\.json is damaged"):
        Count.load(tmp_path)


def test_a_header_that_is_no_object_is_refused(finding: Count, tmp_path: Path) -> None:
    header(finding.save(tmp_path)).write_text("[1]")
    with pytest.raises(ValueError, match=r"format \[1\], this layerscope reads"):
        Count.load(tmp_path)


def test_a_header_that_lacks_something_is_refused(finding: Count, tmp_path: Path) -> None:
    path = header(finding.save(tmp_path))
    body = json.loads(path.read_text("utf-8"))
    del body["notes"]
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(ValueError, match=r"finding\.json is damaged \(no notes\)"):
        Count.load(tmp_path)


def test_provenance_of_a_newer_layerscope_is_refused(finding: Count, tmp_path: Path) -> None:
    change(finding.save(tmp_path), provenance={"mood": "good", "versions": {"layerscope": "9.9"}})
    with pytest.raises(ValueError, match=r"written by layerscope 9\.9, .* has 'mood'; update"):
        Count.load(tmp_path)


def test_provenance_of_an_older_layerscope_is_read(finding: Count, tmp_path: Path) -> None:
    change(finding.save(tmp_path), provenance={"model": "toy"})
    assert Count.load(tmp_path).provenance.call == ""


def test_a_missing_table_names_the_file(finding: Count, tmp_path: Path) -> None:
    (finding.save(tmp_path) / "table.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"table\.parquet is missing; copy the whole"):
        Count.load(tmp_path)


def test_a_damaged_table_names_the_file(finding: Count, tmp_path: Path) -> None:
    path = finding.save(tmp_path) / "table.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"table\.parquet is damaged"):
        Count.load(tmp_path)


def test_a_table_of_mixed_types_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    mixed = pd.DataFrame({"value": [1.0, "two"]})
    with pytest.raises(ValueError, match=r"give each column one type.*value"):
        Count(mixed, provenance()).save(tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_state_outside_the_table_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="WithState keeps secret outside its table"):
        WithState(table, provenance()).save(tmp_path)


def test_a_parameter_that_is_no_json_is_refused_at_birth() -> None:
    with pytest.raises(TypeError, match=r"plain JSON values, got <object .*give its name"):
        Provenance(parameters={"model": object()})


def test_a_finding_without_answer_or_figure_says_what_to_define(table: pd.DataFrame) -> None:
    bare = Other(table, provenance())
    with pytest.raises(TypeError, match=r"Other states no answer; define answer\(\)"):
        bare.answer()
    with pytest.raises(TypeError, match=r"Other draws no figure; define figure\(\)"):
        bare.figure()


def test_it_prints_question_answer_and_notes(finding: Count) -> None:
    assert str(finding) == (
        "How many rows are <there>?\n4 rows & no more.\n  note: one caveat\n  note: another ä"
    )


def test_html_has_the_answer_and_the_figure(finding: Count) -> None:
    html = finding._repr_html_()
    assert "<strong>4 rows &amp; no more.</strong>" in html
    assert "How many rows are &lt;there&gt;?" in html
    assert "<li>one caveat</li>" in html
    assert "Plotly.newPlot" in html
    # Complete in itself: plotly is in it, and no script, style or picture comes from elsewhere.
    assert len(html) > 1_000_000
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", html)


def test_a_notebook_shows_the_answer_then_the_figure(
    finding: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[object] = []
    monkeypatch.setattr(IPython.core.getipython, "get_ipython", lambda: SimpleNamespace(kernel=1))
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.setattr(go.Figure, "show", lambda figure, config: shown.append(figure))

    finding._ipython_display_()

    words, figure = shown
    assert isinstance(words, dict)
    assert "<strong>4 rows &amp; no more.</strong>" in words["text/html"]
    assert words["text/plain"] == str(finding)
    assert isinstance(figure, go.Figure)
    assert figure.layout.template.layout.font.size == 13


NOTEBOOK = """
import pandas as pd, plotly.graph_objects as go
from layerscope.finding import Finding, Provenance

class Count(Finding):
    question = "How many?"
    def answer(self): return f"{len(self.table)} rows."
    def figure(self): return go.Figure(go.Bar(y=self.table["value"]))

Count(pd.DataFrame({"value": [1, 2]}), Provenance())
"""


def test_a_real_kernel_sends_both(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    bundles = [output["data"] for output in notebook.cells[0].outputs if "data" in output]
    assert "<strong>2 rows.</strong>" in bundles[0]["text/html"]
    drawn = next(b for b in bundles if "application/vnd.plotly.v1+json" in b)
    assert drawn["application/vnd.plotly.v1+json"]["data"][0]["type"] == "bar"


def test_a_terminal_shows_no_figure(
    finding: Count, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(go.Figure, "show", lambda *_, **__: pytest.fail("would open a browser"))
    finding._ipython_display_()
    assert "4 rows & no more." in capsys.readouterr().out


def change(folder: Path, **values: object) -> None:
    path = header(folder)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), encoding="utf-8")


def test_a_finding_in_a_debugger_is_one_line(finding: Count) -> None:
    assert repr(finding) == "<Count, 4 rows: 4 rows & no more.>"
    with_state = WithState(finding.table, finding.provenance)
    assert repr(with_state) == "<WithState, 4 rows: 4 rows & no more.>"
    assert repr(Other(finding.table, finding.provenance)) == "<Other, 4 rows: Another one?>"
