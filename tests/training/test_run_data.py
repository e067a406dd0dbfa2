"""The data of a finished run, found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mutualnet.commands import make_table
from mutualnet.data import plain_loader
from mutualnet.run_directory import load_run
from mutualnet.space import Subnet
from mutualnet.training import plain_task, run_data
from mutualnet.training.train import train
from tests.small_runs import digits


def test_data_without_a_path_are_called_by_their_name(tmp_path, monkeypatch):
    run = train(digits("table.latency_runs=0"), tmp_path / "run", limit_steps=1)
    load = run_data.load_splits
    monkeypatch.setattr(run_data, "load_splits", lambda r: replace(load(r), data_id="others"))
    with pytest.raises(ValueError, match=r"^digits must hold the data that"):
        make_table(run)


def test_a_network_alone_may_see_the_images_of_a_sub_network(tmp_path):
    supernet = digits()
    alone = digits("data.resolution=12", "space.resolutions=[8]")
    size = Subnet(resolution=8)
    task, data = plain_task(supernet), run_data.load_splits(supernet)
    run = load_run(train(alone, tmp_path / "run", limit_steps=1))
    own = run_data.load_run_data(run).splits
    for split in ("train", "select", "test"):
        images, theirs = (
            next(iter(plain_loader(getattr(splits, split), 8, num_workers=0)))
            for splits in (own, data)
        )
        assert images[0].shape[-1] == 12
        if split != "train":
            assert torch.equal(task.scale(images, size)[0], task.scale(theirs, size)[0])
    own_side = run_data.load_splits(digits("space.resolutions=[8]"))
    small = next(iter(plain_loader(own_side.test, 8, num_workers=0)))[0]
    large = next(iter(plain_loader(data.test, 8, num_workers=0)))
    assert not torch.allclose(small, task.scale(large, size)[0], atol=0.01)  # what it is for
    # A photo goes through the same.
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    image = Image.fromarray(pixels)
    whole = load_run(train(supernet, tmp_path / "whole", limit_steps=1))
    assert torch.equal(*(torch.as_tensor(r.preprocessing(image)) for r in (run, whole)))


def test_images_are_not_loaded_smaller_than_they_are_needed():
    with pytest.raises(ValueError, match=r"data\.resolution must be at least the top resolution"):
        digits("data.resolution=11")
