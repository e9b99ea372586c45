"""From what a user gives to the activations that are probed: a store, and its twin's if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from layerscope.probes.reading.labels import label_of
from layerscope.probes.reading.stored import stored_sites
from layerscope.store import Store, differences

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples

Layers = int | str | Sequence[int | str]
_OWN = ("model", "sites", "dtype")
"""Parts of a store's key in which the twin's may differ: the rows are the same."""


def spelled(layer: Layers) -> int | str | list[int | str]:
    """As it stands in a finding's parameters and call: several are a list."""
    return layer if isinstance(layer, (int, str)) else list(layer)


@dataclass(frozen=True)
class Source:
    """Activations to probe."""

    store: Store
    sites: tuple[str, ...]
    twin: Store | None = None
    """The same rows of the untrained twin."""


def source_of(
    given: nn.Module | Store | str | Path,
    layer: Layers,
    data: Corpus | Samples | Any = None,
    twin: bool | Store = False,
    *,
    label: str | Sequence[str] | None = None,
    labelled: bool = True,
    further: str | None = None,
    whole_texts: bool = False,
    rows: str | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> Source:
    """The store that was given, or the one that a model's activations are extracted to.

    Args:
        given: A model, a store, or its folder.
        layer: Sites, as `probe` takes them.
        data: For a model only; None takes the bundled corpus.
        twin: True also extracts the untrained twin; or its store.
        label: What is to be read, or several; None means the only one, or ``upos``.
        labelled: Refuse data without that label before the model runs.
        further: Another label that must be there then.
        whole_texts: Refuse a label that differs within a text, also before the model runs.
        rows: Row rule for `extract`; None takes its default.
        seed: Of the twin.

    Raises:
        LookupError: unknown label or site, with the nearest names.
        TypeError: neither a model nor a store.
        ValueError: data or a row rule beside a store, a twin of other rows.
    """
    if not isinstance(given, nn.Module):
        if rows is not None:
            raise ValueError(
                f"a store has its own rows; rows={rows!r} is for a model: extract again with it"
            )
        return from_store(given, layer, data, twin)
    return from_model(
        given,
        layer,
        data,
        twin,
        label=label,
        labelled=labelled,
        further=further,
        whole_texts=whole_texts,
        rows=rows,
        tokenizer=tokenizer,
        seed=seed,
        progress=progress,
    )


def from_store(
    given: Store | str | Path, layer: Layers, data: object, twin: bool | Store
) -> Source:
    """A store, or the store in a folder."""
    if not isinstance(given, (Store, str, Path)):
        raise TypeError(f"give a model, a store or its folder, not {type(given).__name__}")
    if data is not None:
        raise ValueError("a store has its own rows; give data only with a model")
    if twin is True:
        raise ValueError(
            "twin=True needs the model, a store has only its activations; give the model, or "
            "twin=extract(untrained_twin(model), ...)"
        )
    store = given if isinstance(given, Store) else Store.open(given)
    sites = stored_sites(store, layer)
    return _checked(Source(store, sites, twin or None))


def from_model(
    model: nn.Module,
    layer: Layers,
    data: Corpus | Samples | Any,
    twin: bool | Store,
    *,
    label: str | Sequence[str] | None,
    labelled: bool,
    further: str | None = None,
    whole_texts: bool = False,
    rows: str | None,
    tokenizer: Any,
    seed: int,
    progress: bool,
) -> Source:
    """Extract the model's activations, and its twin's where `twin` is True."""
    from layerscope.corpus import Corpus, bundled, read
    from layerscope.hooks.extract import extract
    from layerscope.hooks.load import tokenizer_of
    from layerscope.hooks.twin import untrained_twin

    corpus = bundled() if data is None else read(data)
    if isinstance(corpus, Corpus) and labelled:
        names = [label] if label is None or isinstance(label, str) else [*label]
        _check_labels(corpus, names if further is None else [*names, further], whole_texts)
    layers = _with_input(model) if layer == "all" else layer

    def run(module: nn.Module, tokens: Any) -> Store:
        return extract(module, corpus, layers, rows=rows, tokenizer=tokens, progress=progress)

    store = run(model, tokenizer)
    if twin is True:
        reads_text = store.parts.get("tokenizer") is not None
        tokens = tokenizer_of(model, tokenizer) if reads_text else None
        twin = run(untrained_twin(model, seed=seed), tokens)
    return _checked(Source(store, tuple(store.sites), twin or None))


def _check_labels(corpus: Corpus, names: Sequence[str | None], whole_texts: bool) -> None:
    """Refuse labels that are not there, or not of the texts, before the model runs."""
    for name in names:
        found = label_of(corpus, name)
        if not whole_texts or found not in corpus.word_labels:
            continue
        for text in corpus:
            words = text.words.column(found) if text.words else ()
            if len({value for value in words if value is not None}) > 1:
                raise ValueError(
                    f"label {found!r} has several values in text {text.id!r}: it belongs to words, "
                    "and this kind of probe reads whole texts; labels of whole texts here: "
                    f"{', '.join(map(repr, corpus.text_labels)) or 'none'}"
                )


def _with_input(model: nn.Module) -> list[str]:
    """Every residual stream after a block, and the one before the first."""
    from layerscope.hooks.anatomy import anatomy
    from layerscope.hooks.sites import resolve

    first = ["embed"] if "embed" in anatomy(model).sites else []
    return [*first, *resolve(model, "all")]


def _checked(source: Source) -> Source:
    """Refuse a twin that does not have the same rows and sites."""
    store, twin = source.store, source.twin
    if twin is None:
        return source
    missing = [site for site in source.sites if site not in twin.sites]
    if missing:
        raise LookupError(f"the twin's store lacks {', '.join(missing)}; extract it with them")
    ours, theirs = ({k: v for k, v in s.parts.items() if k not in _OWN} for s in (store, twin))
    if ours != theirs or len(store) != len(twin):
        raise ValueError(
            "the twin's store has other rows than the model's; extract both from the same data "
            f"with the same tokenizer and row rule. What differs: {differences(ours, theirs)}"
        )
    return source
