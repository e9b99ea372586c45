"""Layer arguments against a store."""

from __future__ import annotations

import pytest
import torch

from layerscope.probes.reading.stored import stored_sites

SITES = ("embed", "blocks.0.resid_post", "blocks.0.mlp_out", "blocks.2.resid_post")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("all", [0, 1, 3]),
        (2, [3]),
        (-1, [3]),
        (-2, [1]),
        ("embed", [0]),
        ("blocks.*.resid_post", [1, 3]),
        ("blocks.*", []),
        (["blocks.2.resid_post", 0], [1, 3]),
        (["all", "blocks.0.mlp_out"], [0, 1, 2, 3]),
    ],
)
def test_what_layers_stand_for(make_store, asked, expected) -> None:
    store = make_store({site: torch.zeros(1, 2) for site in SITES})
    if expected:
        assert stored_sites(store, asked) == tuple(SITES[i] for i in expected)
    else:
        with pytest.raises(LookupError, match=r"site 'blocks\.\*' is not in this store"):
            stored_sites(store, asked)


def test_all_of_a_store_of_module_paths_is_everything(make_store) -> None:
    store = make_store({"conv1": torch.zeros(1, 2), "fc:in": torch.zeros(1, 3)})
    assert stored_sites(store, "all") == ("conv1", "fc:in")


def test_what_is_not_there(make_store) -> None:
    store = make_store({site: torch.zeros(1, 2) for site in SITES})
    with pytest.raises(
        LookupError, match="layer 1 is not in this store; it has resid_post of layers 0, 2"
    ):
        stored_sites(store, 1)
    with pytest.raises(LookupError, match="layer -3 is not in this store"):
        stored_sites(store, -3)
    with pytest.raises(LookupError, match=r"did you mean 'blocks\.0\.mlp_out'.*run extract"):
        stored_sites(store, "blocks.0.mlp_uot")
    with pytest.raises(ValueError, match="no layers asked for"):
        stored_sites(store, [])
