"""Masks of boxes, brought to the original image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from mutualnet.data import AnnotatedImage
from mutualnet.tasks.box_masks import original_masks, paste_masks

SIDE = 40


@pytest.mark.parametrize("scale", [0.5, 1, 2])
@pytest.mark.parametrize("box", [(5, 7, 12, 9), (20, 3, 6, 6), (0, 10, 30, 29)])
def test_pasting_undoes_how_torchvision_makes_the_targets_of_a_mask_head(box, scale):
    x, y, w, h = box
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    mask = ((columns - x) / w * 2 - 1) ** 2 + ((rows - y) / h * 2 - 1) ** 2 < 1
    boxes = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)
    target = project_masks_on_boxes(
        torch.from_numpy(mask)[None].float(), boxes, torch.tensor([0]), 28
    )
    full = round(SIDE * scale)
    (found,) = paste_masks(target.numpy(), boxes.numpy(), (SIDE, SIDE), (full, full))
    rows, columns = (np.mgrid[:full, :full] + 0.5) / scale
    truth = ((columns - x) / w * 2 - 1) ** 2 + ((rows - y) / h * 2 - 1) ** 2 < 1
    assert (found & truth).sum() / (found | truth).sum() > (0.95 if scale == 1 else 0.8)


def test_detections_without_masks_are_told():
    image = AnnotatedImage(1, "", SIDE, SIDE, ())
    found = {"boxes": torch.zeros(1, 4), "scores": torch.ones(1)}
    with pytest.raises(ValueError, match="detections must have masks to be scored by them, got bo"):
        next(original_masks(found, (SIDE, SIDE), image))
