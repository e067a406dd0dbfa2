"""Blocks that heads are built of."""

from __future__ import annotations

import pytest
import torch

from mutualnet.heads.auxiliary import AuxiliaryHeads, Head
from mutualnet.heads.blocks import BLOCKS, Blocks
from mutualnet.heads.presets import (
    head_preset,
)
from mutualnet.teaching import dcm


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("basic", None),
        ("bottleneck", None),
        ("depthwise", None),
        ("depthwise_relu6", 6),
        ("pointwise", 6),
    ],
)
def test_blocks_end_with_the_activation_of_their_network(kind, most):
    block, _ = Blocks(kind, 16).build(8)
    outputs = 100 * block(100 * torch.randn(4, 8, 5, 5))
    assert float(outputs.detach().min()) == 0
    if most is not None:
        assert float(outputs.detach().max()) <= 100 * most


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_every_kind_of_block_keeps_its_word(kind):
    torch.manual_seed(0)
    for stride in (1, 2):
        module, channels = Blocks(kind, 16, 2, stride).build(8)
        out = module(torch.randn(2, 8, 8, 8))
        assert out.shape == (2, channels, 8 // stride, 8 // stride)
        assert channels == (40 if kind == "dense" else 16)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Head(after="s", blocks=Blocks("basic", 4)), r"must be a tuple .* got Blocks\("),
        (lambda: Head(after=None), "after must be the path of a module, got None"),
        (lambda: Blocks("basic", 6.5), "channels must be a whole number, got 6.5"),
        (lambda: head_preset("wrn16_1", variant="wide"), "variant must be one of standard, narrow"),
        (lambda: dcm(2, "C2"), r"heads must be a list of names, such as \['C2'\]"),
    ],
)
def test_slips_in_a_description_are_told(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_heads_have_names_and_say_which_of_them_cannot_be_built(model, images):
    with pytest.raises(ValueError, match=r"heads must be given by names, such as C2, got \[1\]"):
        AuxiliaryHeads(model, {1: Head(after="stage1")}, num_classes=4, images=images)
    odd = Head(after="stage1", blocks=(Blocks("bottleneck", 64, expansion=0.5),))
    with pytest.raises(ValueError, match="head C3 cannot be built: expansion of a bottleneck"):
        AuxiliaryHeads(model, {"C3": odd}, num_classes=4, images=images)
