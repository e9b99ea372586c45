"""Model and corpus to a store: every wanted activation, computed once.

The forward pass stops after the last wanted site, and pads are dropped before anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from layerscope.hooks.edits import active
from layerscope.hooks.extracting.feeds import Feed, feed_of
from layerscope.hooks.extracting.filling import Filling, out_of_memory, running, too_big
from layerscope.hooks.load import device_of, dtype_of
from layerscope.hooks.locating.structure import title
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.sites import resolve
from layerscope.store import Store, default_folder, identity_of, key_of

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHARD_BYTES = {"cpu": 48 << 20, "cuda": 512 << 20}


def extract(
    model: nn.Module,
    corpus: Corpus | Samples | Any,
    layers: int | str | Sequence[int | str] = "all",
    *,
    rows: str | None = None,
    tokenizer: Any = None,
    dtype: str | torch.dtype | None = None,
    to: str | Path | None = None,
    special_tokens: bool = False,
    too_long: str = "truncate",
    batch_tokens: int | None = None,
    progress: bool = True,
) -> Store:
    """Run `model` over `corpus` and keep what `layers` hold; what is already on disk stays.

    Interrupted at any moment, even killed, the next call goes on with the missing shards. Called
    again with nothing changed, it returns the finished store at once. Two processes may fill one
    store together.

    Args:
        model: Any module; it comes back in the mode it was in.
        corpus: What `read` returns, or what `read` accepts.
        layers: An int (``3`` is ``blocks.3.resid_post``), a site, a pattern, a list of these, a
            module path, or ``"all"`` (every ``resid_post``).
        rows: For texts ``"tokens"`` (default), ``"words"`` (mean over the pieces of each labelled
            word), ``"texts:mean"``, ``"texts:last"`` or ``"texts:first"``. For samples ``"mean"``
            over positions (default), ``"flatten"`` or ``"positions"``.
        tokenizer: Object or path; None takes the one at ``model.name_or_path``.
        dtype: Of the stored numbers: float32, bfloat16 or float16; None keeps the model's own.
        to: Folder of the store; None puts it into the user's cache under its key.
        special_tokens: Whether BOS, SEP and the like make rows.
        too_long: ``"truncate"`` cuts texts at the model's context and counts them in the notes,
            ``"refuse"`` raises instead.
        batch_tokens: Padded tokens of one batch (for samples: samples); None chooses by device.
        progress: Whether to show a bar.

    Returns:
        The finished store, its rows in the order of the corpus.

    Raises:
        LookupError: a site that the model does not have.
        ValueError: an edit is running on the model; no texts, a text too long with ``too_long="refuse"``, activations that are NaN
            or infinite (named with site and row), or options that do not fit the corpus.
        StoreMismatch: `to` holds another extraction.
    """
    _refuse_edited(model)
    sites = resolve(model, layers)
    feed = feed_of(
        model,
        corpus,
        sites,
        rows=rows,
        tokenizer=tokenizer,
        special_tokens=special_tokens,
        too_long=too_long,
    )
    kept = _dtype(dtype, model)
    parts = {
        "model": identity_of(model),
        **feed.identity,
        "sites": list(sites),
        "dtype": str(kept).removeprefix("torch."),
    }
    folder = default_folder(key_of(parts)) if to is None else Path(to)
    with evaluating(model), torch.inference_mode():
        store = _open(model, feed, sites, kept, parts, folder, batch_tokens)
        if not store.complete:
            Filling(model, feed, store, progress).run()
    return store


def _refuse_edited(model: nn.Module) -> None:
    running = active(model)
    if running:
        more = f" and {len(running) - 1} more" if len(running) > 1 else ""
        raise ValueError(
            f"an edit is running on this model ({running[0]}{more}), and a store is kept under the "
            "key of the model without it; call extract outside the edit, or read what the edited "
            "model does with capture()"
        )


def _dtype(asked: str | torch.dtype | None, model: nn.Module) -> torch.dtype:
    if isinstance(asked, str):
        asked = DTYPES.get(asked.removeprefix("torch."), asked)
    if asked is None:
        own = dtype_of(model)
        asked = own if own in DTYPES.values() else torch.float32
    if asked not in DTYPES.values():
        raise ValueError(f"dtype {asked!r}: a store holds {', '.join(DTYPES)}")
    return asked  # type: ignore[return-value]


def _open(
    model: nn.Module,
    feed: Feed,
    sites: Sequence[str],
    dtype: torch.dtype,
    parts: dict[str, Any],
    folder: Path,
    batch_tokens: int | None,
) -> Store:
    """The store in `folder`, with its plan; a new one is planned by running one text."""
    if (folder / "store.json").is_file():
        old = Store.open(folder)
        widths = {name: spec.width for name, spec in old.sites.items()}
        return Store.create(folder, parts, sites=widths, dtype=dtype, about=old.about)
    device = device_of(model).type
    first = feed.first()
    seen: dict[str, tuple[int, int]] = {}
    try:
        with running(model, sites) as run:
            run(first, lambda site, x: seen.update({site: (x.shape[0], x.shape[1])}))
    except RuntimeError as error:
        raise (too_big(feed.unit) if out_of_memory(error) else error) from error
    widths = {site: seen[site][1] for site in sites}
    row_bytes = sum(widths.values()) * dtype.itemsize
    room = SHARD_BYTES.get(device, SHARD_BYTES["cuda"]) / row_bytes
    plan = feed.plan(room, max(n for n, _ in seen.values()), device)
    if batch_tokens is not None:
        plan["batch"] = batch_tokens
    about = {
        "model": title(model),
        "corpus": feed.name,
        "plan": plan,
    }
    return Store.create(folder, parts, sites=widths, dtype=dtype, about=about)
