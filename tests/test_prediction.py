"""One sub-network of a run as a classifier of files."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from mutualnet import progress
from mutualnet.prediction import Classifier, classify, drawn_places
from mutualnet.run_directory import load_run
from mutualnet.tasks import Classification


def test_long_work_is_counted_on_standard_error(digits_run, photo, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    loaded = load_run(digits_run)
    classifier = Classifier(loaded, loaded.table.top)
    seconds = iter(range(0, 100, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
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


def test_every_copy_has_a_name_of_its_own():
    inputs = [Path(name) for name in ("a/x.jpg", "b/x.jpg", "c/x-2.jpg", "d/x.jpg", "d/x.jpg")]
    places = drawn_places(Classification(), inputs, Path("seen"))
    assert places == [Path("seen", f"x{end}.jpg") for end in ("", "-3", "-2", "-4", "-5")]


def test_no_copy_goes_where_an_input_that_is_missing_would_be(tmp_path):
    inputs = [Path("a/x.jpg"), tmp_path / "x.jpg"]
    with pytest.raises(ValueError, match="-o must not write over what is predicted on, got"):
        drawn_places(Classification(), inputs, tmp_path / "b" / "..")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_over_the_limit_does_not_stop_the_others(digits_run, photo, tmp_path, monkeypatch):
    large = tmp_path / "large.png"
    Image.new("1", (500, 400)).save(large)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150_000)
    loaded = load_run(digits_run)
    classifier = Classifier(loaded, loaded.table.top)
    first, second = classify(classifier, [large, photo], [tmp_path / "a.png", tmp_path / "b.png"])
    assert "must be an image that can be read, got an image must have at most" in first.error
    assert second.error is None


def test_a_file_that_vanishes_while_it_is_predicted_on_is_named(digits_run, photo, monkeypatch):
    loaded = load_run(digits_run)
    classifier = Classifier(loaded, loaded.table.top)

    def vanished(self, path, outputs, names):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(type(classifier.task), "objects", vanished)
    assert "No such file" in classifier.predict(photo).error


def test_an_image_that_gives_no_numbers_does_not_stop_the_others(digits_run, photo, monkeypatch):
    loaded = load_run(digits_run)
    classifier = Classifier(loaded, loaded.table.top)
    factors, run = iter((torch.nan, 1.0)), classifier._run
    monkeypatch.setattr(classifier, "_run", lambda batch: run(batch) * next(factors))
    first, second = classify(classifier, [photo] * 2)
    assert "must give finite probabilities, but the network computes NaN on it" in first.error
    assert second.error is None
