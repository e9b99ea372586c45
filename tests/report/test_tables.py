from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from layerscope.report.tables import CSV_BYTES, MINUS, MISSING, ROWS, digits, number, view


def cells(*values: Any, dtype: Any = None) -> list[str]:
    """One column as it is printed."""
    return [row[0] for row in view(pd.DataFrame({"x": pd.Series(values, dtype=dtype)})).rows]


def test_a_column_of_floats_has_the_decimals_of_its_largest_value() -> None:
    assert cells(0.622, 0.7, 0.0) == ["0.622", "0.700", "0.000"]
    assert cells(12.34, 1.0) == ["12.3", "1.0"]
    assert cells(123456.7, 100.2) == ["123,457", "100"]


def test_a_small_value_is_never_printed_as_zero() -> None:
    assert cells(0.5, 1.2e-7) == ["0.500", "1.2e-07"]
    assert cells(0.5, -1.2e-7) == ["0.500", f"{MINUS}1.2e-07"]


def test_a_column_of_mixed_units_keeps_three_digits_in_each_cell() -> None:
    assert cells(0.773, 512.0, 14123.5) == ["0.773", "512", "14,124"]


def test_whole_floats_lose_their_decimals() -> None:
    assert cells(3.0, np.nan, 12.0) == ["3", MISSING, "12"]


def test_missing_infinite_and_negative() -> None:
    assert cells(np.nan, np.inf, -np.inf, -0.25) == [MISSING, "∞", f"{MINUS}∞", f"{MINUS}0.250"]
    assert cells(np.nan, np.nan, dtype=float) == [MISSING, MISSING]


def test_integers_group_from_five_digits_on() -> None:
    assert cells(7, -2026, 25_148) == ["7", f"{MINUS}2026", "25,148"]
    assert cells(1, None, dtype="Int64") == ["1", MISSING]


def test_booleans_are_words() -> None:
    assert cells(True, False) == ["yes", "no"]
    assert cells(True, None, dtype="boolean") == ["yes", MISSING]


def test_text_and_categories_are_printed_as_they_are() -> None:
    assert cells("a <b>", None, " é") == ["a <b>", MISSING, " é"]
    assert cells("NOUN", None, dtype="category") == ["NOUN", MISSING]
    assert cells([1, 2], (3,)) == ["1, 2", "3"]


def test_line_breaks_in_text_can_be_seen() -> None:
    assert cells("\n", "a\tb\r") == ["⏎", "a⇥b␍"]


def test_numbers_are_told_from_the_rest() -> None:
    frame = pd.DataFrame({"i": [1], "f": [0.5], "b": [True], "s": ["x"], "c": pd.Categorical([1])})
    assert [column.numeric for column in view(frame).columns] == [True, True, False, False, False]


def test_only_an_index_that_says_something_is_shown() -> None:
    frame = pd.DataFrame({"x": [1, 2, 3]})
    assert [c.name for c in view(frame[frame.x > 1]).columns] == ["x"]
    assert [c.name for c in view(frame.set_index(pd.Index(list("abc"), name="site"))).columns] == [
        "site",
        "x",
    ]
    assert view(frame.set_index(pd.Index(list("abc")))).rows[0] == ("a", "1")


def test_two_columns_of_one_name_are_both_shown() -> None:
    assert view(pd.DataFrame([[1, 2.5]], columns=["x", "x"])).rows == (("1", "2.50"),)


def test_a_table_without_rows_or_columns() -> None:
    assert view(pd.DataFrame({"x": []})).rows == ()
    assert view(pd.DataFrame()).columns == ()


def test_a_long_table_is_capped_and_its_csv_is_whole() -> None:
    frame = pd.DataFrame({"i": range(ROWS + 50), "x": np.linspace(0, 1 / 3, ROWS + 50)})
    shown = view(frame)
    assert (len(shown.rows), shown.total) == (ROWS, ROWS + 50)
    prefix, content = shown.csv.split(",", 1)
    assert prefix == "data:text/csv;charset=utf-8;base64"
    again = pd.read_csv(io.BytesIO(base64.b64decode(content)))
    pd.testing.assert_frame_equal(again, frame, check_exact=True)


def test_a_table_too_large_to_mail_has_no_csv() -> None:
    frame = pd.DataFrame({"text": ["x" * 1000] * (CSV_BYTES // 1000)})
    assert view(frame).csv == ""


@pytest.mark.parametrize(
    ("largest", "expected"), [(0.0, 3), (1e-9, 6), (0.05, 4), (1.0, 2), (999.0, 0), (1e12, 0)]
)
def test_digits(largest: float, expected: int) -> None:
    assert digits(largest) == expected


def test_digits_of_what_has_no_size() -> None:
    assert digits(float("inf")) == 3


@pytest.mark.parametrize("value", [0.0004, 0.25, 3.0, 12345.678, -9.99])
def test_a_printed_number_reads_back_within_its_decimals(value: float) -> None:
    text = number(value, 2).replace(",", "").replace(MINUS, "-")
    assert float(text) == pytest.approx(value, abs=0.005)


def test_control_characters_are_seen() -> None:
    assert cells("a\x00\x1b", "\r\n") == ["a\u2400\u241b", "\u240d⏎"]


def test_lists_read_as_words_and_numbers() -> None:
    table = pd.DataFrame({"up": [[" the", "\n"], np.array(["a"])], "logits": [[2.161, -0.5], []]})
    assert view(table).rows == (("“ the”, “⏎”", f"2.16, {MINUS}0.500"), ("“a”", MISSING))


def test_columns_of_long_lists_are_left_to_the_saved_finding() -> None:
    long = [{"tokens": ["word"] * 200}]
    table = pd.DataFrame({"a": [1, 2], "few": [[1], []], "text": "x" * 2000, "long": [[], long]})
    shown = view(table)
    assert [column.name for column in shown.columns] == ["a", "few", "text"]
    assert "word" not in base64.b64decode(shown.csv.partition(",")[2]).decode()
