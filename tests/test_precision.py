"""Number formats and memory layouts, of images and of clips."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutualnet import ElasticSpace, Subnet, Supernet
from mutualnet.precision import CHANNELS_LAST, PLAIN, ComputeFormat, is_channels_last


class Both(nn.Module):
    """Layers over clips and over images, and one over neither."""

    def __init__(self):
        super().__init__()
        self.clips = nn.Conv3d(3, 32, 3, padding=1)
        self.norm = nn.BatchNorm3d(32)
        self.images = nn.Conv2d(32, 24, 3)
        self.classifier = nn.Linear(24, 2)

    def forward(self, x):
        x = self.norm(self.clips(x)).relu().mean(2)
        return self.classifier(self.images(x).mean((2, 3)))


def test_channels_come_last_in_weights_of_images_and_of_clips():
    module, x = Both().eval(), torch.randn(2, 3, 4, 8, 8)
    expected = module(x)
    CHANNELS_LAST.arrange(module)
    assert module.clips.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert module.images.weight.is_contiguous(memory_format=torch.channels_last)
    assert is_channels_last(module.clips.weight)
    assert is_channels_last(module.images.weight)
    assert not is_channels_last(module.classifier.weight)
    torch.testing.assert_close(module(CHANNELS_LAST.arranged(x)), expected)
    PLAIN.arrange(module)
    assert all(parameter.is_contiguous() for parameter in module.parameters())
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 4, 8, 8)])
def test_batches_of_both_are_arranged_and_other_values_are_left(shape):
    batch = torch.randn(shape)
    arranged = CHANNELS_LAST.arranged(batch)
    assert arranged.stride()[1] == 1
    torch.testing.assert_close(arranged, batch, rtol=0, atol=0)
    assert PLAIN.arranged(arranged).is_contiguous()
    for other in (torch.arange(4), torch.randn(2, 3, 4), "name", None):
        assert CHANNELS_LAST.arranged(other) is other


def test_weights_of_one_column_count_as_contiguous():
    assert not is_channels_last(torch.zeros(4, 1, 3, 3))
    assert not is_channels_last(torch.zeros(4, 1, 3, 3, 3))


def test_a_narrow_network_of_clips_keeps_the_layout_of_the_full_one():
    torch.manual_seed(0)
    space = ElasticSpace(width_range=(0.5, 1.0), resolutions=(8,), frames=(4,))
    net = Supernet(Both(), space)
    CHANNELS_LAST.arrange(net.model)
    half = Subnet(width_mult=0.5, resolution=8, num_frames=4)
    narrow = net.extract(half, uncalibrated=True)
    assert narrow.clips.out_channels == 16
    assert is_channels_last(narrow.clips.weight)
    assert is_channels_last(narrow.images.weight)


@pytest.mark.parametrize("text", ["fp32 contiguous", "fp32 channels_last", "bf16 channels_last"])
def test_a_format_reads_back(text):
    assert str(ComputeFormat.parse(text)) == text


@pytest.mark.parametrize("text", ["", "fp32", "fp16 contiguous", "bf16 contiguous x", 3, None])
def test_what_is_no_format_is_refused(text):
    with pytest.raises(ValueError, match="a format must be fp32 or bf16, then contiguous or"):
        ComputeFormat.parse(text)
