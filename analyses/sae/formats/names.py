"""What other libraries call a site."""

from __future__ import annotations

import re

HOOKS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "z": "attn.hook_z",
    "pattern": "attn.hook_pattern",
    "mlp_act": "mlp.hook_post",
}
"""Part of a block -> its name in TransformerLens, which SAELens uses."""

_PARTS = {hook: part for part, hook in HOOKS.items()}
_SITE = re.compile(r"blocks\.(\d+)\.(\w+)")
_HOOK = re.compile(r"blocks\.(\d+)\.(.+)")
_MODULE = re.compile(r"(?:.*\.)?(?:layers|h|blocks|layer)\.(\d+)")
_SUBLAYERS = {"mlp": "mlp_out", "attn": "attn_out", "self_attn": "attn_out"}


def hook_of(site: str) -> str:
    """`site` as TransformerLens calls it; a name it has none for stays as it is."""
    found = _SITE.fullmatch(site)
    if found and found[2] in HOOKS:
        return f"blocks.{found[1]}.{HOOKS[found[2]]}"
    return "blocks.0.hook_resid_pre" if site == "embed" else site


def site_of_hook(hook: str) -> str:
    """A hook of TransformerLens as a site; a name it has none for stays as it is."""
    found = _HOOK.fullmatch(hook)
    if found and found[2] in _PARTS:
        return f"blocks.{found[1]}.{_PARTS[found[2]]}"
    return hook


def site_of_module(path: str) -> str:
    """The output of a module of a Hugging Face model, such as ``layers.10`` or ``h.3.mlp``.

    A block is its `resid_post`. A module that has no site of its own stays a module path.
    """
    if found := _MODULE.fullmatch(path):
        return f"blocks.{found[1]}.resid_post"
    block, _, last = path.rpartition(".")
    if (found := _MODULE.fullmatch(block)) and last in _SUBLAYERS:
        return f"blocks.{found[1]}.{_SUBLAYERS[last]}"
    return path


def site_of_point(point: str) -> str:
    """A module path that ends in ``.output`` or ``.input``, as Gemma Scope 2 writes it."""
    if point.endswith(".input"):
        return f"{point.removesuffix('.input')}:in"
    return site_of_module(point.removesuffix(".output"))
