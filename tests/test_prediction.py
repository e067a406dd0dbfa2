"""One sub-network of a run as a classifier of files."""

from __future__ import annotations

import logging

import torch
from PIL import Image

from mutualnet import prediction
from mutualnet.prediction import Classifier, classify
from mutualnet.run_directory import load_run


def test_long_work_is_counted_on_standard_error(digits_run, photo, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    loaded = load_run(digits_run)
    classifier = Classifier(loaded, loaded.table.top)
    seconds = iter(range(0, 100, 4))
    monkeypatch.setattr(prediction.time, "monotonic", lambda: next(seconds))
    assert len(list(classify(classifier, [photo] * 4))) == 4
    assert caplog.messages == ["1 of 4 images, 24 s left", "3 of 4 images, 5 s left"]


def test_the_plain_network_with_its_preprocessing_gives_the_logits_of_predict(digits_run, photo):
    loaded = load_run(digits_run)
    for row in loaded.table.finished:
        classifier = Classifier(loaded, row)
        plain = loaded.supernet.extract(row.subnet).eval()
        classifier.compute_format.arrange(plain)
        with Image.open(photo) as image, torch.inference_mode():
            logits = plain(loaded.preprocessing(image, row.subnet.resolution)[None])
            assert torch.equal(logits, classifier.outputs(image))
