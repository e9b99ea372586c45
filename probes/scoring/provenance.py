"""Where a probe's finding came from, in the same words for every kind."""

from __future__ import annotations

from typing import Any

from layerscope.finding import Provenance
from layerscope.probes.kinds.kind import Asked, Kind, SourceKind
from layerscope.probes.reading.sources import Source, spelled
from layerscope.store.origin import provenance_of


def provenance(source: Source, kind: Kind, asked: Asked, **more: Any) -> Provenance:
    """Provenance of a finding of this kind; `more` are parameters that were decided on the way."""
    layer = asked.layer
    options = kind.options()
    parameters = {
        "layer": spelled(layer),
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
    return provenance_of(
        source.store, call=_call(kind, asked, parameters), parameters=parameters, seed=asked.seed
    )


def _call(kind: Kind, asked: Asked, parameters: dict[str, Any]) -> str:
    """The line that measures this again on the same store, given the twin's as ``twin``."""
    labelled = not isinstance(kind, SourceKind) or kind.needs_label
    written = kind.written()
    said = {
        "label": repr(parameters["label"]) if labelled else "None",
        "kind": "None" if written == "'linear'" else written,
        "task": repr(parameters["task"]),
        "folds": repr(asked.folds),
        "pieces": repr(asked.pieces),
        "max_rows": repr(asked.max_rows),
        "control": "None" if asked.control else "False",
        "twin": "twin" if parameters["twin"] else "None",
        "solver": "None" if asked.solver == "auto" else repr(asked.solver),
        "device": repr(asked.device),
        "seed": repr(asked.seed),
    }
    options = "".join(f", {name}={value}" for name, value in said.items() if value != "None")
    return f"layerscope.probe(store, {parameters['layer']!r}{options})"
