"""From a model to its `Anatomy`: look, follow the stream, name the sites, check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from layerscope.hooks.anatomy import Anatomy, Block
from layerscope.hooks.locating import again, checks
from layerscope.hooks.locating.chain import Chain, best_chain
from layerscope.hooks.locating.example import example as made_example
from layerscope.hooks.locating.head import Head, final_norm, head_of, logits_seen
from layerscope.hooks.locating.layout import Layout, read_block, tap_of
from layerscope.hooks.locating.naming import borrow, fill, roles_of
from layerscope.hooks.locating.observe import Event, Observation, Seen, observe
from layerscope.hooks.locating.shapes import symbols
from layerscope.hooks.locating.silent import silent, sounding
from layerscope.hooks.locating.stacks import encoder_stacks, note_of_others, stacks
from layerscope.hooks.locating.structure import (
    declared_module,
    declared_path,
    from_structure,
    title,
)
from layerscope.hooks.locating.tail import Tail, staircase, tail_of
from layerscope.hooks.places import Place, Tap, pick
from layerscope.hooks.quiet import undisturbed

Call = tuple[tuple[Any, ...], Mapping[str, Any]]


def read_anatomy(model: nn.Module, call: Call | None) -> Anatomy:
    """See `anatomy`; `call` holds the arguments of one pass, or None to make them up."""
    if any(p.is_meta for p in model.parameters()):
        return from_structure(model, "not run: the model is on the meta device")
    if call is not None:
        with undisturbed(model):
            return _Reading(model, call).anatomy()
    made = made_example(model)
    if made is None:
        return from_structure(model, "not run: pass example=")
    try:
        with undisturbed(model):
            return _Reading(model, ((), made)).anatomy()
    except Exception as error:  # noqa: BLE001  a made-up input may be refused in any way
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        return from_structure(model, f"not run on a made-up input ({reason}): pass example=")


class _Reading:
    """The steps from one watched pass to an anatomy."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        self.model = model
        self.call = call
        self.unembed = declared_module(model, "get_output_embeddings")
        self.ramp: torch.Tensor | None = None
        self.sites: dict[str, Place] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.notes: list[str] = []

    def anatomy(self) -> Anatomy:
        versions = {name: p._version for name, p in self.model.named_parameters()}
        inject = {self.unembed: self._inject} if self.unembed is not None else {}
        self.record = observe(self.model, *self.call, inject)
        main = best_chain(self.record, stacks(self.model))
        if main is None:
            return self._without_blocks()
        encoder = best_chain(self.record, encoder_stacks(self.model))
        mute = silent(self.record, [main, *([encoder] if encoder else [])])
        if mute:
            with sounding(mute):
                self.record = observe(self.model, *self.call, inject)
            main = best_chain(self.record, stacks(self.model)) or main
            encoder = best_chain(self.record, encoder_stacks(self.model))
            self.notes.append(
                f"these return zeros, and were located with noise in their place: {_listed(mute)}"
            )
        coded = self._stack(encoder, "encoder.", None) if encoder else []
        layouts = self._stack(main, "", _stream_end(self.record, encoder) if encoder else None)
        self.notes.extend(note_of_others(self.model, main.stack))
        norm = final_norm(self.record, main)
        head, tail = self._head(norm, main)
        self._note_changes(versions)
        return self._assemble(main, encoder, layouts, coded, norm, head, tail)

    def _without_blocks(self) -> Anatomy:
        """Module paths with the shapes they return; nothing else can be checked."""
        found = from_structure(self.model, "this model has no container of blocks that ran")
        shapes = {e.path: e.outputs[0].shape for e in self.record.events if e.outputs}
        return replace(
            found,
            checks=(checks.finite(self.record, self.model), *found.checks[1:]),
            shapes={path: " ".join(["b", *map(str, s[1:])]) for path, s in shapes.items()},
            notes=(),
        )

    def _inject(self, output: torch.Tensor) -> torch.Tensor:
        if self.ramp is None:
            self.ramp = staircase(output)
        return self.ramp

    def _stack(self, chain: Chain, prefix: str, encoder: int | None) -> list[Layout]:
        """Layouts of all blocks, their sites, and those before and after the blocks."""
        layouts = [
            read_block(self.record, event, entry, leave)
            for event, entry, leave in zip(chain.events, chain.entries, chain.exits, strict=True)
        ]
        answers = self._mixing(layouts)
        for i, layout in enumerate(layouts):
            roles = roles_of(layout, encoder, self.record.during(layout.event), answers)
            fill(layout, self.record, roles, f"{prefix}blocks.{i}")
        borrow(layouts, prefix)
        self._put(f"{prefix}embed", chain.events[0], chain.entries[0])
        for layout in layouts:
            self.sites |= layout.sites
            self.shapes |= layout.shapes
        norm = final_norm(self.record, chain)
        if norm is not None:
            self._put(f"{prefix}norm", norm, norm.outputs[0])
        self._note_stack(chain, layouts, prefix)
        return layouts

    def _mixing(self, layouts: list[Layout]) -> dict[tuple[str, int], bool]:
        """Parts without attention are asked whether they mix positions all the same."""
        moves = [move for layout in layouts for move in layout.moves or ()]
        parts = [part for move in moves for part in move.parts if not part.attentions]
        asked = {(part.source.path, part.source.call) for part in parts}
        return again.mixing(self.model, self.call, asked) if asked else {}

    def _read(self, taps: list[Tap]) -> list[torch.Tensor]:
        return again.read(self.model, self.call, taps)

    def _put(self, site: str, event: Event, seen: Seen) -> None:
        self.sites[site] = tap_of(event, seen)
        self.shapes[site] = seen.shape

    def _head(self, norm: Event | None, chain: Chain) -> tuple[Head | None, Tail | None]:
        logits = logits_seen(self.record)
        head = head_of(self.record, self.unembed, norm, chain, self._read)
        if head is None:
            return None, None
        if logits is None:
            return head, Tail(None, None, "the model returns no logits")
        self.sites["logits"] = Tap("", "out", logits.item)
        self.shapes["logits"] = logits.shape
        if self.ramp is None:  # not declared, but found: its output is the model's
            return head, Tail("unembedding", 0.0)
        return head, tail_of(self.ramp, pick(self.record.result, logits.item))

    def _note_stack(self, chain: Chain, layouts: list[Layout], prefix: str) -> None:
        if chain.idle:
            self.notes.append(f"did not run on this example: {', '.join(chain.idle)}")
        kinds = {role for layout in layouts for role in layout.kind.split()}
        if "mixer" in kinds and "attn" not in kinds:
            self.notes.append(
                f"{prefix}blocks hold no attention: attn_out is what the other mixer adds"
            )

    def _note_changes(self, before: Mapping[str, int]) -> None:
        changed = [n for n, p in self.model.named_parameters() if p._version != before.get(n)]
        if changed:
            self.notes.append(f"the model rewrites its own weights when it runs: {changed[0]}, ...")

    def _assemble(
        self,
        main: Chain,
        encoder: Chain | None,
        layouts: list[Layout],
        coded: list[Layout],
        norm: Event | None,
        head: Head | None,
        tail: Tail | None,
    ) -> Anatomy:
        stacked = [*checks.stack(self.record, main, layouts, "")]
        if encoder:
            stacked += checks.stack(self.record, encoder, coded, "encoder: ")
        first = checks.finite(self.record, self.model)
        return Anatomy(
            model=title(self.model),
            blocks=tuple(_block(i, x) for i, x in enumerate(layouts)),
            embed=declared_path(self.model, "get_input_embeddings") or _embedding(self.record),
            norm=norm.path if norm else None,
            unembed=head.event.path if head else None,
            width=layouts[0].entry.shape[-1],
            sites=self.sites,
            shapes=symbols(self.shapes),
            checks=(first, *stacked, checks.unembedding(head, norm), checks.logits(tail)),
            notes=tuple(self.notes),
            encoder=tuple(_block(i, x) for i, x in enumerate(coded)),
        )


def _listed(found: Mapping[nn.Module, str]) -> str:
    paths = list(found.values())
    return ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")


def _stream_end(record: Observation, chain: Chain) -> int:
    """What cross attention reads: the encoder's final norm where it has one, else its stream."""
    norm = final_norm(record, chain)
    return norm.outputs[0].value if norm else chain.exits[-1].value


def _embedding(record: Observation) -> str | None:
    return next((e.path for e in record.events if isinstance(e.module, nn.Embedding)), None)


def _block(index: int, layout: Layout) -> Block:
    return Block(
        index=index,
        path=layout.event.path,
        call=layout.event.call,
        kind=layout.kind,
        attn=layout.attn,
        mlp=layout.mlp,
        norms=layout.norms,
        parallel=layout.parallel,
        returns=layout.returns,
    )
