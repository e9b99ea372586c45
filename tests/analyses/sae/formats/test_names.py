"""Sites and what TransformerLens and Hugging Face call them."""

from __future__ import annotations

import pytest

from layerscope.analyses.sae.formats.names import (
    HOOKS,
    hook_of,
    site_of_hook,
    site_of_module,
    site_of_point,
)


@pytest.mark.parametrize("part", HOOKS)
def test_there_and_back(part) -> None:
    assert hook_of(f"blocks.11.{part}") == f"blocks.11.{HOOKS[part]}"
    assert site_of_hook(hook_of(f"blocks.11.{part}")) == f"blocks.11.{part}"


@pytest.mark.parametrize("name", ["model.layers.3.mlp", "norm", "hook_embed", "blocks.1.ln2.x"])
def test_names_without_a_counterpart_stay(name) -> None:
    assert hook_of(name) == name
    assert site_of_hook(name) == name


def test_the_embedding_is_what_enters_the_first_block() -> None:
    assert hook_of("embed") == "blocks.0.hook_resid_pre"


@pytest.mark.parametrize(
    ("module", "site"),
    [
        ("model.layers.10", "blocks.10.resid_post"),
        ("transformer.h.3.attn", "blocks.3.attn_out"),
        ("layers.10.mlp.gate_proj", "layers.10.mlp.gate_proj"),
        ("layers", "layers"),
    ],
)
def test_modules(module, site) -> None:
    assert site_of_module(module) == site


def test_points() -> None:
    assert site_of_point("model.layers.2.output") == "blocks.2.resid_post"
    assert site_of_point("model.layers.2.mlp.input") == "model.layers.2.mlp:in"
