"""Images with several labels: their data, their task, a whole run."""

from __future__ import annotations

import csv
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score

from mutualnet import commands
from mutualnet.config import RecipeChanges
from mutualnet.config.serialization import override
from mutualnet.data import load_data
from mutualnet.recipes import load_recipe
from mutualnet.run_directory import load_run
from mutualnet.tasks import Classification, MultiLabel
from mutualnet.training.setup import training_task
from tests.fixtures import write_folders, write_multilabel


@pytest.fixture
def folder(tmp_path):
    write_multilabel(tmp_path / "data")
    return tmp_path / "data"


def test_rows_of_labels_are_those_of_the_table(folder):
    splits = load_data("multilabel", folder, resolution=16)
    assert splits.class_names == ("blue", "green", "red")
    assert splits.task == "multilabel"
    assert len(splits.train) + len(splits.select) + len(splits.test) == 30
    with (folder / "labels.csv").open() as file:
        table = {
            row["file"]: set(filter(None, row["labels"].split(";"))) for row in csv.DictReader(file)
        }
    for split in (splits.train, splits.select, splits.test):
        for index in range(len(split)):
            image, target = split[index]
            assert image.shape == (3, 16, 16)
            carried = {n for n, t in zip(splits.class_names, target.tolist(), strict=True) if t}
            assert carried == table[split.path(index).relative_to(folder).as_posix()]


