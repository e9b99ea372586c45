"""`with capture(model, sites) as seen:` keeps safe copies of what a model computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from layerscope.hooks.listening.kept import Kept
from layerscope.hooks.listening.live import Live
from layerscope.hooks.listening.watch import Listener, StopForward, places, watch
from layerscope.hooks.places import Place

__all__ = ["Capture", "Gradients", "StopForward", "capture", "watch"]


@contextmanager
def capture(
    model: nn.Module,
    sites: int | str | Sequence[int | str],
    *,
    grad: bool = False,
    stop: bool = False,
) -> Iterator[Capture]:
    """Copy what `sites` hold in every forward pass inside the block.

    Examples:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        >>> with capture(model, "0") as seen:
        ...     out = model(torch.ones(2, 3))
        >>> seen["0"].shape
        torch.Size([2, 4])

    Args:
        model: Any module; no hook, mode or flag is left on it, however the block ends.
        sites: An int (``3`` is ``blocks.3.resid_post``), a site, a pattern such as
            ``"blocks.*.mlp_out"``, a module path, ``"path:in"``, ``"all"``, or a list of these.
        grad: Keep the tensors in the graph; after ``backward()``, ``seen.grads`` has their
            gradients.
        stop: Leave the forward pass once the last wanted site was seen. What follows the model's
            call in the block is then skipped.

    Raises:
        LookupError: a site that the model does not have, or one that no forward pass reached.
        RuntimeError: `grad` under ``torch.no_grad()`` or ``torch.inference_mode()``.
    """
    wanted = places(model, sites)
    seen = Capture(model, wanted)
    keep = seen._keep_in_graph if grad else seen._keep
    listener = Listener(model, wanted, keep, stop=stop, differentiable=grad)
    seen._listener, seen._notes = listener, listener.notes.texts
    try:
        with listener.listening():
            yield seen
    except StopForward:
        if not listener.ledger.stopped:
            raise
    finally:
        seen._listener = None  # it holds the model
    missed = "; ".join(listener.unreached())
    if missed:
        reached = ", ".join(seen) or "none"
        raise LookupError(
            f"no forward pass of {type(model).__name__} reached {missed}. Reached: {reached}"
        )


class Gradients(Kept):
    """Site -> gradient of the number ``backward()`` was called on, by the latest such call."""

    _absent = (
        "no gradient of {site!r}: call backward() on something that depends on it, after capturing "
        "with grad=True"
    )


class Capture(Kept):
    """Site -> copy of what it held, as a mapping. Made by `capture`."""

    _listener: Listener | None = None
    _notes: Sequence[str] = ()

    def __init__(self, model: nn.Module, wanted: Mapping[str, Place]) -> None:
        super().__init__(model, wanted)
        self.grads = Gradients(model, wanted)
        self._in_graph: dict[str, dict[int, tuple[Tensor, int]]] = {site: {} for site in wanted}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about these numbers, such as attention that was computed another way."""
        return tuple(self._notes)

    def _keep(self, site: str, value: Tensor, live: Live) -> None:
        # Copied outside inference mode, the copy is an ordinary tensor that can be trained on.
        with torch.inference_mode(False), torch.no_grad():
            self._kept[site][len(self._kept[site])] = value.detach().clone()

    def _keep_in_graph(self, site: str, value: Tensor, live: Live) -> None:
        if not torch.is_grad_enabled():
            raise RuntimeError(
                f"grad=True, but {site!r} was computed with gradients switched off; call the model "
                "outside torch.no_grad() and torch.inference_mode()"
            )
        if not self._differentiable(site, live.tensor):
            return self._keep(site, value, live)
        index = len(self._kept[site])
        store, layout = self.grads._kept[site], live.layout

        def arrived(gradient: Tensor) -> None:
            store[index] = layout(gradient.detach()).clone()

        # Not retain_grad: after a change in place it would give the gradient of the new content.
        live.tensor.register_hook(arrived)
        self._in_graph[site][index] = (value, value._version)
        self._kept[site][index] = value.clone()

    def _differentiable(self, site: str, tensor: Tensor) -> bool:
        """Whether `tensor` has a gradient; in a frozen model, activations are made to have one."""
        if tensor.requires_grad or not tensor.is_floating_point():
            return tensor.requires_grad
        listener = self._listener
        if listener is None:
            return False
        if isinstance(tensor, nn.Parameter) or listener.passing.is_input(tensor):
            listener.notes.add(
                f"no gradient at {site!r}: it is an input or a frozen parameter of the model; "
                "call requires_grad_() on it first"
            )
            return False
        tensor.requires_grad_()
        return True

    def _tensors(self, name: str) -> list[Tensor]:
        # The model's own tensor where it is unchanged, so that torch.autograd.grad(loss, seen[site])
        # works; a copy is in the graph too, but the loss does not depend on it.
        tensors = dict(self._kept[name])
        for index, (tensor, version) in self._in_graph[name].items():
            if tensor._version == version:
                tensors[index] = tensor
        return [tensors[index] for index in sorted(tensors)]
