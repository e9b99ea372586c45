"""Where a finding that was read from a store came from."""

from __future__ import annotations

import time
from typing import Any

from layerscope.finding import Provenance
from layerscope.store.store import Store


def provenance_of(
    store: Store, *, call: str, parameters: dict[str, Any], seed: int, started: float | None = None
) -> Provenance:
    """Provenance with the model, the data and the key of this store.

    Args:
        store: What was read.
        call: What gives the finding again.
        parameters: Of the analysis.
        seed: Of everything random.
        started: `time.perf_counter` when the analysis began; None: its time is not told.
    """
    return Provenance(
        model=str(store.about.get("model", "")),
        data=str(store.about.get("corpus", store.path.name)),
        store_key=store.key,
        call=call,
        parameters=parameters,
        seed=seed,
        seconds=None if started is None else round(time.perf_counter() - started, 2),
    )
