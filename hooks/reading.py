"""From a model to its `Anatomy`: look, follow the stream, name the sites, check."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from layerscope.hooks import checks
from layerscope.hooks.anatomy import Anatomy, Block, Check
from layerscope.hooks.example import example as made_example
from layerscope.hooks.head import Head, Tail, final_norm, head_of, logits_seen, staircase, tail_of
from layerscope.hooks.layout import (
    Layout,
    fill,
    moves_of,
    output_tap,
    roles_of,
    stream_norms,
    tap_of,
)
from layerscope.hooks.mixing import mixing
from layerscope.hooks.observe import Event, Observation, Seen, calls_of, observe
from layerscope.hooks.places import Place, Tap, pick
from layerscope.hooks.quiet import undisturbed
from layerscope.hooks.stacks import Stack, declarer, encoder_stacks, path_in, stacks

Call = tuple[tuple[Any, ...], Mapping[str, Any]]


def read_anatomy(model: nn.Module, call: Call | None) -> Anatomy:
    """See `anatomy`; `call` holds the arguments of one pass, or None to make them up."""
    given = call is not None
    if call is None:
        made = None if _on_meta(model) else made_example(model)
        if made is None:
            reason = "the model is on the meta device" if _on_meta(model) else "pass example="
            return from_structure(model, f"not run: {reason}")
        call = ((), made)
    try:
        with undisturbed(model):
            return _Reading(model, call).anatomy()
    except Exception as error:  # a made-up input may be refused in any way; the verdict says so
        if given:
            raise
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        return from_structure(model, f"not run on a made-up input ({reason}): pass example=")


def _on_meta(model: nn.Module) -> bool:
    return any(p.is_meta for p in model.parameters())


def title(model: nn.Module) -> str:
    """Class name and number of parameters."""
    return f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters"


def from_structure(model: nn.Module, why: str) -> Anatomy:
    """What declarations and structure say, with nothing run."""
    found = next(iter(stacks(model)), None)
    encoder = next(iter(encoder_stacks(model)), None)
    sites: dict[str, Place] = {}
    blocks = _unread(encoder, "encoder.blocks", sites), _unread(found, "blocks", sites)
    names = ("blocks located", *checks.NAMES)
    paths = tuple(
        path for path, _ in model.named_modules() if 0 < len(path.split(".")) <= 2 and path
    )
    return Anatomy(
        model=title(model),
        blocks=blocks[1],
        embed=declared_path(model, "get_input_embeddings"),
        norm=None,
        unembed=declared_path(model, "get_output_embeddings"),
        width=None,
        sites=sites,
        shapes={},
        checks=tuple(Check(name, None, None, why) for name in names[1:]),
        notes=("located by structure alone; nothing was run",),
        encoder=blocks[0],
        modules=paths,
    )


def _unread(stack: Stack | None, name: str, sites: dict[str, Place]) -> tuple[Block, ...]:
    blocks = []
    for i, path in enumerate(stack.paths if stack else ()):
        sites[f"{name}.{i}.resid_pre"] = Tap(path, "in")
        sites[f"{name}.{i}.resid_post"] = Tap(path)
        blocks.append(Block(i, path, 0, "", None, None, (), False, "unknown"))
    return tuple(blocks)


def declared_module(model: nn.Module, getter: str) -> nn.Module | None:
    """What the model answers to `get_input_embeddings()` and the like; None where it declares none."""
    ask = getattr(declarer(model), getter, None)
    if ask is None:
        return None
    try:
        found = ask()
    except (NotImplementedError, AttributeError):  # declared, but not for this kind of model
        return None
    return found if isinstance(found, nn.Module) else None


def declared_path(model: nn.Module, getter: str) -> str | None:
    return path_in(model, declared_module(model, getter)) or None


@dataclass(eq=False)
class Chain:
    """The calls of one stack in forward order, linked by the stream."""

    stack: Stack
    events: list[Event]
    entries: list[Seen]
    exits: list[Seen]
    links: list[bool]
    """Whether the output of each block but the last is the next one's input."""

    @property
    def whole(self) -> bool:
        return all(self.links)


def chain_of(record: Observation, stack: Stack) -> Chain | None:
    """The stack's calls; None if it never ran or its children take or return no tensor."""
    events = [e for e in calls_of(record, stack.modules) if e.inputs and e.outputs]
    events = [e for e in events if not any(e.within(other) for other in events)]
    if not events:
        return None
    entries, exits = [events[0].inputs[0]], []
    links = []
    for event, after in itertools.pairwise(events):
        pairs = ((x, y) for x in event.outputs for y in after.inputs if x.value == y.value)
        leave, enter = next(pairs, (event.outputs[0], after.inputs[0]))
        links.append(leave.value == enter.value)
        exits.append(leave)
        entries.append(enter)
    item = exits[-1].item if exits else events[-1].outputs[0].item
    last = events[-1].outputs
    exits.append(next((s for s in last if s.item == item), last[0]))
    if len(entries) > 1:
        first = events[0].inputs
        entries[0] = next((s for s in first if s.item == entries[1].item), first[0])
    return Chain(stack, events, entries, exits, links)


