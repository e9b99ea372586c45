"""Observed shapes as letters and numbers: "b p 64", with b the batch and p the positions."""

from __future__ import annotations

from collections.abc import Mapping

Shape = tuple[int, ...]


def symbols(shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Each site's shape in words, read against the stream of its own stack."""
    return {site: _symbol(site, shape, shapes) for site, shape in shapes.items()}


def _symbol(site: str, shape: Shape, shapes: Mapping[str, Shape]) -> str:
    stream = shapes["encoder.embed" if site.startswith("encoder.") else "embed"]
    batch, positions = (*stream[:2], 0)[:2]
    if len(stream) != 3:  # feature maps and flat rows have no positions axis that is known
        return " ".join(["b", *map(str, shape[1:])])
    part = site.rpartition(".")[2]
    if len(shape) == 4 and part in ("q", "k", "v", "pattern", "z"):
        _, one, two, last = (str(n) for n in shape)
        if part == "pattern":
            return f"b {one} p p"
        return f"b p {two} {last}" if part == "z" else f"b {one} p {last}"
    named = {batch: "b", positions: "p", batch * positions: "b p"}  # the last: merged axes
    return " ".join([*(named.get(n, str(n)) for n in shape[:-1]), str(shape[-1])])
