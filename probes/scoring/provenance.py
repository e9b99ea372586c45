"""Where a probe's finding came from, in the same words for every kind."""

from __future__ import annotations

from typing import Any

from layerscope.finding import Provenance
from layerscope.probes.kinds.kind import Asked, Kind
from layerscope.probes.reading.sources import Source


def provenance(source: Source, kind: Kind, asked: Asked, **more: Any) -> Provenance:
    """Provenance of a finding of this kind; `more` are parameters that were decided on the way."""
    layer = asked.layer
    options = kind.options()
    parameters = {
        "layer": layer if isinstance(layer, (int, str)) else list(layer),
        "label": asked.label,
        "kind": kind.name,
        **({"options": options} if options else {}),
        "task": asked.task,
        "folds": asked.folds,
        "pieces": asked.pieces,
        "control": asked.control,
        "twin": source.twin is not None,
        "max_rows": asked.max_rows,
        **more,
    }
    store = source.store
    return Provenance(
        model=str(store.about.get("model", "")),
        data=str(store.about.get("corpus", store.path.name)),
        store_key=store.key,
        call=_call(parameters, asked.seed),
        parameters=parameters,
        seed=asked.seed,
    )


def _call(parameters: dict[str, Any], seed: int) -> str:
    """The line that measures this again on the same store."""
    kind = () if parameters["kind"] == "linear" else ("kind",)
    said = ("label", *kind, "task", "folds", "pieces", "max_rows")
    options = "".join(f", {name}={parameters[name]!r}" for name in said)
    return f"layerscope.probe(store, {parameters['layer']!r}{options}, seed={seed})"
