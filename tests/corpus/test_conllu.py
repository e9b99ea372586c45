"""CoNLL-U: labels, spans, groups, and what is said about a malformed line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from layerscope.corpus import Corpus, Text, read

SENTENCE = """\
# newdoc id = doc-1
# sent_id = s1
# text = The old dogs don't bark.
1\tThe\tthe\tDET\tDT\tDefinite=Def|PronType=Art\t3\tdet\t_\t_
2\told\told\tADJ\tJJ\tDegree=Pos\t3\tamod\t_\t_
3\tdogs\tdog\tNOUN\tNNS\tNumber=Plur\t6\tnsubj\t_\t_
4-5\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
4\tdo\tdo\tAUX\tVBP\tMood=Ind|Number=Plur\t6\taux\t_\t_
5\tn't\tnot\tPART\tRB\t_\t6\tadvmod\t_\t_
5.1\tever\tever\tADV\tRB\t_\t_\t_\t6:advmod\t_
6\tbark\tbark\tVERB\tVB\tVerbForm=Inf\t0\troot\t_\tSpaceAfter=No
7\t.\t.\tPUNCT\t.\t_\t6\tpunct\t_\t_
"""


def conllu(folder: Path, content: str, name: str = "a.conllu") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def one(folder: Path, content: str) -> Text:
    (text,) = read(conllu(folder, content))
    return text


def line(number: int, form: str, *, head: int | str = 0, misc: str = "_", feats: str = "_") -> str:
    return f"{number}\t{form}\t_\t_\t_\t{feats}\t{head}\t_\t_\t{misc}\n"


def test_every_label_of_a_sentence(tmp_path: Path) -> None:
    text = one(tmp_path, SENTENCE)
    assert (text.id, text.group, text.content) == ("s1", "doc-1", "The old dogs don't bark.")
    words = text.words
    assert words is not None
    assert dict(words.labels) == {
        "word": ("The", "old", "dogs", "do", "n't", "bark", "."),
        "lemma": ("the", "old", "dog", "do", "not", "bark", "."),
        "upos": ("DET", "ADJ", "NOUN", "AUX", "PART", "VERB", "PUNCT"),
        "xpos": ("DT", "JJ", "NNS", "VBP", "RB", "VB", "."),
        "head": (3, 3, 6, 6, 6, 0, 6),
        "deprel": ("det", "amod", "nsubj", "aux", "advmod", "root", "punct"),
        "depth": (2, 2, 1, 1, 1, 0, 1),
        "next_upos": ("ADJ", "NOUN", "AUX", "PART", "VERB", "PUNCT", None),
        "Definite": ("Def", None, None, None, None, None, None),
        "Degree": (None, "Pos", None, None, None, None, None),
        "Mood": (None, None, None, "Ind", None, None, None),
        "Number": (None, None, "Plur", "Plur", None, None, None),
        "PronType": ("Art", None, None, None, None, None, None),
        "VerbForm": (None, None, None, None, None, "Inf", None),
    }


def slices(text: Text) -> list[str]:
    assert text.words is not None
    spans = zip(text.words.start, text.words.end, strict=True)
    return [text.content[start:end] for start, end in spans]


def test_spans_slice_to_the_forms_even_inside_a_multiword_token(tmp_path: Path) -> None:
    assert slices(one(tmp_path, SENTENCE)) == ["The", "old", "dogs", "do", "n't", "bark", "."]


def test_words_that_do_not_add_up_share_the_span_of_their_token(tmp_path: Path) -> None:
    french = (
        "# text = Il parle du chat.\n"
        + line(1, "Il")
        + line(2, "parle")
        + "3-4\tdu"
        + ("\t_" * 8 + "\n")
    )
    french += line(3, "de") + line(4, "le") + line(5, "chat", misc="SpaceAfter=No") + line(6, ".")
    assert slices(one(tmp_path, french)) == ["Il", "parle", "du", "du", "chat", "."]


def test_without_a_text_line_the_text_is_rebuilt_from_the_words(tmp_path: Path) -> None:
    rebuilt = one(tmp_path, SENTENCE.replace("# text = The old dogs don't bark.\n", ""))
    assert rebuilt.content == "The old dogs don't bark."
    assert slices(rebuilt) == slices(one(tmp_path, SENTENCE))


def test_forms_may_hold_spaces_and_text_may_hold_more_of_them(tmp_path: Path) -> None:
    text = one(
        tmp_path,
        "# text = about  10 000\u00a0km\n" + line(1, "about") + line(2, "10 000") + line(3, "km"),
    )
    assert slices(text) == ["about", "10 000", "km"]


def test_an_underscore_is_a_form_but_no_label(tmp_path: Path) -> None:
    text = one(tmp_path, "1\t_\t_\tSYM\t_\t_\t0\troot\t_\t_\n2\ta\t_\t_\t_\t_\t_\t_\t_\t_\n")
    assert text.words is not None
    assert text.words.labels["word"] == ("_", "a")
    assert text.words.labels["lemma"] == ("_", None)
    assert text.words.labels["upos"] == ("SYM", None)
    assert text.words.labels["depth"] == (0, None)


def test_depth_below_an_unattached_word_is_unknown(tmp_path: Path) -> None:
    text = one(tmp_path, line(1, "a", head=2) + line(2, "b", head="_") + line(3, "c"))
    assert text.words is not None
    assert text.words.labels["depth"] == (None, None, 0)


def test_groups_are_documents_or_sentences(tmp_path: Path) -> None:
    plain = line(1, "a") + "\n"
    content = (
        f"# sent_id = s0\n{plain}# newdoc id = d\n# sent_id = s1\n{plain}# sent_id = s2\n{plain}"
        f"# newdoc\n# sent_id = s3\n{plain}{plain}"
    )
    path = conllu(tmp_path, content)
    assert [text.group for text in read(path)] == ["s0", "d", "d", "s3", "s3"]
    assert [text.group for text in read(path, group="sentence")] == ["s0", "s1", "s2", "s3", "4"]
    assert [text.id for text in read(path)] == ["s0", "s1", "s2", "s3", "4"]


def test_line_ends_and_missing_last_blank_line_do_not_matter(tmp_path: Path) -> None:
    unix = list(read(conllu(tmp_path, SENTENCE + "\n" + SENTENCE)))
    windows = tmp_path / "w.conllu"
    windows.write_bytes((SENTENCE + "\n\n" + SENTENCE + "\n").replace("\n", "\r\n").encode())
    assert list(read(windows)) == unix
    assert len(unix) == 2


def test_gzip_reads_the_same(tmp_path: Path) -> None:
    packed = tmp_path / "a.conllu.gz"
    packed.write_bytes(gzip.compress(SENTENCE.encode()))
    assert read(packed).fingerprint == read(conllu(tmp_path, SENTENCE)).fingerprint
    assert read(packed).name == "a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 a a X X _ 0 root _ _\n", r"line 1: 1 columns .* tabs, not spaces"),
        ("# text = a\n1\ta\n", r"line 2: 2 columns where CoNLL-U has 10: '1\\ta'"),
        (line(1, "a") + line(3, "b"), "line 2: word 3 where word 2 was expected"),
        ("x\t" + "_\t" * 8 + "_\n", "line 1: 'x' is not a word number"),
        ("1-2\tab" + "\t_" * 8 + "\n" + line(1, "a"), "line 2: multiword token 1-2 reaches beyond"),
        ("2-1\tab" + "\t_" * 8 + "\n", "line 1: multiword token 2-1 before word 1"),
        (line(1, "a", head=2), r"line 1: head '2' is not 0 \(root\) or a word from 1 to 1"),
        (line(1, "a", head="x"), "line 1: head 'x' is not 0"),
        (line(1, "a", head=2) + line(2, "b", head=1), "line 1: the heads run in a circle: 1 -> 2 -> 1"),
        (line(1, "a", head=1), "line 1: the heads run in a circle: 1 -> 1"),
        (line(1, "a", feats="Number"), "line 1: features are Name=Value.*'Number'"),
        (line(1, ""), "line 1: word 1 has an empty form"),
        ("# text = a c\n" + line(1, "a") + line(2, "b"), "line 3: the '# text =' line goes on with 'c', the words with 'b'"),
    ],
)  # fmt: skip
def test_malformed_lines_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(conllu(tmp_path, content))


def test_a_group_that_is_neither_document_nor_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of document, sentence, not 'speaker'"):
        read(conllu(tmp_path, SENTENCE), group="speaker")
    with pytest.raises(ValueError, match="CoNLL-U has no columns of texts"):
        read(conllu(tmp_path, SENTENCE), text="line")


def check_counts(corpus: Corpus, sentences: int, words: int, roots: int) -> None:
    texts = found = wrong = seen_roots = 0
    for text in corpus:
        assert text.words is not None
        texts += 1
        found += len(text.words)
        wrong += sum(a != b for a, b in zip(slices(text), text.words.labels["word"], strict=True))
        seen_roots += text.words.labels["head"].count(0)
    assert (texts, found, wrong, seen_roots) == (sentences, words, 0, roots)


def test_the_english_web_treebank(shared_data: Path) -> None:
    """Counts of stats.xml; every sentence is single-rooted; every span slices to its form."""
    folder = shared_data / "ud_english_ewt"
    check_counts(read(folder / "en_ewt-ud-dev.conllu"), 2001, 25147, 2001)
    check_counts(read(folder / "en_ewt-ud-train.conllu.gz"), 12544, 204577, 12544)


def test_the_treebank_agrees_with_a_reading_by_columns(shared_data: Path) -> None:
    """A second reader: only the columns of word lines, no sentences, no checks."""
    path = shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu"
    rows = [
        row.split("\t")
        for row in path.read_text(encoding="utf-8").splitlines()
        if row[:1].isdigit() and row.split("\t")[0].isdigit()
    ]
    sentences = [text.words for text in read(path) if text.words]
    for name, at in {"word": 1, "lemma": 2, "upos": 3, "xpos": 4, "deprel": 7}.items():
        ours = [value for words in sentences for value in words.column(name)]
        theirs = [None if row[at] == "_" and row[1] != "_" else row[at] for row in rows]
        assert [a or "_" for a in ours] == [b or "_" for b in theirs], name
    past = sum(words.column("Tense").count("Past") for words in sentences)
    assert past == sum("Tense=Past" in row[5].split("|") for row in rows)
