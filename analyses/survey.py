"""`survey`: what is worth asking of any trained model, in one call and a few minutes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from layerscope.corpus import Corpus
    from layerscope.finding import Finding
    from layerscope.probes.reading.sources import Layers, Source
    from layerscope.store import Store

QUESTIONS = (
    "probe",
    "mdl",
    "word_classes",
    "geometry",
    "similarity",
    "sparsity",
    "attention_modes",
    "concept_erasure",
)
LABELLED = frozenset({"probe", "mdl", "word_classes", "concept_erasure"})
LEFT_OUT = "left out of this survey: "
"""How the notes begin that say what was not answered."""

Ask = Callable[[], "Finding"]


def survey(
    model_or_store: nn.Module | Store | str | Path,
    data: Corpus | Any = None,
    layer: Layers = "all",
    *,
    label: str | None = None,
    skip: str | Sequence[str] = (),
    twin: bool | Store = False,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
    after: Callable[[tuple[Finding, ...]], object] | None = None,
) -> tuple[Finding, ...]:
    """The findings of the default battery, in the order in which a report tells them.

    Activations are extracted once. A store answers what activations alone can tell: how well the
    label is read and at what description length, how its classes cluster, the geometry of the
    layers and their likeness to each other. A model is also asked about its neurons, its
    attention heads, and whether it uses what can be read. Without labels only the questions
    that need none are asked. What was left out, or had no answer, is in the notes of the last
    finding with the reason.

    Args:
        model_or_store: A model, a store, or its folder.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes the bundled one.
        layer: Sites, as `probe` takes them; a CNN has no ``"all"``, name its modules.
        label: Class column to read; None takes the only one, or ``upos``.
        skip: Questions to leave out: ``probe``, ``mdl``, ``word_classes``, ``geometry``,
            ``similarity``, ``sparsity``, ``attention_modes``, ``concept_erasure``.
        twin: True also measures the same architecture with fresh weights.
        tokenizer: For `extract`; None takes the model's own.
        seed: Of everything that is drawn.
        progress: Whether to show bars.
        after: Called with all findings so far whenever there is one more, such as to save them.

    Raises:
        LookupError: no such label or question, or several labels and none named.
        ValueError: no question has an answer; the message has the reasons.
    """
    from torch import nn

    from layerscope.corpus import Corpus, bundled, read
    from layerscope.probes.reading.sources import source_of

    left_out = dict.fromkeys(_skipped(skip), "skipped")
    asked: dict[str, Any] = {"tokenizer": tokenizer, "seed": seed, "progress": progress}
    if isinstance(model_or_store, nn.Module):
        data = bundled() if data is None else read(data)
    if isinstance(data, Corpus):
        label = _label(data, label)  # one that is not there is refused before the model runs
    source = source_of(model_or_store, layer, data, twin, labelled=False, **asked)
    label = _label(source.store, label)
    asks = _of_store(source, layer, label, seed, progress)
    if isinstance(model_or_store, nn.Module):
        asks |= _of_model(model_or_store, data, layer, label, asked)
    return _answers(asks, left_out, label, after)


def _skipped(skip: str | Sequence[str]) -> list[str]:
    from layerscope.corpus.names import nearest

    names = [skip] if isinstance(skip, str) else list(skip)
    for name in names:
        if name not in QUESTIONS:
            raise LookupError(f"no question {name!r} to skip; {nearest(name, QUESTIONS)}")
    return names


def _label(source: Corpus | Store, label: str | None) -> str | None:
    """The label asked for, or that is meant; None where there are no labels at all."""
    from layerscope.probes.reading.labels import label_of

    if label is None and not set(source.labels) - {"word", "lemma"}:
        return None
    return label_of(source, label)


def _answers(
    asks: dict[str, Ask],
    left_out: dict[str, str],
    label: str | None,
    after: Callable[[tuple[Finding, ...]], object] | None,
) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for name in QUESTIONS:
        if name in left_out:
            continue
        if label is None and name in LABELLED:
            left_out[name] = "no labels"
        elif name not in asks:
            left_out[name] = "not in what was given"
        else:
            try:
                found.append(asks[name]())
            except (ValueError, LookupError) as error:
                left_out[name] = str(error.args[0] if error.args else error)
                continue
            if after is not None:
                after(_noted(found, left_out))
    if not found:
        raise ValueError("; ".join(_notes(left_out)))
    noted = _noted(found, left_out)
    if after is not None:
        after(noted)
    return noted


def _noted(found: Sequence[Finding], left_out: dict[str, str]) -> tuple[Finding, ...]:
    last = found[-1]
    return (*found[:-1], replace(last, notes=(*last.notes, *_notes(left_out))))


def _notes(left_out: dict[str, str]) -> list[str]:
    """One note for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        reasons.setdefault(reason, []).append(name)
    return [f"{LEFT_OUT}{', '.join(names)} ({reason})" for reason, names in reasons.items()]


def _of_store(
    source: Source, layer: Layers, label: str | None, seed: int, progress: bool
) -> dict[str, Ask]:
    from layerscope.analyses import geometry, similarity, sparsity, word_classes
    from layerscope.probes.probe import probe

    store, twin = source.store, source.twin or False
    # Layers of a model, such as -2, are others among the sites that were stored.
    sites: Layers = layer if layer == "all" else list(source.sites)
    asked: dict[str, Any] = {"seed": seed, "progress": progress}
    labelled = {**asked, "label": label, "twin": twin}
    asks: dict[str, Ask] = {
        "probe": lambda: probe(store, sites, **labelled),
        "mdl": lambda: probe(store, sites, kind="mdl", **labelled),
        "word_classes": lambda: word_classes(store, layer=sites, maps=("pca",), **labelled),
        "geometry": lambda: geometry(store, layer=sites, twin=twin, **asked),
        "similarity": lambda: similarity(store, layer=sites, **asked),
    }
    if any(site.endswith(".mlp_act") for site in store.sites):
        asks["sparsity"] = lambda: sparsity(store, **asked)
    return asks


def _of_model(
    model: nn.Module, data: Any, layer: Layers, label: str | None, asked: dict[str, Any]
) -> dict[str, Ask]:
    from layerscope.analyses import attention_modes, concept_erasure, sparsity
    from layerscope.hooks.anatomy import anatomy

    there = anatomy(model).sites
    asks: dict[str, Ask] = {}
    if any(site.endswith(".mlp_act") for site in there):
        asks["sparsity"] = lambda: sparsity(model, data, **asked)
    if any(site.endswith(".pattern") for site in there):
        asks["attention_modes"] = lambda: attention_modes(model, data, **asked)
    if "logits" in there:
        asks["concept_erasure"] = lambda: concept_erasure(model, data, layer, label=label, **asked)
    return asks
