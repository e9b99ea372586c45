"""Attention that a module computes by itself, overheard from the torch functions it calls."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from layerscope.hooks.attending.fused import Fused, by_position, heads, merged
from layerscope.hooks.attending.parties import (
    PARTS,
    Party,
    Turn,
    attend,
    handed_round,
    require_keys,
)
from layerscope.hooks.attending.pattern import FORBIDDEN
from layerscope.hooks.listening.live import Live

PRODUCTS = {"matmul", "bmm", "baddbmm", "__matmul__"}


class Written:
    """Attention found written out: a softmax, and the product of its result with the values."""

    def __init__(self, turns: Sequence[Turn], readers: Sequence[tuple[Party, str]]) -> None:
        self.turns = turns
        """Those who write."""
        self.readers = readers
        self.weights: Tensor | None = None
        self._order: list[Party] = []
        self._seen: dict[int, dict[str, Live]] = {id(party): {} for party, _ in readers}

    def meet(self, order: Sequence[tuple[Party, str]], part: str, live: Live) -> Live:
        """Hand a part round; readers are told later, of what they would have met now."""
        sites = {id(party): found for party, found in self.turns}
        for party, _ in order:
            if id(party) in self._seen:
                self._seen[id(party)][part] = live
            elif id(party) in sites:
                live = handed_round([(party, sites[id(party)])], part, live)
        return live

    def tell(self) -> None:
        """Tell the readers, now that it is complete."""
        for party, path in self.readers:
            seen = self._seen[id(party)]
            party.overheard(path, {part: seen[part] for part in PARTS if part in seen})

    def weighs(self, left: Any) -> bool:
        """Whether a product with `left` weighs values by these probabilities."""
        weights = self.weights
        return (
            weights is not None
            and isinstance(left, Tensor)
            and left.numel() == weights.numel()
            and left.shape[-1] == weights.shape[-1]
        )


class Overheard(TorchFunctionMode):
    """Active while one attention module runs.

    Args:
        module: The attention module.
        batch: Batch size, to take heads apart where they were merged into it.
    """

    def __init__(self, module: nn.Module, batch: int) -> None:
        super().__init__()
        self.module = module
        self.batch = batch
        self.parties: list[tuple[Party, str]] = []
        """Who is interested in this module, and by which path they know it."""
        self.open = 0
        """How many of them have not seen the module's end yet."""
        self._resting = False
        self._elsewhere = False
        self._products: list[tuple[Tensor, Tensor, torch.Size]] = []
        self._written: Written | None = None
        self._wrote = ""

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Deaf inside the block: another route hears this module's attention."""
        self._found_elsewhere()
        before, self._resting = self._resting, True
        try:
            yield
        finally:
            self._resting = before

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._resting:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self._found_elsewhere()
            return attend(self.parties, Fused(func, args, kwargs, self.batch).attention())
        if func is F.multi_head_attention_forward:
            return self._multi_head(args, kwargs)
        name = getattr(func, "__name__", "")
        if name == "softmax" and _last_axis(args[0] if args else None, args, kwargs):
            return self._softmax(func, args, kwargs)
        if name in PRODUCTS:
            return self._product(func, name, args, kwargs)
        return func(*args, **kwargs)

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        if exception[0] is None:
            self._tell()

    def _found_elsewhere(self) -> None:
        self._elsewhere = True
        if self._wrote:
            raise ValueError(
                f"{self._wrote!r} was written into a softmax of {type(self.module).__name__} that "
                "is not its attention, which came later by a fused call; name a module inside it"
            )

    def _multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        query = args[0] if args else kwargs["query"]
        self.batch = query.shape[1] if query.ndim == 3 else 1
        with self:
            return multi_head_attention(*args, **kwargs)

    def _product(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any) -> Any:
        left, right = _operands(name, args, kwargs)
        written = self._written
        if written is None or not written.weighs(left):
            out = func(*args, **kwargs)
            if written is None and isinstance(out, Tensor):
                self._products.append((left, right, out.shape))
            return out
        met = written.meet(self.parties, "v", merged(right, self.batch))
        if met.tensor is right:
            out = func(*args, **kwargs)
        else:
            out = func(*(met.tensor if x is right else x for x in args), **kwargs)
        z = written.meet(self.parties, "z", by_position(out, self.batch))
        self._tell()
        return z.tensor

    def _softmax(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        self._tell()
        scores = args[0]
        made = [
            (left, right)
            for left, right, shape in self._products
            if shape[-2:] == scores.shape[-2:] and shape.numel() == scores.numel()
        ]
        self._products.clear()
        if self._elsewhere:
            return func(*args, **kwargs)
        readers = [(party, path) for party, path in self.parties if not party.writes]
        turns = [(p, p.next(path, set(PARTS))) for p, path in self.parties if p.writes]
        # Without a product that made the scores, it is the softmax of something else.
        written = self._written = Written(turns if made else [], readers)
        self._refuse_inputs(written.turns)
        if len(made) == 1:  # with several, which of them is q k^T would be a guess
            written.meet(self.parties, "q", merged(made[0][0], self.batch))
            key = Live(made[0][1], lambda x: heads(x, self.batch).transpose(-1, -2))
            written.meet(self.parties, "k", key)
        out = func(self._cut(written.turns, scores), *args[1:], **kwargs)
        met = written.meet(self.parties, "pattern", merged(out, self.batch))
        if met.tensor is not out:
            self._wrote = next(sites["pattern"] for _, sites in turns if "pattern" in sites)
        written.weights = met.tensor
        return met.tensor

    def _cut(self, turns: Sequence[Turn], scores: Tensor) -> Tensor:
        """The scores, with cut edges at the lowest number."""
        live = merged(scores, self.batch)
        shape = live.value.shape
        for party, sites in turns:
            site = sites.get("pattern", "")
            edges = party.cuts(site, (shape[0], shape[1], shape[2], shape[3])) if site else None
            if edges is None:
                continue
            value = live.layout(scores)
            require_keys(site, (value > FORBIDDEN).cpu(), edges)
            least = torch.finfo(scores.dtype).min
            scores = live.restore(value.masked_fill(edges.to(value.device), least))
            self._wrote = site
        return scores

    def _refuse_inputs(self, turns: Sequence[Turn]) -> None:
        for _, sites in turns:
            for part in ("q", "k"):
                if part in sites:
                    raise ValueError(
                        f"{sites[part]!r} cannot be written: {type(self.module).__name__} writes "
                        "its attention out, and which of its products is q k^T shows only once it "
                        "is made; v, pattern and z can be written, and the output of the module "
                        "that computes q or k, by its path"
                    )

    def _tell(self) -> None:
        written, self._written = self._written, None
        if written is not None and not self._elsewhere:
            written.tell()


def _last_axis(x: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return isinstance(x, Tensor) and x.ndim >= 3 and axis in (-1, x.ndim - 1)


def _operands(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    if name != "baddbmm":
        given = (*args, *kwargs.values())
        return given[0], given[1]
    named = dict(zip(("input", "batch1", "batch2"), args, strict=False)) | dict(kwargs)
    return named["batch1"], named["batch2"]


# The function refuses to show its inside: its first lines hand the call over to the active mode.
# A copy of it that is told no mode is active runs its body under ours.
multi_head_attention = types.FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda _: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)
