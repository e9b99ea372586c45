"""Vision models as people write them by hand: torch's own attention, and stages of like blocks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.locating.again import mixing


class Block(nn.Module):
    """As in timm, with `nn.MultiheadAttention`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class ByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 16, 4, 4)
        self.blocks = nn.ModuleList([Block(16) for _ in range(3)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Stages(nn.Module):
    """Three stages of like blocks, as a ResNet has them."""

    def __init__(self) -> None:
        super().__init__()
        widths = (4, 8, 16)
        before = (1, *widths)
        for i, (into, out) in enumerate(zip(before, widths, strict=False), 1):
            setattr(self, f"layer{i}", nn.Sequential(Stage(into, out), Stage(out, out)))
        self.fc = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(images)))
        return self.fc(x.mean((2, 3)))


class Stage(nn.Module):
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def test_attention_of_torch_is_attention(images: Tensor) -> None:
    torch.manual_seed(0)
    model = ByHand().eval()
    found = anatomy(model, example=images)
    assert [block.kind for block in found.blocks] == ["attn + mlp"] * 3
    assert [block.attn for block in found.blocks] == [f"blocks.{i}.attn" for i in range(3)]
    assert str(found.shapes["blocks.0.pattern"]) == "b 4 p p"
    with torch.no_grad(), capture(model, ["blocks.1.resid_pre", "blocks.1.pattern"]) as seen:
        model(images)
    y = model.blocks[1].norm1(seen["blocks.1.resid_pre"])  # type: ignore[operator,union-attr]
    weights = model.blocks[1].attn(y, y, y, average_attn_weights=False)[1]  # type: ignore[operator,union-attr]
    torch.testing.assert_close(seen["blocks.1.pattern"], weights.detach())


def test_one_tensor_for_query_key_and_value_is_asked_as_one(images: Tensor) -> None:
    model = ByHand().eval()
    with torch.no_grad():
        asked = mixing(model, ((images,), {}), {("blocks.0.attn", 0), ("blocks.0.mlp", 0)})
    assert asked == {("blocks.0.attn", 0): True, ("blocks.0.mlp", 0): False}


def test_stages_beside_the_stack_are_named(images: Tensor) -> None:
    for found in (anatomy(Stages()), anatomy(Stages(), example=images)):
        assert (
            "blocks, and 'all', are those of layer3 alone; name like ones by path: layer1, layer2"
            in found.notes
        )


def test_a_single_stack_has_no_such_note(images: Tensor) -> None:
    assert not any("like ones" in note for note in anatomy(ByHand(), example=images).notes)
