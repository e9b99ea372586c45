"""From whatever a person has in hand to a source of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerscope.analyses.sae.rows.held import SITE, HeldRows
from layerscope.analyses.sae.rows.source import Rows, refuse_short
from layerscope.analyses.sae.rows.stored import StoredRows
from layerscope.probes.reading.stored import stored_sites
from layerscope.store import Store

if TYPE_CHECKING:
    from layerscope.store.view import RowIndex

Sites = int | str | Sequence[int | str]


def rows_of(
    data: Store | str | Path | Tensor | Mapping[str, Tensor] | nn.Module | Rows,
    sites: Sites | None = None,
    *,
    corpus: Any = None,
    tokenizer: Any = None,
    rows: RowIndex | str | None = None,
    batch: int | None = None,
    reservoir_rows: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Rows:
    """A source of the rows of `sites`.

    Args:
        data: A store or the path of one; a tensor [rows, width] or one for each site; a model,
            which then runs over `corpus`; or a source already made, given back as it is.
        sites: Names or layers; not needed for tensors.
        corpus: What `read` takes, for a model.
        tokenizer: For a model; None takes the one at ``model.name_or_path``.
        rows: Only these rows of a store; for a model, what makes a row (as for `extract`).
        batch: Rows of the batches to come: refused here where a pass has fewer.
        reservoir_rows: Rows that a running model is shuffled over; None chooses.
        device: Where batches are wanted; None is the CPU for a store, the tensors' or the model's
            own device otherwise.

    Raises:
        LookupError: a site that is not there; names the nearest ones.
        FileNotFoundError: no store at this path.
        ValueError: fewer rows than a batch, NaN rows of a tensor, options that do not fit, or a
            source of other sites.
        TypeError: data of another kind.
    """
    found = _source(data, sites, corpus, tokenizer, rows, reservoir_rows, seed, device)
    if batch is not None and found.per_pass is not None:
        refuse_short(", ".join(found.sites), found.per_pass, batch)
    return found


def _source(
    data: Any,
    sites: Sites | None,
    corpus: Any,
    tokenizer: Any,
    rows: Any,
    reservoir_rows: int | None,
    seed: int,
    device: torch.device | str | None,
) -> Rows:
    if isinstance(data, Rows):
        _refuse_others(data, sites)
        return data
    if isinstance(data, nn.Module):
        from layerscope.analyses.sae.rows.live import LiveRows

        if corpus is None:
            raise ValueError("a model needs texts to run over: pass corpus=, as for extract")
        return LiveRows(
            data,
            corpus,
            _some(sites),
            tokenizer=tokenizer,
            rows=rows,
            seed=seed,
            device=device,
            reservoir_rows=reservoir_rows,
        )
    if corpus is not None:
        raise ValueError("corpus= is for a model; a store or a tensor has its rows already")
    if isinstance(data, Tensor | Mapping):
        if rows is not None:
            raise ValueError("rows= is for stores; index the tensors yourself")
        return HeldRows(_picked(data, sites), seed=seed, device=device)
    if isinstance(data, str | Path):
        data = Store.open(data)
    if not isinstance(data, Store):
        raise TypeError(
            f"rows come from a store or its path, a tensor, tensors by site, or a model with a "
            f"corpus, not from {type(data).__name__}"
        )
    # One by one: a transcoder's input comes first, whatever the order of the store.
    found = [site for one in _some(sites) for site in stored_sites(data, one)]
    unique = list(dict.fromkeys(found))
    return StoredRows(data, unique, seed=seed, device=device or "cpu", rows=rows)


def _refuse_others(source: Rows, sites: Sites | None) -> None:
    """A source has its sites already: asking for others must not go unheard."""
    if sites is None:
        return
    named = [f"blocks.{one}.resid_post" if isinstance(one, int) else one for one in _some(sites)]
    if tuple(named) != source.sites:
        raise ValueError(
            f"{source!r} was made for {', '.join(source.sites)}, and {', '.join(named)} is asked: "
            "make it for those sites, or name none"
        )


def _some(sites: Sites | None) -> list[int | str]:
    if sites is None or (not isinstance(sites, int | str) and not sites):
        raise ValueError("which site? Pass a name such as 'blocks.3.resid_post', or a layer")
    return [sites] if isinstance(sites, int | str) else list(sites)


def _picked(data: Tensor | Mapping[str, Tensor], sites: Sites | None) -> dict[str, Tensor]:
    """The tensors that were asked for, by site; one bare tensor takes the site's name."""
    if isinstance(data, Tensor):
        names = [SITE] if sites is None else _some(sites)
        if len(names) != 1:
            raise ValueError(f"one tensor cannot be {len(names)} sites; give one for each: {names}")
        return {str(names[0]): data}
    if sites is None:
        return dict(data)
    missing = [site for site in _some(sites) if site not in data]
    if missing:
        raise LookupError(f"no tensor for {missing[0]!r}; there are {', '.join(map(str, data))}")
    return {str(site): data[site] for site in _some(sites)}  # type: ignore[index]