def _rewrite(folder, change):
    """Write the table again with changed rows, the heading among them."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.reader(file))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(change(rows))


def _content(data):
    parts = {"train": data.train, "select": data.select, "test": data.test}
    return {
        name: [(part.path(i), part.labels[i].tolist()) for i in range(len(part))]
        for name, part in parts.items()
    }


def test_a_row_for_each_label_is_as_good_as_one_for_each_image(folder):
    wide = load_data("multilabel", folder, resolution=16)

    def one_row_per_label(rows):
        labels = [(name, label) for name, cell in rows[1:] for label in cell.split(";")]
        # The second label of every image stands far below, once more, and under another spelling.
        later = [(f"./{name}", cell.split(";")[-1]) for name, cell in rows[1:]]
        return [rows[0], *labels, *later]

    _rewrite(folder, one_row_per_label)
    long = load_data("multilabel", folder, resolution=16)
    assert _content(long) == _content(wide)
    assert long.data_id == wide.data_id


def test_a_table_with_one_row_for_each_image_keeps_its_id(folder):
    assert load_data("multilabel", folder, resolution=16).data_id == "ce85a0467cd33180"


def test_copies_of_train_photos_are_counted(folder, caplog):
    data = load_data("multilabel", folder, resolution=16)
    assert "content of train files" not in caplog.text
    shutil.copy(data.train.path(0), data.test.path(1))
    load_data("multilabel", folder, resolution=16)
    assert "1 of 6 test files have the content of train files: photos/" in caplog.text


def _take_labels_from(folder, paths):
    """Leave some photos without labels, and give all others two."""
    bare = {path.relative_to(folder).as_posix() for path in paths}

    def change(rows):
        return [rows[0], *([name, "" if name in bare else "red;blue"] for name, _ in rows[1:])]

    _rewrite(folder, change)


@pytest.mark.parametrize(
    ("split", "way_out"),
    [
        ("train", "a column split"),
        ("select", "another data.select_share"),
        ("test", "column split"),
    ],
)
def test_a_split_without_any_label_is_refused_at_once(folder, split, way_out):
    paths = [path for path, _ in _content(load_data("multilabel", folder, resolution=16))[split]]
    _take_labels_from(folder, paths)
    message = f"the {split} split must hold images that carry labels, got {len(paths)} .*{way_out}"
    with pytest.raises(ValueError, match=message):
        load_data("multilabel", folder, resolution=16)


def test_the_images_that_choose_must_carry_labels_where_none_are_held_out(folder):
    options = {"resolution": 16, "select_share": 0.0}
    select = load_data("multilabel", folder, **options).select
    _take_labels_from(folder, [select.images.path(i) for i in select.positions])
    with pytest.raises(ValueError, match="the select split must hold images that carry labels"):
        load_data("multilabel", folder, **options)


def test_a_damaged_photo_is_replaced_together_with_its_labels(folder):
    splits = load_data("multilabel", folder, resolution=16)
    splits.train.path(2).write_bytes(b"broken")
    (_, target), (_, other) = splits.train[2], splits.train[3]
    assert torch.equal(target, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [["name", "labels"], *rows[1:]], "columns file and labels"),
        (lambda rows: [*rows, ["photos/none.png", "red"]], r"1 that are not there: photos/none"),
        (lambda rows: [*rows, ["x" * 300, "red"]], "1 that are not there: xxx"),
        (lambda rows: [[f, "red"] for f, _ in rows[1:]], "columns file and labels"),
        (lambda rows: [rows[0], *([f, "red"] for f, _ in rows[1:])], "at least 2 labels, got"),
        (lambda rows: [rows[0]], "must have rows"),
        (
            lambda rows: [[*rows[0], "split"], *([*row, "train"] for row in rows[1:])],
            "must hold train and test, got",
        ),
        (
            lambda rows: [
                [*rows[0], "split"],
                *([*row, part] for part in ("train", "test") for row in rows[1:]),
            ],
            "must name one split for each file, got train and test for photos/000.png",
        ),
    ],
)
def test_a_table_that_is_not_whole_is_refused(folder, change, message):
    _rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        load_data("multilabel", folder, resolution=16)


def test_a_folder_without_a_table_and_a_task_that_does_not_fit_are_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"must be a folder with labels\.csv"):
        load_data("multilabel", tmp_path, resolution=16)
    recipe = load_recipe("multilabel_mobilenet_v1")
    write_folders(tmp_path / "folders")
    photos = load_data("imagefolder", tmp_path / "folders", resolution=16)
    with pytest.raises(ValueError, match="task must be classification for data imagefolder"):
        training_task(recipe, photos)
    with pytest.raises(ValueError, match="mixes class labels"):
        override(recipe, ["data.mixup_alpha=0.2"])


def test_losses_are_the_written_out_formulas():
    torch.manual_seed(0)
    logits, teacher = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4)
    targets = torch.randint(2, (5, 4)).float()
    task = MultiLabel()
    p = logits.sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    found = task.supervised_loss(logits, (None, targets))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    a, b = (teacher / 2).sigmoid(), (logits / 2).sigmoid()
    divergence = (a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()).mean() * 4
    found = task.distill_loss(logits, teacher, 2.0)
    torch.testing.assert_close(found.double(), divergence, rtol=1e-4, atol=1e-6)
    assert float(task.distill_loss(teacher, teacher)) == pytest.approx(0, abs=1e-7)
    assert torch.isfinite(task.distill_loss(1e4 * logits, -1e4 * teacher))
    with pytest.raises(ValueError, match=r"one shape \(N, K\), got \(5, 4\) and \(5, 1\)"):
        task.distill_loss(logits, teacher[:, :1])


@pytest.mark.parametrize("targets", [torch.full((3, 2), 0.9), torch.ones(3, 1), torch.ones(0)])
def test_only_labels_that_an_image_has_or_not_are_scored(targets):
    with pytest.raises(ValueError, match=r"must be zeros and ones \(3, 2\) to be scored by, got"):
        MultiLabel().new_score().update(torch.randn(3, 2), (None, targets))


@pytest.mark.parametrize("positive_weights", [None, (0.5, 1.0, 4.0)])
def test_the_loss_of_guessing_is_that_of_logits_of_zero(positive_weights):
    labels = np.random.default_rng(0).integers(0, 2, (20, 3)).astype(np.float32)
    task = MultiLabel(positive_weights=positive_weights)
    expected = task.supervised_loss(torch.zeros(20, 3), (None, torch.from_numpy(labels)))
    assert task.loss_of_guessing(labels, 3) == pytest.approx(float(expected))


def test_guessing_on_many_images_takes_no_memory():
    labels = np.zeros(1_000_000, dtype=np.int64)
    many = np.broadcast_to(np.float32(0), (1_000_000, 100))
    tracemalloc.start()
    Classification(class_weights=(1.0,) * 1000).loss_of_guessing(labels, 1000)
    MultiLabel().loss_of_guessing(many, 100)
    assert tracemalloc.get_traced_memory()[1] < 32e6
    tracemalloc.stop()


def test_rare_labels_weigh_more_with_balance(folder):
    recipe = override(load_recipe("multilabel_mobilenet_v1"), ["data.balance=loss"])
    splits = load_data("multilabel", folder, resolution=16)
    weights = training_task(recipe, splits).positive_weights
    share = splits.train.labels.mean(0)
    assert weights == pytest.approx(tuple((1 - share) / share))
    logits, targets = torch.zeros(2, 3), torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    found = MultiLabel(positive_weights=weights).supervised_loss(logits, (None, targets))
    expected = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor(weights))
    torch.testing.assert_close(found, expected)


def test_the_score_is_scikit_learns_mean_average_precision():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (60, 4))
    targets[:, 3] = 0  # a label that no image carries
    logits = rng.normal(size=(60, 4)) + targets
    score = MultiLabel().new_score()
    for part in (slice(0, 25), slice(25, 60)):
        score.update(torch.from_numpy(logits[part]), (None, torch.from_numpy(targets[part])))
    found = score.compute()
    each = [average_precision_score(targets[:, k], logits[:, k]) for k in range(3)]
    assert found.value == pytest.approx(100 * np.mean(each), abs=1e-3)
    assert 0.5 < found.standard_error < 10
    assert found.num_samples == 60
    with pytest.raises(ValueError, match="at least one sample"):
        MultiLabel().new_score().compute()


def test_a_run_learns_which_channels_are_bright(folder, tmp_path, capsys):
    out = tmp_path / "run"
    write_multilabel(folder, 160)
    settings = [
        "model.name=mutualnet.models.cifar:WideResNet",
        "model.kwargs={depth: 10, width_factor: 2}",
        "space.resolutions=[24, 16]",
        "space.width_step=0.75",
        "data.augment=none",
        "data.batch_size=20",
        "data.num_workers=0",
        "optimizer.lr=0.05",
        "optimizer.warmup_epochs=0",
        "table.latency_runs=0",
        "table.num_calibration_samples=100",
        "compute.precision=fp32",
        "compute.memory_format=contiguous",
    ]
    changes = RecipeChanges(data=str(folder), epochs=4, settings=settings)
    commands.start_training("multilabel_mobilenet_v1", changes, out=out)
    commands.make_table(out)
    assert max(row.score for row in load_run(out).table.rows) > 90
    commands.predict(out, [folder / "photos" / "000.png"], budget=None)
    assert "%" in capsys.readouterr().out.splitlines()[-1]
