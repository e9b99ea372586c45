"""The class of a latent: chosen in one half, scored in the other, beside shuffled labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score

from layerscope.analyses.material.sample import labelled_sample
from layerscope.analyses.material.shuffled_labels import shuffled_labels
from layerscope.analyses.sae.looking.class_counts import DRAWS, LEAST, ClassCounts
from layerscope.corpus.splits import group_folds
from layerscope.store import Store

CPU = torch.device("cpu")


def counted(known: Any, block: int = 1000, **options: Any) -> ClassCounts:
    options = {"max_rows": 100_000, "seed": 0, "device": CPU} | options
    counts = ClassCounts(known.store, "kind", known.codes.shape[1], **options)
    row, latent = known.codes.nonzero()
    for first in range(0, len(row), block):
        part = slice(first, first + block)
        counts.add(torch.from_numpy(latent[part]), torch.from_numpy(row[part]))
    return counts


def test_planted_classes_are_found(known_words: Any) -> None:
    found = counted(known_words).classes()
    assert found.name.tolist()[:5] == ["noun", "noun", "colour", "verb", None]
    # Latent 2 fires on every colour and nothing else, 3 on every verb.
    assert found.score[[2, 3]].tolist() == [1.0, 1.0]
    assert found.precision[:4].tolist() == [1.0] * 4
    assert found.recall[[2, 3]].tolist() == [1.0, 1.0]
    assert np.isnan(found.score[4])
    # Latent 5 knows where a text ends, not what kind of word is there.
    assert found.score[5] < found.null[5] + 3 * found.null_sd[5]
    assert (found.score[:4] > found.null[:4] + 3 * found.null_sd[:4]).all()


def test_scores_are_those_of_scikit_learn_on_the_second_half(known_words: Any) -> None:
    found = counted(known_words).classes()
    chosen = labelled_sample(known_words.store, "kind", max_rows=100_000, least=LEAST, seed=0)
    half = group_folds(None, chosen.groups, folds=2, seed=0)
    assert set(half) == {0, 1}
    labels = np.array(chosen.classes)[chosen.codes]
    fires = known_words.codes[chosen.index] > 0
    shuffled = shuffled_labels(chosen.codes, chosen.groups, draws=DRAWS, seed=0)
    for latent in (0, 1, 2, 3, 5):
        yes = fires[:, latent]
        first = {c: f1_score(labels[half == 0] == c, yes[half == 0]) for c in chosen.classes}
        best = max(first, key=lambda c: first[c])
        truth = labels[half == 1] == best
        assert found.name[latent] == best
        assert found.score[latent] == pytest.approx(f1_score(truth, yes[half == 1]))
        assert found.precision[latent] == pytest.approx(precision_score(truth, yes[half == 1]))
        assert found.recall[latent] == pytest.approx(recall_score(truth, yes[half == 1]))
        assert found.base[latent] == pytest.approx(truth.mean())
        null = []
        for draw in shuffled:
            own = [f1_score(draw[half == 0] == c, yes[half == 0]) for c in range(3)]
            null.append(f1_score(draw[half == 1] == int(np.argmax(own)), yes[half == 1]))
        assert found.null[latent] == pytest.approx(np.mean(null))
        assert found.null_sd[latent] == pytest.approx(np.std(null, ddof=1))


def test_blocks_change_nothing(known_words: Any) -> None:
    one, other = counted(known_words, 7).classes(), counted(known_words, 1000).classes()
    for name in ("score", "null", "null_sd", "precision", "recall", "base"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_only_labelled_rows_count_and_the_rest_is_noted(known_words: Any) -> None:
    counts = counted(known_words, max_rows=100)
    assert counts.rows == 100
    assert any("100 of 360 rows" in note for note in counts.notes)
    assert set(counts.classes().name[:4]) <= {"noun", "colour", "verb", None}


def test_one_group_is_refused(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", {}, sites={"a": 2}, dtype=torch.float32, about={})
    rows = pd.DataFrame({"sample": range(20), "group": 0, "kind": ["x", "y"] * 10})
    store.write(0, {"a": torch.ones(20, 2)}, rows)
    store.finish(1)
    with pytest.raises(ValueError, match=r"all rows with kind are of one group"):
        ClassCounts(store, "kind", 3, max_rows=100, seed=0, device=CPU)


def test_a_label_that_is_not_there_is_named(known_words: Any) -> None:
    with pytest.raises(LookupError, match="colours"):
        ClassCounts(known_words.store, "colours", 3, max_rows=100, seed=0, device=CPU)
