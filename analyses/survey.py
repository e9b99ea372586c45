"""`survey`: what is worth asking of any trained model, in one call and a few minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from layerscope.corpus import Corpus
    from layerscope.finding import Finding
    from layerscope.store import Store


def survey(
    model_or_store: nn.Module | Store | str | Path,
    data: Corpus | Any = None,
    *,
    label: str | None = None,
    twin: bool | Store = False,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Finding, ...]:
    """The findings of the default battery, in the order in which a report tells them.

    Activations are extracted once. A store answers what activations alone can tell: how well the
    label is read and at what description length, how its classes cluster, the geometry of the
    layers and their likeness to each other. A model is also asked about its neurons, its
    attention heads, and whether it uses what can be read.

    Args:
        model_or_store: A model, a store, or its folder.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes the bundled one.
        label: Class column to read; None takes the only one, or ``upos``.
        twin: True also measures the same architecture with fresh weights.
        tokenizer: For `extract`; None takes the model's own.
        seed: Of everything that is drawn.
        progress: Whether to show bars.

    Raises:
        LookupError: no such label, or several and none named.
        ValueError: labels that cannot be split by group, or activations that are NaN.
    """
    from torch import nn

    from layerscope.probes.reading.sources import source_of

    asked: dict[str, Any] = {"tokenizer": tokenizer, "seed": seed, "progress": progress}
    source = source_of(model_or_store, "all", data, twin, label=label, **asked)
    found = list(_of_store(source.store, source.twin or False, label, seed, progress))
    if isinstance(model_or_store, nn.Module):
        found += _of_model(model_or_store, data, label, asked)
    return tuple(found)


def _of_store(
    store: Store, twin: Store | bool, label: str | None, seed: int, progress: bool
) -> Iterator[Finding]:
    from layerscope.analyses import geometry, similarity, word_classes
    from layerscope.probes.probe import probe

    asked: dict[str, Any] = {"seed": seed, "progress": progress}
    yield probe(store, "all", label=label, twin=twin, **asked)
    yield probe(store, "all", label=label, kind="mdl", twin=twin, **asked)
    yield word_classes(store, label=label, twin=twin, maps=("pca",), **asked)
    yield geometry(store, twin=twin, **asked)
    yield similarity(store, **asked)


def _of_model(
    model: nn.Module, data: Any, label: str | None, asked: dict[str, Any]
) -> Iterator[Finding]:
    from layerscope.analyses import attention_modes, concept_erasure, sparsity
    from layerscope.hooks.anatomy import anatomy

    there = anatomy(model).sites
    heard: dict[str, Callable[..., Finding]] = {"mlp_act": sparsity, "pattern": attention_modes}
    for site, analysis in heard.items():
        if any(name.endswith(f".{site}") for name in there):
            yield analysis(model, data, **asked)
    if "logits" in there:
        yield concept_erasure(model, data, label=label, **asked)
