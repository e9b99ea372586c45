"""read(): what it takes, what it says about the rest, and which labels it keeps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerscope.corpus import Corpus, Text, Words, read

RECORDS = [
    {"text": "A cat.", "mood": "calm", "author": "Ann", "n": 1},
    {"text": "A dog.", "mood": "wild", "author": "Bob", "n": 2},
]


def as_frame() -> Any:
    import pandas as pd

    return pd.DataFrame(RECORDS, index=[7, 9])


def as_dataset() -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_list(RECORDS)


def as_streaming_dataset() -> Any:
    return as_dataset().to_iterable_dataset()


def as_columns() -> Any:
    return {name: [record[name] for record in RECORDS] for name in RECORDS[0]}


@pytest.mark.parametrize("make", [as_frame, as_dataset, as_streaming_dataset, as_columns])
def test_tables_in_memory_read_like_the_records_they_hold(make: Callable[[], Any]) -> None:
    assert read(make()).fingerprint == read(RECORDS).fingerprint


def test_lists_of_strings() -> None:
    corpus = read(["one", "two"])
    assert list(corpus) == [Text("one", "0", "0"), Text("two", "1", "1")]
    assert corpus.labels == ()
    assert read(np.array(["one", "two"])).fingerprint == corpus.fingerprint
    assert read(("one", "two"), name="pair").name == "pair"


def test_lists_of_texts_keep_them() -> None:
    texts = [Text("a b", "x", "g", {"k": 1}, Words((0,), (1,), {"word": ("a",)}))]
    assert list(read(texts)) == texts


def test_a_corpus_reads_as_itself_with_fewer_labels() -> None:
    corpus = read(RECORDS)
    assert read(corpus).fingerprint == corpus.fingerprint
    assert read(corpus, label="mood").labels == ("mood",)


@pytest.mark.parametrize("source", [read(["a"]), [Text("a", "0", "0")]])
def test_options_come_where_something_is_first_read(source: Any) -> None:
    with pytest.raises(ValueError, match=r"group='author': this is a (Corpus|Text) already"):
        read(source, group="author")


def test_what_is_read_is_a_copy() -> None:
    record = {"text": "a", "n": 1}
    corpus = read([record])
    record["text"] = "b"
    frame = as_frame()
    table = read(frame)
    frame.loc[7, "text"] = "b"
    assert next(iter(corpus)).content == "a"
    assert next(iter(table)).content == "A cat."


def test_missing_values_of_a_frame_are_none() -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "text": ["a", "b"],
            "real": [1.5, None],
            "whole": pd.array([1, None], dtype="Int64"),
            "day": [pd.Timestamp("2024-05-01"), pd.NaT],
            "kind": pd.Categorical(["x", None]),
        }
    )
    first, second = read(frame)
    assert dict(first.labels) == {
        "real": 1.5, "whole": 1, "day": "2024-05-01T00:00:00", "kind": "x"
    }  # fmt: skip
    assert set(second.labels.values()) == {None}


def test_class_numbers_of_a_dataset_become_names() -> None:
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["neg", "pos"])
    kinds = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "tags": datasets.List(names),
            "label": names,
        }
    )
    data = datasets.Dataset.from_dict(
        {"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [1]], "label": [1, -1]}, features=kinds
    )
    first, second = read(data.with_format("numpy"))
    assert first.words is not None
    assert first.words.labels["tags"] == ("neg", "pos")
    assert (first.labels["label"], second.labels["label"]) == ("pos", None)


def test_a_dict_of_datasets_asks_for_one() -> None:
    datasets = pytest.importorskip("datasets")
    both = datasets.DatasetDict({"train": as_dataset(), "test": as_dataset()})
    with pytest.raises(ValueError, match=r"dict of datasets; take one: .*'train', 'test'"):
        read(both)


def test_reading_does_not_load_other_libraries() -> None:
    code = (
        "import sys\nfrom layerscope.corpus import read\n"
        "corpus = read(['one', 'two'])\ncorpus.fingerprint\n"
        "print(*{'torch', 'datasets', 'pandas', 'sklearn', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# Labels


def test_labels_are_narrowed_and_renamed() -> None:
    assert read(RECORDS).labels == ("mood", "author", "n")
    assert read(RECORDS, label="mood").labels == ("mood",)
    assert read(RECORDS, label=["n", "mood"]).labels == ("mood", "n")
    renamed = read(RECORDS, label={"mood": "temper"})
    assert [dict(text.labels) for text in renamed] == [{"temper": "calm"}, {"temper": "wild"}]
    grouped = read(RECORDS, group="author")
    assert (grouped.labels, [text.group for text in grouped]) == (("mood", "n"), ["Ann", "Bob"])


def test_narrowing_keeps_the_words_themselves() -> None:
    spans = [{"start": 0, "end": 1, "upos": "DET", "n": 4}]
    (text,) = read([{"text": "a", "words": spans}], label={"upos": "class"})
    assert text.words is not None
    assert dict(text.words.labels) == {"word": ("a",), "class": ("DET",)}


def test_a_label_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no label 'moods' in 'texts'; did you mean 'mood'"):
        read(RECORDS, label="moods")


def test_a_label_may_appear_late() -> None:
    records = [{"text": "a"}, {"text": "b", "rare": 1}]
    assert read(records, label="rare").labels == ("rare",)


def test_names_of_row_columns_cannot_be_labels() -> None:
    records = [{"text": "a", "position": 3, "n": 1}]
    corpus = read(records)
    assert corpus.labels == ("n",)
    assert corpus.notes[0].startswith("'position' left out: rows have columns of that name")
    assert read(records, label={"position": "place"}).labels == ("place",)
    with pytest.raises(
        ValueError, match=r"label 'position' is a column .*=\{'position': 'my_position'\}"
    ):
        read(records, label="position")  # fmt: skip


# Files and folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.csv", "a.csv", "b/1.csv", ".hidden.csv"):
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"text,mood\ntext of {name},calm\n")
    (tmp_path / "data" / "README.md").write_text("not data")
    (tmp_path / "data" / "folder.csv").mkdir()
    return tmp_path / "data"


def test_a_folder_is_its_files_in_order(folder: Path) -> None:
    corpus = read(folder)
    assert [text.content for text in corpus] == [
        "text of a.csv", "text of b/1.csv", "text of b/2.csv"
    ]  # fmt: skip
    assert [text.id for text in corpus] == ["a.csv:0", "b/1.csv:0", "b/2.csv:0"]
    assert len({text.group for text in corpus}) == 3
    assert corpus.name == "data"


def test_a_pattern_takes_files_of_its_kind(folder: Path) -> None:
    (folder / "notes.txt").write_text("a line")
    with pytest.raises(
        ValueError, match=r"several kinds \(3 \.csv, 1 \.txt\); name one kind, such as"
    ):
        read(folder)
    assert len(read(folder / "*.csv")) == 1
    assert [text.id for text in read(folder / "**/*.csv")] == ["a.csv:0", "b/1.csv:0", "b/2.csv:0"]


def test_a_folder_or_pattern_without_data(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "*.csv"):
        with pytest.raises(FileNotFoundError, match=r"nothing to read at .*\.txt, \.conllu"):
            read(source)


def test_moving_changes_nothing(folder: Path, tmp_path: Path) -> None:
    before = read(folder).fingerprint
    single = read(folder / "a.csv").fingerprint
    moved = folder.rename(tmp_path / "elsewhere")
    (moved / "a.csv").rename(tmp_path / "other.csv")
    assert read(tmp_path / "other.csv").fingerprint == single
    (tmp_path / "other.csv").rename(moved / "a.csv")
    assert read(moved).fingerprint == before


def test_a_missing_file_is_answered_with_the_nearest_names(folder: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no file '.*c\.csv'; in '.*data' there is: a\.csv"
    ):
        read(folder / "c.csv")
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere' either"):
        read(folder / "nowhere" / "a.csv")
    with pytest.raises(FileNotFoundError, match="To read texts themselves, put them in a list"):
        read("The cat sat on the mat.")


def test_an_unknown_kind_of_file_is_answered_with_the_known(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no reader for '\.md'; there are \.txt, \.conllu, \.jsonl"
    ):
        read(folder / "README.md")


@pytest.mark.parametrize("source", [[], {"text": []}])
def test_nothing_to_read(source: Any) -> None:
    with pytest.raises(ValueError, match="holds no text"):
        read(source)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.json", "a.conllu"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[]" if name == "a.json" else "")
    with pytest.raises(ValueError, match="'a' holds no text"):
        read(tmp_path / name)


def test_only_empty_texts_are_no_texts() -> None:
    with pytest.raises(ValueError, match="'texts' holds no text"):
        read(["", "  \n"])


def test_what_can_be_read_once_only_is_refused() -> None:
    with pytest.raises(TypeError, match=r"cannot read a generator; .* goes into a list first"):
        read(text for text in "ab")
    with pytest.raises(TypeError, match="cannot read a int"):
        read(3)


def test_items_that_are_no_texts() -> None:
    with pytest.raises(ValueError, match="expected a text or an object with named fields, not 3"):
        read(["a", 3])


def test_columns_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="columns of different lengths"):
        read({"text": ["a", "b"], "n": [1]})


def test_the_bundled_corpus_arrives() -> None:
    from layerscope.corpus import bundled
    from layerscope.corpus.builtin import FILE

    try:
        corpus: Corpus = bundled()
    except FileNotFoundError:
        pytest.skip(f"demo/{FILE} has not been generated")
    assert {"word", "upos", "depth", "Number"} <= set(corpus.take(50).labels)


def test_an_installation_without_the_bundled_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from layerscope.corpus import builtin, bundled

    monkeypatch.setattr(builtin, "FILE", "absent.conllu.gz")
    with pytest.raises(FileNotFoundError, match=r"has no demo/absent\.conllu\.gz; reinstall it"):
        bundled()
