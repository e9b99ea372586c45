"""Tables of every kind give the same texts; what is wrong in them is named by line."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerscope.corpus import Corpus, Text, read

RECORDS: list[dict[str, Any]] = [
    {"text": "The cat sat.", "mood": "calm", "age": 3, "weight": 4.5, "tame": True},
    {"text": 'A "dog", she said,\nran fast', "mood": "wild", "age": 12, "weight": 30.0, "tame": False},
    {"text": "naïve café 👩‍👧 家", "mood": None, "age": None, "weight": None, "tame": None},
]  # fmt: skip


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(record) for record in RECORDS) + "\n\n")


def write_json(path: Path) -> None:
    path.write_text(json.dumps(RECORDS, indent=1, ensure_ascii=False), encoding="utf-8")


def write_separated(delimiter: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(RECORDS[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(RECORDS)

    return write


def write_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(RECORDS), path)


WRITERS = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_separated(","),
    "tsv": write_separated("\t"),
    "parquet": write_parquet,
}


@pytest.fixture(params=WRITERS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"pets.{request.param}"
    WRITERS[request.param](path)
    return path


def as_written(corpus: Corpus) -> list[dict[str, Any]]:
    return [{"text": text.content, **text.labels} for text in corpus]


def test_a_table_gives_back_what_was_written(table: Path) -> None:
    corpus = read(table)
    assert as_written(corpus) == RECORDS
    types = [[type(value) for value in row.values()] for row in as_written(corpus)[:2]]
    assert types == [[str, str, int, float, bool]] * 2
    assert corpus.labels == corpus.text_labels == ("mood", "age", "weight", "tame")
    assert corpus.name == "pets"


def test_every_kind_has_the_same_fingerprint(table: Path) -> None:
    assert read(table).fingerprint == read(RECORDS).fingerprint


def test_gzip_reads_the_same(table: Path) -> None:
    packed = table.with_name(table.name + ".gz")
    packed.write_bytes(gzip.compress(table.read_bytes()))
    assert read(packed).fingerprint == read(table).fingerprint


def test_a_group_column_is_no_label(table: Path) -> None:
    with pytest.raises(ValueError, match="text '2': no group: 'mood' is empty here"):
        len(read(table, group="mood"))
    kept = read(table, group="text")
    assert [text.group for text in kept] == [record["text"] for record in RECORDS]


def test_an_unknown_column_is_answered_with_those_there_are(table: Path) -> None:
    with pytest.raises(ValueError, match="text='txt': no such column; did you mean 'text'"):
        read(table, text="txt")
    with pytest.raises(
        ValueError, match="group='owner': no such column; there are: 'text', 'mood'"
    ):
        read(table, group="owner")


@pytest.mark.parametrize("name", ["text", "sentence", "content", "prompt", "Sentence", "caption"])
def test_the_text_column_is_guessed(name: str) -> None:
    texts = read([{"n": 1, name: "a text", "id": "x7"}])
    assert list(texts) == [Text("a text", "x7", "x7", {"n": 1})]


def test_no_column_is_surely_the_text() -> None:
    with pytest.raises(
        ValueError, match=r"which column is the text\? There are: 'premise', 'claim'"
    ):
        read([{"premise": "a", "claim": "b"}])
    assert [t.content for t in read([{"premise": "a", "claim": "b"}], text="claim")] == ["b"]


def test_the_first_of_the_known_names_wins() -> None:
    (text,) = read([{"prompt": "p", "text": "t"}])
    assert (text.content, dict(text.labels)) == ("t", {"prompt": "p"})


def test_what_is_not_one_plain_value_is_left_out_and_said() -> None:
    corpus = read([{"text": "a", "meta": {"x": 1}, "tags": ["b"], "n": 1}])
    assert corpus.labels == ("n",)
    assert corpus.notes == ("'meta', 'tags' left out: not one plain value per text",)


def test_words_with_character_spans() -> None:
    spans = [{"start": 4, "end": 7, "upos": "NOUN", "n": 2}, {"start": 0, "end": 3, "upos": "DET"}]
    corpus = read(
        [{"text": "The cat sat", "words": spans, "mood": "calm"}, {"text": "Oh", "words": []}]
    )
    first, second = corpus
    assert first.words is not None
    assert (first.words.start, first.words.end) == ((0, 4), (3, 7))
    assert dict(first.words.labels) == {
        "word": ("The", "cat"), "upos": ("DET", "NOUN"), "n": (None, 2)
    }  # fmt: skip
    assert second.words is None
    assert corpus.word_labels == ("word", "upos", "n")
    assert corpus.text_labels == ("mood",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([{"start": 0}], r"text '0': each of its words needs 'start' and 'end', unlike \{'start': 0\}"),
        ([{"start": 0, "end": 9}], "text '0': text '0' has 3 characters, but one of its words ends at 9"),
        ([{"start": 2, "end": 2}], "a word from 2 to 2 covers no characters"),
        ([{"start": -1, "end": 2}], "the word at -1 comes after one at 0"),
        ([{"start": 0, "end": 1, "tag": ["a"]}], r"\['a'\] cannot be a label"),
    ],
)  # fmt: skip
def test_words_that_do_not_fit_their_text(words: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read([{"text": "abc", "words": words}])


def test_words_may_begin_in_a_later_record() -> None:
    first, second = read([{"text": "a"}, {"text": "b", "words": [{"start": 0, "end": 1}]}])
    assert first.words is None
    assert second.words is not None


def test_tokens_with_parallel_lists_are_words() -> None:
    records = [
        {"tokens": ["EU", "rejects"], "ner": ["ORG", "O"], "source": "wire"},
        {"tokens": ["Peter"], "ner": ["PER"], "source": "web"},
    ]
    first, second = read(records)
    assert first.content == "EU rejects"
    assert first.words is not None
    assert second.words is not None
    assert first.words.start == (0, 3)
    assert dict(second.words.labels) == {"word": ("Peter",), "ner": ("PER",)}
    assert dict(second.labels) == {"source": "web"}


def test_tokens_are_found_in_the_text_they_come_with() -> None:
    (text,) = read([{"text": "a  b-a", "words": ["a", "b", "-", "a"], "k": [1, 2, 3, 4]}])
    assert text.words is not None
    assert text.words.start == (0, 3, 4, 5)
    assert dict(text.words.labels) == {"word": ("a", "b", "-", "a"), "k": (1, 2, 3, 4)}
    with pytest.raises(ValueError, match="text '0': token 1, 'c', is not in the text"):
        read([{"text": "a b", "tokens": ["a", "c"]}])


def test_numbers_with_leading_zeros_and_other_names_stay_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,code,mixed,real,none\na,007,1,1e-3,\nb,012,x,-2,\n")
    first, second = read(path)
    assert dict(first.labels) == {"code": "007", "mixed": "1", "real": 0.001, "none": None}
    assert dict(second.labels) == {"code": "012", "mixed": "x", "real": -2.0, "none": None}


def test_a_cell_may_be_longer_than_the_csv_modules_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,n\n" + "x" * 300_000 + ",1\n")
    before = csv.field_size_limit(1_000)
    try:
        assert [len(text.content) for text in read(path)] == [300_000]
    finally:
        assert csv.field_size_limit(before) == 1_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,n\na,1\nb, c,2\n", r"a\.csv, line 3: 3 cells under 2 names \(text, n\)"),
        ("a.csv", 'text,n\n"a,1\n', r"a\.csv, line 2: unexpected end of data; a cell that holds a quote"),
        ("a.tsv", 'text\tn\n"a" b\t1\n', r"a\.tsv, line 2: .*expected after"),
        ("a.csv", "text,n,n\na,1,2\n", r"a\.csv: two columns are called 'n'"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a\.jsonl, line 2: Expecting value"),
        ("a.jsonl", '{"text": "a"}\n3\n', r"a\.jsonl, line 2: expected a text or an object.*not 3"),
        ("a.jsonl", '{"text": "a"}\n{"text": 5}\n', r"a\.jsonl: text '1': 'text' is 5, not a text"),
        ("a.json", '{"text": "a"}\n{"text": "b"}\n', r"a\.json, line 2: Extra data; one object per line is \.jsonl"),
        ("a.json", '{"text": "a"}', r"a\.json holds a dict, not a list"),
        ("a.parquet", "no", r"a\.parquet: not a Parquet file"),
    ],
)  # fmt: skip
def test_malformed_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        len(read(path))


def test_json_strings_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('["one", "two"]')
    lines = tmp_path / "a.jsonl"
    lines.write_text('"one"\n"two"\n')
    assert read(path).fingerprint == read(lines).fingerprint == read(["one", "two"]).fingerprint


def test_a_damaged_gzip_file_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"some text\n" * 9999)[:-20])
    with pytest.raises(ValueError, match=r"a\.txt\.gz: damaged gzip file after line \d+"):
        len(read(path))
    path.write_text("plain")
    with pytest.raises(ValueError, match=r"a\.txt\.gz: damaged gzip file after line 0"):
        read(path)
