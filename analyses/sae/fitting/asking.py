"""From what a user asks to a plan: defaults, one value for each SAE, clear refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from layerscope.analyses.sae.architectures.afa import AFA
from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.architectures.catalogue import by_name
from layerscope.analyses.sae.architectures.crosscoder import Crosscoder
from layerscope.analyses.sae.architectures.jumprelu import JumpReLU
from layerscope.analyses.sae.architectures.transcoder import Transcoder
from layerscope.analyses.sae.fitting.plan import Plan, Sites
from layerscope.analyses.sae.fitting.schedule import default_rate
from layerscope.analyses.sae.rows.source import Rows

PASSES = 10
"""Passes over the rows, where nothing else is asked."""
BATCH = {"cpu": 4096, "cuda": 16_384}
EXPANSION = 8
"""Latents per dimension, where nothing else is asked."""
LONGEST_SILENCE = 10_000_000
SPARSITY = {"jumprelu": "l0"}
"""Where `k` is another option's name."""
PRECISIONS = ("auto", "float32", "bfloat16")

Numbers = float | Sequence[float] | None


def tuple_of(value: Any) -> tuple[Any, ...]:
    """One number as a tuple of one; a sequence as a tuple."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def plan_for(
    rows: Rows,
    inputs: Sequence[Sites],
    targets: Sequence[Sites],
    *,
    architecture: str | Architecture,
    k: Numbers,
    l1: Numbers,
    width: int | None,
    tokens: int | None,
    batch: int | None,
    lr: Numbers,
    seed: int | Sequence[int],
    dead_after: int | None,
    clip: float,
    scaling: str,
    precision: str,
) -> Plan:
    """Everything that decides the training of ``len(inputs)`` sites, each with every option.

    Raises:
        ValueError: options that do not fit the rows or each other; says what would do.
    """
    d_in, d_out = _width(rows, inputs, "input"), _width(rows, targets, "target")
    if isinstance(architecture, str):
        chosen = _named(architecture, rows, inputs, targets, k, l1)
    else:
        chosen = _given_as_object(architecture, k, l1)
    count = _count(chosen, lr, seed)
    if inputs != targets and not isinstance(chosen, Transcoder):
        chosen = _transcoding(chosen)
    _refuse_unfoldable(chosen, scaling)
    latents = EXPANSION * d_in if width is None else width
    if latents < 1:
        raise ValueError(f"width={width}: an SAE has at least 1 latent")
    _refuse_wide_k(chosen, latents)
    _refuse_not_positive(lr=lr, clip=clip, dead_after=dead_after)
    batch, tokens = _sizes(rows, batch, tokens)
    seeds = _each("seed", tuple_of(seed), count)
    return Plan(
        inputs=tuple(sites for sites in inputs for _ in range(count)),
        targets=tuple(sites for sites in targets for _ in range(count)),
        architecture=_tiled(chosen, count, len(inputs)),
        latents=latents,
        steps=math.ceil(tokens / batch),
        batch=batch,
        rates=_each("lr", tuple_of(lr if lr is not None else default_rate(latents)), count)
        * len(inputs),
        seeds=seeds * len(inputs),
        order=seeds[0],
        dead_after=_silence(batch, tokens) if dead_after is None else dead_after,
        clip=clip,
        scaling=scaling,
        precision=_precision(precision, rows.device),
        d_in=d_in,
        d_out=d_out,
    )


def _named(
    name: str,
    rows: Rows,
    inputs: Sequence[Sites],
    targets: Sequence[Sites],
    k: Numbers,
    l1: Numbers,
) -> Architecture:
    options: dict[str, Any] = _given(**{SPARSITY.get(name, "k"): k}, l1=l1)
    if name == "crosscoder":
        widths = dict(zip(rows.sites, rows.widths, strict=True))
        options["parts"] = tuple(widths[site] for site in inputs[0])
    if name == "transcoder" and inputs == targets:
        raise ValueError(
            "a transcoder reconstructs another site than it reads: pass target=, or choose "
            "architecture='topk' for an SAE of one site"
        )
    return by_name(name, **options)


def _transcoding(architecture: Architecture) -> Transcoder:
    if isinstance(architecture, Crosscoder):
        raise ValueError(
            "a crosscoder reconstructs the sites that it reads: leave out target=, or choose "
            "another architecture for a transcoder"
        )
    return Transcoder(inner=architecture)


def _given(**options: Numbers) -> dict[str, tuple[Any, ...]]:
    return {name: tuple_of(value) for name, value in options.items() if value is not None}


def _given_as_object(architecture: Any, k: Numbers, l1: Numbers) -> Architecture:
    if not isinstance(architecture, Architecture):
        raise ValueError(
            f"architecture={architecture!r}: give a name such as 'topk', or an object such as "
            "sae.TopK(k=(32,))"
        )
    extra = [*_given(k=k, l1=l1)]
    if extra:
        raise ValueError(
            f"{extra[0]}= beside {architecture!r}: an architecture given as an object brings its "
            "options with it; put it in there"
        )
    return architecture


def _count(architecture: Architecture, lr: Numbers, seed: int | Sequence[int]) -> int:
    """SAEs per site: the length of the longest list of options."""
    lists = {name: tuple_of(getattr(architecture, name)) for name in architecture.swept}
    lists |= {"lr": tuple_of(lr), "seed": tuple_of(seed)}
    count = max(len(values) for values in lists.values())
    for name, values in lists.items():
        _each(name, values, count)
    return count


def _each(name: str, values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    if len(values) not in (1, count):
        raise ValueError(
            f"{name} has {len(values)} values and another option has {count}; lists go side by "
            "side, so give as many, or one for all"
        )
    return values if len(values) == count else values * count


def _tiled(architecture: Architecture, count: int, sites: int) -> Architecture:
    """The options of every site one after the other."""
    if isinstance(architecture, Transcoder):
        return replace(architecture, inner=_tiled(architecture.inner, count, sites))
    values: dict[str, Any] = {
        name: _each(name, getattr(architecture, name), count) * sites for name in architecture.swept
    }
    return replace(architecture, **values) if values else architecture


def _width(rows: Rows, wanted: Sequence[Sites], what: str) -> int:
    widths = dict(zip(rows.sites, rows.widths, strict=True))
    found = {sites: sum(widths[site] for site in sites) for sites in wanted}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{'+'.join(sites)} {width}" for sites, width in found.items())
        raise ValueError(
            f"SAEs that train together need {what}s of one width, these have {said}; train them "
            "one by one"
        )
    return next(iter(found.values()))


def _within(architecture: Architecture) -> Architecture:
    return architecture.inner if isinstance(architecture, Transcoder) else architecture


def _refuse_wide_k(architecture: Architecture, latents: int) -> None:
    chosen = _within(architecture)
    name, asked = "k", getattr(chosen, "k", ())
    if isinstance(chosen, JumpReLU) and chosen.penalty == "quadratic":
        name, asked = "l0", chosen.l0
    for k in asked:
        if k > latents:
            raise ValueError(
                f"{name}={k:g} of {latents:,} latents: a row cannot use more latents than there "
                "are; choose a smaller k or a larger width"
            )


def _refuse_unfoldable(architecture: Architecture, scaling: str) -> None:
    """What `fold` could not take back at the end is refused at the beginning."""
    if not isinstance(_within(architecture), AFA):
        return
    if isinstance(architecture, Transcoder) or scaling not in ("none", "scale"):
        raise ValueError(
            "afa compares the norms of codes and row, so that it needs one site and one scale for "
            "all dimensions: leave out target=, take scaling='scale' or 'none', or choose "
            "architecture='batchtopk'"
        )


def _refuse_not_positive(**options: Numbers) -> None:
    for name, asked in options.items():
        for value in () if asked is None else tuple_of(asked):
            if not value > 0:
                raise ValueError(f"{name}={value}: it must be above 0; None takes the default")


def _silence(batch: int, tokens: int) -> int:
    return min(LONGEST_SILENCE, max(8 * batch, tokens // 8))


def _sizes(rows: Rows, batch: int | None, tokens: int | None) -> tuple[int, int]:
    """Rows of a batch and rows in all."""
    there = rows.per_pass
    if batch is None:
        batch = BATCH.get(rows.device.type, BATCH["cpu"])
        batch = batch if there is None else max(1, min(batch, there // 4))
    if batch < 1:
        raise ValueError(f"batch={batch}: a batch has at least 1 row")
    if there is not None and there < batch:
        raise ValueError(
            f"{', '.join(rows.sites)} has {there:,} rows and a batch takes {batch:,}; pass "
            f"batch={there} or fewer, or extract more texts"
        )
    if tokens is None and there is None:
        raise ValueError(
            "how many rows shall a running model give? Pass tokens=, such as 10_000_000"
        )
    tokens = PASSES * (there or 0) if tokens is None else tokens
    if tokens < batch:
        raise ValueError(
            f"tokens={tokens:,} is less than one batch of {batch:,} rows; ask for more (a few "
            "hundred batches at least), or pass a smaller batch="
        )
    return batch, tokens


def _precision(precision: str, device: torch.device) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}; there are {', '.join(PRECISIONS)}")
    if precision == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    return precision