def best_chain(record: Observation, candidates: list[Stack]) -> Chain | None:
    """The first candidate whose blocks hand the stream on; else the first that ran at all."""
    chains = [chain for stack in candidates if (chain := chain_of(record, stack)) is not None]
    return next((chain for chain in chains if chain.whole), next(iter(chains), None))


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
        inject = {self.unembed: self._inject} if self.unembed is not None else {}
        self.record = observe(self.model, *self.call, inject)
        main = best_chain(self.record, stacks(self.model))
        encoder = best_chain(self.record, encoder_stacks(self.model))
        if main is None:
            return self._without_blocks()
        coded = self._layouts(encoder, None) if encoder else []
        inside = self._encoder_output(encoder)
        layouts = self._layouts(main, inside)
        self._name(coded, "encoder.", inside)
        if encoder:
            self._finish(encoder, "encoder.")
        self._name(layouts, "", inside)
        norm = self._finish(main, "")
        head, tail = self._head(norm, main)
        return self._assemble(main, encoder, layouts, coded, norm, head, tail)

    def _inject(self, output: torch.Tensor) -> torch.Tensor:
        if self.ramp is None:
            self.ramp = staircase(output)
        return self.ramp

    def _layouts(self, chain: Chain, encoder: int | None) -> list[Layout]:
        layouts = []
        for event, entry, leave in zip(chain.events, chain.entries, chain.exits, strict=True):
            layout = Layout(event, entry, leave)
            layout.moves = moves_of(self.record, event, entry, leave)
            layouts.append(layout)
        return layouts

    def _encoder_output(self, chain: Chain | None) -> int | None:
        """What cross attention reads: the encoder's last norm where it has one."""
        if chain is None:
            return None
        norm = final_norm(self.record, chain.events[-1], chain.exits[-1].value)
        return norm.outputs[0].value if norm else chain.exits[-1].value

    def _name(self, layouts: list[Layout], prefix: str, encoder: int | None) -> None:
        asked = {
            (part.source.path, part.source.call)
            for layout in layouts
            for move in layout.moves or ()
            for part in move.parts
            if not part.attentions
        }
        answers = mixing(self.model, *self.call, asked) if asked else {}
        for i, layout in enumerate(layouts):
            inner = self.record.during(layout.event)
            roles = roles_of(layout.moves or [], encoder, inner, answers)
            fill(layout, self.record, roles, f"{prefix}blocks.{i}")
            layout.norms = stream_norms(layout, inner)
        if layouts:
            self._put(
                f"{prefix}embed", tap_of(layouts[0].event, layouts[0].entry), layouts[0].entry
            )
        for layout in layouts:
            self.sites |= layout.sites
            self.shapes |= layout.shapes

    def _put(self, site: str, place: Place, seen: Seen) -> None:
        self.sites[site] = place
        self.shapes[site] = seen.shape

    def _finish(self, chain: Chain, prefix: str) -> Event | None:
        norm = final_norm(self.record, chain.events[-1], chain.exits[-1].value)
        if norm is not None:
            self._put(f"{prefix}norm", tap_of(norm, norm.outputs[0]), norm.outputs[0])
        return norm

    def _head(self, norm: Event | None, chain: Chain) -> tuple[Head | None, Tail | None]:
        logits = logits_seen(self.record)
        stream = chain.exits[-1].value
        head = head_of(self.record, self.unembed, logits, norm, stream)
        if head is None:
            return None, None
        if logits is None:
            return head, Tail(None, None, "the model returns no logits")
        place = Tap("", "out", logits.item) if logits.item else Tap("", "out")
        self._put("logits", place, logits)
        if self.ramp is None:  # not declared: found as the module whose output is the model's
            return head, Tail("unembedding", 0.0)
        return head, tail_of(self.ramp, pick(self.record.result, logits.item))

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
        chains = [(main, layouts, "")] + ([(encoder, coded, "encoder ")] if encoder else [])
        verdicts = [
            checks.finite(self.record, self.model),
            *(
                check
                for chain, found, of in chains
                for check in _stack_checks(self.record, chain, found, of)
            ),
            checks.unembedding(head),
            checks.logits(tail),
        ]
        return Anatomy(
            model=title(self.model),
            blocks=tuple(_block(i, x) for i, x in enumerate(layouts)),
            embed=declared_path(self.model, "get_input_embeddings"),
            norm=norm.path if norm else None,
            unembed=head.event.path if head else None,
            width=layouts[0].entry.shape[-1],
            sites=self.sites,
            shapes={site: self._symbols(site, shape) for site, shape in self.shapes.items()},
            checks=tuple(verdicts),
            notes=tuple(self.notes),
            encoder=tuple(_block(i, x) for i, x in enumerate(coded)),
        )

    def _symbols(self, site: str, shape: tuple[int, ...]) -> str:
        """A shape with its batch and position axes as letters: "b p 64"."""
        stream = "encoder.embed" if site.startswith("encoder.") else "embed"
        batch, positions = (*self.shapes[stream][:2], 0)[:2]
        named = {batch: "b", positions: "p", batch * positions: "(b p)"}
        if len(shape) == 4:
            head = "e" if site.endswith("pattern") else ""
            last = "p" if head and shape[-1] == positions else str(shape[-1])
            return " ".join(
                [
                    *(
                        named.get(n, str(n)) if i != self._head_axis(site) else str(n)
                        for i, n in enumerate(shape[:-1])
                    ),
                    last,
                ]
            )
        return " ".join([*(named.get(n, str(n)) for n in shape[:-1]), str(shape[-1])])

    def _head_axis(self, site: str) -> int:
        return 2 if site.endswith(".z") else 1

    def _without_blocks(self) -> Anatomy:
        found = from_structure(self.model, "no container of blocks in this model")
        return found


def _stack_checks(record: Observation, chain: Chain, layouts: list[Layout], of: str) -> list[Check]:
    return [
        checks.stream(record, chain.exits, chain.entries, of),
        checks.sums(layouts, of),
        checks.returns(layouts, of),
    ]


def _block(index: int, layout: Layout) -> Block:
    event = layout.event
    return Block(
        index=index,
        path=event.path,
        call=event.call,
        kind=layout.kind,
        attn=layout.attn,
        mlp=layout.mlp,
        norms=layout.norms,
        parallel=layout.parallel,
        returns=checks.returned(layout),
    )


_ = output_tap
