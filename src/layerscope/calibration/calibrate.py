"""Does every instrument read what is there? Each one measures something planted, in under a minute."""

from __future__ import annotations

import math
import os
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from layerscope.calibration.finding import Calibration
from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.catalogue import CATALOGUE
from layerscope.calibration.words import AS_EXPECTED, FAILED, OFF
from layerscope.finding import Provenance

Row = dict[str, Any]


def calibrate(
    instruments: str | Sequence[str] | None = None, *, seed: int = 0, progress: bool = True
) -> Calibration:
    """Let instruments of the toolkit measure planted models and data whose answers are known.

    Every expected value is the plant's own (a closed form, or how it was built), every measured one
    comes from the public call; each instrument also sees nothing where nothing is planted, where
    that can be asked. The user's cache of activations is neither read nor written.

    Args:
        instruments: Names (``"layer_skip"``), patterns (``"probe.*"``) or families (``"what if"``),
            one or several; None for all.
        seed: Of everything random in the plants. At other seeds than 0, about 1 in 400 of the
            sampled readings is off by chance: their allowed deviations are three standard errors.
        progress: Show a bar.

    Returns:
        The finding: one row per reading, with its verdict. An instrument that raises an error is a
        row whose verdict is ``"failed"``, and the others go on.

    Raises:
        ValueError: no instrument of such a name.
    """
    from tqdm.auto import tqdm

    chosen = choose(instruments)
    started = time.perf_counter()
    rows: list[Row] = []
    with tqdm(
        total=len(chosen), desc="calibrating", unit="instrument", disable=not progress
    ) as bar:
        for instrument, its_rows in measured(chosen, seed):
            rows += its_rows
            bar.set_description(f"calibrating: {instrument.name}")
            bar.update()
    return as_finding(rows, instruments, seed, time.perf_counter() - started)


def choose(instruments: str | Sequence[str] | None) -> tuple[Instrument, ...]:
    """The instruments of these names, patterns or families, in the catalogue's order.

    Raises:
        ValueError: one of them fits none.
    """
    if instruments is None:
        return CATALOGUE
    asked = [instruments] if isinstance(instruments, str) else list(instruments)
    if not asked:
        raise ValueError("no instruments were asked for; leave it out for all of them")
    for one in asked:
        if not any(_fits(instrument, one) for instrument in CATALOGUE):
            raise ValueError(_unknown(one))
    return tuple(i for i in CATALOGUE if any(_fits(i, one) for one in asked))


def measured(chosen: Iterable[Instrument], seed: int) -> Iterator[tuple[Instrument, list[Row]]]:
    """Each instrument with the rows of its readings, as soon as it has measured."""
    with tempfile.TemporaryDirectory(prefix="layerscope-calibrate-") as folder, _one_thread():
        for instrument in chosen:
            with _cache_in(folder), warnings.catch_warnings():
                # What a plant makes a library warn of is no news to the reader.
                warnings.simplefilter("ignore")
                rows = list(_rows(instrument, seed))
            yield instrument, rows


def as_finding(
    rows: list[Row], instruments: str | Sequence[str] | None, seed: int, seconds: float
) -> Calibration:
    """The rows as one finding."""
    import pandas as pd

    asked = [instruments] if isinstance(instruments, str) else instruments
    parameters = {"instruments": None if asked is None else list(asked)}
    return Calibration(
        table=pd.DataFrame(rows),
        provenance=Provenance(
            model="planted models",
            data="planted data",
            parameters=parameters,
            seed=seed,
            seconds=round(seconds, 2),
        ),
    )


def _rows(instrument: Instrument, seed: int) -> Iterator[Row]:
    started, given = time.perf_counter(), 0
    try:
        for reading in instrument.read(seed):
            now = time.perf_counter()
            yield _row(instrument, reading, now - started)
            started, given = now, given + 1
        if not given:
            raise RuntimeError("it gave no reading")
    except Exception as error:  # noqa: BLE001  (a broken instrument says so, and the others go on)
        yield _failed(instrument, error, time.perf_counter() - started)


def _row(instrument: Instrument, reading: Reading, seconds: float) -> Row:
    off = _off(reading)
    return {
        "instrument": instrument.name,
        "family": instrument.family,
        "planted": instrument.planted,
        "quantity": reading.quantity,
        "expected": _number(reading.expected),
        "measured": _number(reading.measured),
        "expected_text": _words(reading.expected),
        "measured_text": _words(reading.measured),
        "allowed": float(reading.allowed),
        "unit": reading.unit,
        "off": off,
        "verdict": AS_EXPECTED if off <= 1 else OFF,
        "seconds": seconds,
        "source": instrument.source,
    }


def _failed(instrument: Instrument, error: Exception, seconds: float) -> Row:
    said = f"{type(error).__name__}: {error}".strip(": ")
    reading = Reading("a reading", "", said)
    return _row(instrument, reading, seconds) | {"off": math.nan, "verdict": FAILED}


def _off(reading: Reading) -> float:
    """Deviation in units of what is allowed: at most 1 is as expected; inf where it cannot be said."""
    expected, measured = reading.expected, reading.measured
    if isinstance(expected, str) or isinstance(measured, str):
        return 0.0 if expected == measured else math.inf
    if expected == measured:
        return 0.0
    apart = abs(measured - expected)
    return apart / reading.allowed if reading.allowed > 0 and apart < math.inf else math.inf


def _number(value: float | str) -> float:
    return math.nan if isinstance(value, str) else float(value)


def _words(value: float | str) -> str:
    return value if isinstance(value, str) else ""


def _fits(instrument: Instrument, asked: str) -> bool:
    return fnmatchcase(instrument.name, asked) or instrument.family.casefold() == asked.casefold()


def _unknown(asked: str) -> str:
    names = [instrument.name for instrument in CATALOGUE]
    near = get_close_matches(asked, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}? " * bool(near)
    families = ", ".join(repr(family) for family in dict.fromkeys(i.family for i in CATALOGUE))
    return f"no instrument is called {asked!r}; {hint}`layerscope calibrate --list` has all; families: {families}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """The plants are tiny: one thread is faster than several, and always adds in the same order."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """What instruments extract goes to a folder that is removed, not to the user's cache."""
    before = os.environ.get("LAYERSCOPE_CACHE")
    os.environ["LAYERSCOPE_CACHE"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["LAYERSCOPE_CACHE"]
        else:
            os.environ["LAYERSCOPE_CACHE"] = before
