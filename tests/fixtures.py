"""Small generated data sets, each in the layout of the real one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.videos import write_kinetics, write_video_folder

ODD_NAMES = ("a[red]b.png", "x[/red].png", ":cat:.png", "[link=evil]c.png", "ümläut 猫\u202f.png")
"""Names of files that a terminal might take for something else."""


def write_image(path: Path, seed: int, side: int = 40) -> None:
    """Write a noisy image of a colour."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 200, 3)
    pixels = rng.integers(0, 56, (side, side + 8, 3)) + colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_images(folder: Path, counts: dict[str, int], side: int = 24, blue: int = 0) -> None:
    """PNGs of nearly one colour per class; another `blue` makes other files."""
    for i, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for j in range(count):
            colour = (40 * i, 255 - 40 * i, blue + j)
            Image.new("RGB", (side + j, side), colour).save(folder / name / f"{j:03d}.png")


def write_mosaics(
    folder: Path, num_classes: int = 10, rows: int = 4, columns: int = 20, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two train mosaics and a test mosaic of CIFAR, lossless; returns the arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"class{i:03d}" for i in range(num_classes)]
    (folder / "classes.json").write_text(json.dumps({"classes": names}))
    rng, arrays = np.random.default_rng(seed), {}
    for split, num_files in (("train", 2), ("test", 1)):
        count = rows * columns * num_files
        tiles = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels = rng.permutation(np.arange(count) % num_classes).astype(np.uint8)
        for i, part in enumerate(np.split(tiles, num_files)):
            grid = part.reshape(rows, columns, 32, 32, 3).swapaxes(1, 2)
            Image.fromarray(grid.reshape(rows * 32, columns * 32, 3)).save(
                folder / f"{split}_{i:02d}.png"
            )
        np.save(folder / f"{split}_labels.npy", labels)
        arrays[split] = tiles, labels
    return arrays


def write_folders(folder: Path, classes: int = 3, train: int = 6, val: int = 2) -> None:
    """`train/<class>/` and `val/<class>/`."""
    for part, count in (("train", train), ("val", val)):
        for label in range(classes):
            for number in range(count):
                name = f"n{label:08d}"
                write_image(folder / part / name / f"{number}.jpg", 100 * label + number)


def write_food101(folder: Path) -> None:
    """`images/<class>/`, `meta/train.json` and `meta/test.json`, below `food-101/`."""
    root = folder / "food-101"
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for label, name in enumerate(("apple_pie", "sushi", "waffles")):
        for number in range(8):
            write_image(root / "images" / name / f"{number}.jpg", 10 * label + number)
            part = "train" if number < 6 else "test"
            lists[part].setdefault(name, []).append(f"{name}/{number}")
    (root / "meta").mkdir()
    for part, content in lists.items():
        (root / "meta" / f"{part}.json").write_text(json.dumps(content))


def write_indoor67(folder: Path) -> None:
    """`Images/<class>/`, `TrainImages.txt` and `TestImages.txt`."""
    lines: dict[str, list[str]] = {"Train": [], "Test": []}
    for label, name in enumerate(("bakery", "gym", "museum")):
        for number in range(8):
            write_image(folder / "Images" / name / f"{number}.jpg", 10 * label + number)
            lines["Train" if number < 6 else "Test"].append(f"{name}/{number}.jpg")
    for part, content in lines.items():
        (folder / f"{part}Images.txt").write_text("\n".join(content) + "\n")


def write_multilabel(folder: Path, count: int = 30) -> None:
    """Photos and `labels.csv`; red, green and blue channels are bright where labelled."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "labels"])
        for number in range(count):
            present = rng.random(3) < 0.5
            pixels = rng.integers(0, 100, (40, 40, 3)) + 120 * present
            name = f"photos/{number:03d}.png"
            (folder / "photos").mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            names = [n for n, p in zip(("red", "green", "blue"), present, strict=True) if p]
            writer.writerow([name, ";".join(names)])


def write_coco(
    folder: Path, train: int = 6, val: int = 3, side: int = 48, suffix: str = "2017"
) -> None:
    """Photos of a red box and a green ellipse, or of nothing, in the files and folders of COCO.

    Boxes have polygons, ellipses run lengths; the last image of a split has a crowd too.
    """
    categories = [{"id": 3, "name": "box"}, {"id": 7, "name": "ellipse"}]
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("val", val)):
        images, annotations = [], []
        for number in range(count):
            rng = np.random.default_rng(1000 * (part == "val") + number)
            height, width = side, side + 8 * (number % 3)
            pixels = rng.integers(0, 30, (height, width, 3))
            name = f"{part}{number:03d}.png"
            images.append({"id": 10 + number, "file_name": name, "width": width, "height": height})
            for kind in (0, 1) if number else ():
                w, h = (int(value) for value in rng.integers(side // 4, side // 2, 2))
                x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
                mask = _box_mask(height, width, (x, y, w, h), round_=bool(kind))
                pixels[mask, kind] = 220
                is_crowd = int(kind and number == count - 1)
                corners = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": 10 + number,
                        "category_id": (3, 7)[kind],
                        "bbox": [x, y, w, h],
                        "area": int(mask.sum()),
                        "iscrowd": is_crowd,
                        "segmentation": run_lengths(mask) if kind else [corners],
                    }
                )
            place = folder / f"{part}{suffix}" / name
            place.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(place)
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = folder / "annotations" / f"instances_{part}{suffix}.json"
        path.write_text(json.dumps(content))


def _box_mask(
    height: int, width: int, box: tuple[int, int, int, int], *, round_: bool
) -> np.ndarray:
    x, y, w, h = box
    rows, columns = np.mgrid[:height, :width] + 0.5
    across, down = (columns - x) / w * 2 - 1, (rows - y) / h * 2 - 1
    if round_:
        return across**2 + down**2 < 1
    return (np.abs(across) < 1) & (np.abs(down) < 1)


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """Uncompressed run lengths of a mask (H, W), column by column, zeros first."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [0]])
    edges = np.flatnonzero(np.diff(flat)).tolist()
    places = [0, *edges] + ([mask.size] if not edges or edges[-1] != mask.size else [])
    return {"size": list(mask.shape), "counts": np.diff(places).tolist()}


WRITERS = {
    "cifar10": lambda folder: write_mosaics(folder, 10, 2, 20),
    "cifar100": lambda folder: write_mosaics(folder, 100, 5, 20),
    "coco": write_coco,
    "food101": write_food101,
    "imagefolder": write_folders,
    "imagenet": write_folders,
    "indoor67": write_indoor67,
    "kinetics": write_kinetics,
    "multilabel": write_multilabel,
    "video_folder": write_video_folder,
}
"""How to write each data set; digits come with scikit-learn."""
