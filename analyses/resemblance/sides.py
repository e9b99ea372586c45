"""What was given to `similarity`, as stores with names: models are run, folders opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from layerscope.analyses.training.checkpoints import checkpoints, folder_of
from layerscope.probes.reading.sources import Layers, Source, source_of
from layerscope.store import Store

Given = nn.Module | Store | str | Path


@dataclass(frozen=True)
class Asked:
    """How models are run."""

    data: Any
    layer: Layers
    rows: str | None
    tokenizer: Any
    seed: int
    progress: bool


@dataclass(frozen=True)
class Side:
    """One of what is compared."""

    name: str
    source: Source

    @property
    def store(self) -> Store:
        return self.source.store


def sides_of(
    a: Given | Sequence[Given] | Mapping[Any, Given],
    b: Given | None,
    asked: Asked,
    *,
    layer_b: Layers | None = None,
    twin: bool | Store = False,
) -> tuple[str, list[Side]]:
    """What is compared (``within``, ``between`` or ``steps``) and the sides of it.

    Raises:
        TypeError: texts in the place of b.
        ValueError: a list of checkpoints with b or twin, two models with a twin, or a model beside a
            store without data.
    """
    if b is not None:
        _refuse_texts(b)
    _refuse_mixed(_listed(a, b), asked)
    if isinstance(a, (list, tuple, Mapping)):
        if b is not None or twin is not False:
            raise ValueError("several checkpoints are compared with the last; leave b and twin out")
        return "steps", [
            Side(one.name, opened(cast("Given", one.given), asked)) for one in checkpoints(a)
        ]
    one = cast("Given", a)
    if b is None:
        return "within", [Side(names_of([one])[0], opened(one, asked, twin=twin))]
    if twin is not False:
        raise ValueError("with two models the twin is a third one; give it as b")
    asked = replace(asked, rows=asked.rows or row_rule([one, b], asked.tokenizer))
    other = replace(asked, layer=asked.layer if layer_b is None else layer_b)
    names = names_of([one, b])
    return "between", [Side(names[0], opened(one, asked)), Side(names[1], opened(b, other))]


def _listed(a: Any, b: Given | None) -> list[Any]:
    given = list(a.values()) if isinstance(a, Mapping) else a
    return [*(given if isinstance(given, (list, tuple)) else [given]), *([] if b is None else [b])]


def _refuse_texts(given: object) -> None:
    """Refuse texts before anything is extracted.

    Raises:
        TypeError: `given` are texts, not a model, a store or a folder.
    """
    path = isinstance(given, (str, Path))
    if isinstance(given, (nn.Module, Store)) or (path and not is_texts(cast("str", given))):
        return
    what = repr(str(given)) if path else f"a {type(given).__name__}"
    raise TypeError(
        f"b is {what}, where another model or store belongs; did you mean data=? "
        "Write similarity(model, data=...)"
    )


def is_texts(name: str | Path) -> bool:
    """Whether a path has the suffix of a file of texts, such as .txt or .conllu."""
    from layerscope.corpus.reading import KINDS

    path = Path(str(name).removesuffix(".gz"))
    return path.suffix.lower() in KINDS and not Path(name).is_dir()


def _refuse_mixed(given: Sequence[Any], asked: Asked) -> None:
    """Refuse a model beside a store without data: the bundled corpus would have other rows."""
    stored = [isinstance(one, Store) or _is_store(one) for one in given]
    if asked.data is None and any(stored) and not all(stored):
        raise ValueError(
            "a store has the rows of its own texts, and a model needs the same; pass data=, what the "
            "store was extracted from"
        )


def _is_store(given: object) -> bool:
    return isinstance(given, (str, Path)) and (Path(given) / "store.json").is_file()


def opened(given: Given, asked: Asked, *, twin: bool | Store = False) -> Source:
    """The store of a model or folder; a folder without a store is loaded as a model.

    Raises:
        TypeError: neither a model, a store nor a path.
        ValueError: data given, and a store that brings its own rows.
    """
    if isinstance(given, (str, Path)) and not _is_store(given):
        from layerscope.hooks.load import load_model

        given = load_model(given)
    if not isinstance(given, (nn.Module, Store, str, Path)):
        raise TypeError(
            f"compare models, stores or their folders, not {type(given).__name__}; several "
            "checkpoints as a list or a dict"
        )
    return source_of(
        given,
        asked.layer,
        asked.data if isinstance(given, nn.Module) else None,
        twin,
        labelled=False,
        rows=asked.rows,
        tokenizer=asked.tokenizer,
        seed=asked.seed,
        progress=asked.progress,
    )


def names_of(given: Sequence[Given]) -> list[str]:
    """A short name for each: the folder or the class, where that tells them apart; else a, b, c."""
    for found in ([_own_folder(one) for one in given], [_class_of(one) for one in given]):
        if all(found) and len(set(found)) == len(found):
            return [str(name) for name in found]
    return [chr(ord("a") + i) if len(given) <= 26 else str(i) for i in range(len(given))]


def _own_folder(one: Given) -> str | None:
    """The folder that somebody named; a store in the cache is in one named by its key."""
    if isinstance(one, Store) and one.path.name == one.key:
        return None
    return folder_of(one)


def _class_of(one: Given) -> str | None:
    if isinstance(one, Store):
        return str(one.about.get("model", "")).split(" ")[0].rstrip(",") or None
    return type(one).__name__ if isinstance(one, nn.Module) else None


def row_rule(given: Sequence[Given], tokenizer: Any) -> str | None:
    """``words`` where the models have different tokenizers, else None: `extract` decides."""
    from layerscope.hooks.load import tokenizer_of

    if tokenizer is not None or not all(isinstance(one, nn.Module) for one in given):
        return None
    vocabularies = []
    for one in given:
        if not getattr(getattr(one, "config", None), "name_or_path", ""):
            return None
        try:
            vocabularies.append(tokenizer_of(one).get_vocab())  # type: ignore[arg-type]
        except (AttributeError, LookupError, OSError, TypeError, ValueError):
            return None  # extract says what is wrong with it
    return None if all(v == vocabularies[0] for v in vocabularies[1:]) else "words"
