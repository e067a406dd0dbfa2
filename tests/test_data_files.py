"""Folders of images: layouts, damaged files and pictures of any kind."""

import logging
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mutualnet.data import load_data
from mutualnet.data.convert import read_image, to_rgb
from mutualnet.data.damaged import ImageFiles
from mutualnet.data.photos import limit_aspect

# Python 3.12 warns at every fork of a process with threads, which torch always has.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def write_images(folder, counts, side=24):
    """PNGs of one colour per class."""
    for i, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for j in range(count):
            colour = (40 * i, 255 - 40 * i, j)
            Image.new("RGB", (side + j, side), colour).save(folder / name / f"{j:03d}.png")


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def photos(tmp_path):
    write_images(tmp_path / "train", {"cat": 10, "dog": 20})
    write_images(tmp_path / "val", {"cat": 3, "dog": 4})
    return tmp_path


def sizes(splits):
    return len(splits.train), len(splits.select), len(splits.test)


def test_train_and_val_give_three_splits(photos):
    splits = load_data("imagefolder", photos, resolution=16)
    assert sizes(splits) == (27, 3, 7)
    assert splits.class_names == ("cat", "dog")
    assert splits.in_channels == 3
    assert np.bincount(splits.select.labels).tolist() == [1, 2]
    assert splits.test.path(0) == photos / "val" / "cat" / "000.png"
    for part in (splits.train, splits.select, splits.test):
        image, label = part[len(part) - 1]
        assert image.shape == (3, 16, 16)
        assert image.dtype == torch.float32
        assert label == 1


def test_select_images_are_not_train_images(photos):
    splits = load_data("imagefolder", photos, resolution=16, select_share=0.5)
    paths = [{part.path(i) for i in range(len(part))} for part in (splits.train, splits.select)]
    assert len(paths[0]) == len(paths[1]) == 15
    assert not paths[0] & paths[1]


def test_test_is_another_name_for_val(photos):
    before = load_data("imagefolder", photos, resolution=16)
    (photos / "val").rename(photos / "test")
    assert sizes(load_data("imagefolder", photos, resolution=16)) == sizes(before)


def test_val_beside_test_is_the_select_split(photos):
    write_images(photos / "test", {"cat": 2, "dog": 2})
    assert sizes(load_data("imagefolder", photos, resolution=16)) == (30, 7, 4)


def test_a_test_folder_without_classes_is_left_alone(photos, caplog):
    (photos / "test").mkdir()
    Image.new("RGB", (8, 8)).save(photos / "test" / "1.png")
    assert sizes(load_data("imagefolder", photos, resolution=16)) == (27, 3, 7)
    assert "has no class folders and is left alone" in caplog.text


@pytest.mark.parametrize("folder", [".", "train"])
def test_a_fifth_becomes_the_test_split_where_there_is_none(tmp_path, folder):
    write_images(tmp_path / folder, {"cat": 10, "dog": 20})
    first, second = (load_data("imagefolder", tmp_path, resolution=8, seed=s) for s in (0, 1))
    assert sizes(first) == (21, 3, 6)
    paths = [[part.path(i) for i in range(6)] for part in (first.test, second.test)]
    assert paths[0] == paths[1]


def test_the_hash_knows_names_labels_and_split_but_not_where_they_lie(photos, tmp_path_factory):
    first = load_data("imagefolder", photos, resolution=16)
    assert load_data("imagefolder", photos, resolution=8).data_id == first.data_id
    assert load_data("imagefolder", photos, resolution=16, seed=1).data_id != first.data_id
    moved = tmp_path_factory.mktemp("other") / "moved"
    photos.rename(moved)
    assert load_data("imagefolder", moved, resolution=16).data_id == first.data_id
    (moved / "val" / "cat" / "000.png").rename(moved / "val" / "cat" / "new.png")
    assert load_data("imagefolder", moved, resolution=16).data_id != first.data_id


def test_adding_an_image_leaves_the_others_in_their_split(tmp_path):
    write_images(tmp_path, {"cat": 10, "dog": 20})
    before = load_data("imagefolder", tmp_path, resolution=8).test
    before = {before.path(i) for i in range(len(before))}
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "new.png")
    after = load_data("imagefolder", tmp_path, resolution=8).test
    after = {after.path(i) for i in range(len(after))}
    assert len(before & after) >= len(before) - 1


def test_augmentation_follows_the_seed_and_can_be_turned_off(photos):
    def epoch(augment):
        torch.manual_seed(0)
        splits = load_data("imagefolder", photos, resolution=8, augment=augment)
        return torch.cat([x for x, _ in DataLoader(splits.train, 8)])

    for augment in ("standard", "wide_crop"):
        assert torch.equal(epoch(augment), epoch(augment))
        assert not torch.equal(epoch(augment), epoch("none"))


def test_a_photo_is_cropped_at_its_centre(photos):
    splits = load_data("imagefolder", photos, resolution=224)
    image = Image.new("RGB", (300, 256), "black")
    image.paste("white", (38, 16, 262, 240))
    got = splits.eval_transform(image)
    expected = (1 - torch.tensor(splits.mean)) / torch.tensor(splits.std)
    torch.testing.assert_close(got, expected.view(3, 1, 1).expand(3, 224, 224))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2), (400, 300)])
def test_photos_of_any_shape_are_taken(photos, size):
    splits = load_data("imagefolder", photos, resolution=32)
    assert splits.eval_transform(Image.new("L", size)).shape == (3, 32, 32)
    assert splits.train.transform(Image.new("RGB", size)).shape == (3, 32, 32)


def test_only_the_far_ends_of_a_long_image_are_cut():
    assert limit_aspect(Image.new("L", (20, 10))).size == (20, 10)
    long = Image.new("L", (101, 10))
    long.paste(255, (50, 0, 51, 10))
    cut = limit_aspect(long)
    assert cut.size == (20, 10)
    assert np.asarray(cut)[:, 10].min() == 255


def write_grey_png_16(path, values):
    """A 16-bit grey PNG, byte by byte, so that no encoder rounds it."""
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(data)


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    path = tmp_path / "deep.png"
    write_grey_png_16(path, np.array([[0, 257 * 100, 65535]]))
    assert np.asarray(read_image(path)).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 7, (7, 7, 7)),
        ("LA", (7, 0), (255, 255, 255)),
        ("RGBA", (9, 8, 7, 255), (9, 8, 7)),
        ("RGBA", (9, 8, 7, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("I", 200, (200, 200, 200)),
        ("I", 65535, (255, 255, 255)),
        ("I;16", 257, (1, 1, 1)),
        ("F", 0.2, (51, 51, 51)),
        ("F", 99.0, (99, 99, 99)),
        ("F", 25700.0, (100, 100, 100)),
    ],
)
def test_every_mode_becomes_rgb(mode, colour, expected):
    image = to_rgb(Image.new(mode, (2, 3), colour))
    assert image.mode == "RGB"
    assert image.size == (2, 3)
    assert image.getpixel((1, 2)) == expected


def test_a_transparent_palette_becomes_rgb_without_a_warning(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "palette.png", transparency=b"\x00\xff")
    got = read_image(tmp_path / "palette.png")
    assert got.getpixel((0, 0)) == (255, 255, 255)
    assert got.getpixel((3, 3)) == (10, 20, 30)


def test_the_first_frame_stands_for_an_animation(tmp_path):
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "moving.gif").getpixel((2, 2)) == (255, 0, 0)


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "print.jpg")
    assert max(read_image(tmp_path / "print.jpg").getpixel((4, 4))) < 5


def test_a_photo_from_a_turned_camera_stands_upright(tmp_path):
    image, exif = Image.new("RGB", (6, 4)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (4, 6)


def test_broken_exif_data_does_not_matter():
    image = Image.new("RGB", (6, 4))
    image.info["exif"] = b"Exif\x00\x00nonsense"
    assert to_rgb(image).size == (6, 4)


def test_what_is_not_a_picture_is_refused():
    with pytest.raises(TypeError, match=r"image must be a PIL image, got str. Open a file with"):
        to_rgb("cat.jpg")
    with pytest.raises(ValueError, match="pixel values must be finite"):
        to_rgb(Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32)))


def test_odd_pictures_train_beside_common_ones(photos, caplog):
    folder = photos / "train" / "cat"
    Image.new("CMYK", (20, 20)).save(folder / "cmyk.jpg")
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    write_grey_png_16(folder / "deep.png", np.full((9, 9), 999))
    frames = [Image.new("L", (5, 5), i) for i in (0, 200)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    splits = load_data("imagefolder", photos, resolution=16)
    x = torch.cat([x for part in (splits.train, splits.select) for x, _ in DataLoader(part, 4)])
    assert x.shape == (34, 3, 16, 16)
    assert x.isfinite().all()
    assert not splits.train.damaged
    assert not caplog.records


def damaged_files(folder, num_images=8, damaged=(), share=0.01, transform=None):
    """One class of numbered grey images and one of a single black one."""
    folder.mkdir(exist_ok=True)
    names = [f"{i}.png" for i in range(num_images)]
    for i, name in enumerate(names):
        Image.new("L", (2, 2), i).save(folder / name)
    for i in damaged:
        (folder / names[i]).write_bytes(b"nothing")
    return ImageFiles(
        folder,
        names,
        [0] * num_images,
        transform or (lambda image: torch.tensor(image.getpixel((0, 0))[0])),
        split="train",
        max_damaged_share=share,
    )


def test_a_damaged_image_is_named_once_and_replaced_by_the_next_of_its_class(tmp_path, caplog):
    files = damaged_files(tmp_path, damaged=[7])
    assert [int(image) for image, _ in files] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert [int(image) for image, _ in files] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert files.damaged == [tmp_path / "7.png"]
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert "damaged image" in caplog.text
    assert "7.png (UnidentifiedImageError:" in caplog.text


def test_a_substitute_skips_other_damaged_images(tmp_path):
    files = damaged_files(tmp_path, damaged=[2, 3], share=0.25)
    assert int(files[2][0]) == 4
    assert len(files.damaged) == 2


def test_a_substitute_has_the_same_label(photos):
    for path in (photos / "val" / "cat").iterdir():
        if path.name != "001.png":
            truncate(path)
    splits = load_data("imagefolder", photos, resolution=8, max_damaged_share=0.5)
    sound = splits.test[1]
    for index in (0, 2):
        image, label = splits.test[index]
        assert label == sound[1] == 0
        torch.testing.assert_close(image, sound[0], rtol=0, atol=0)


@pytest.mark.parametrize(("share", "allowed"), [(0.0, 1), (0.01, 1), (0.25, 2)])
def test_more_damaged_images_than_the_stated_share_are_an_error(tmp_path, share, allowed):
    damaged_files(tmp_path, damaged=[])
    list(damaged_files(tmp_path, damaged=range(allowed), share=share))
    files = damaged_files(tmp_path, damaged=range(allowed + 1), share=share)
    with pytest.raises(
        ValueError,
        match=rf"at most {allowed} of the 8 train images may be damaged "
        rf"\(max_damaged_share={share}\), got {allowed + 1}: .*0.png, .*Repair or remove",
    ):
        list(files)


def test_a_class_without_a_sound_image_is_an_error(tmp_path):
    files = damaged_files(tmp_path, num_images=2, damaged=[0, 1], share=0.99)
    files._damaged[:] = 0
    files.max_damaged_share = 1.0  # only the class is at fault
    with pytest.raises(ValueError, match="every class must have a sound image, but all 2 train"):
        files[0]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_damaged_share_outside_its_range_is_refused(photos, share):
    with pytest.raises(ValueError, match=r"max_damaged_share must be in \[0, 1\), got"):
        load_data("imagefolder", photos, resolution=8, max_damaged_share=share)


def test_an_error_in_a_transform_is_not_taken_for_damage(tmp_path):
    def fail(image):
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        damaged_files(tmp_path, transform=fail)[0]


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "huge", "vanished"])
def test_every_kind_of_damage_is_survived(tmp_path, kind, monkeypatch, caplog):
    files = damaged_files(tmp_path)
    path = tmp_path / "3.png"
    if kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, format="JPEG")
        truncate(path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "vanished":
        path.unlink()
    else:
        # Just above the limit, where Pillow itself only warns.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        Image.new("L", (11, 10)).save(path)
    assert int(files[3][0]) == 4
    assert files.damaged == [path]
    assert "3.png" in caplog.text


def quiet(batches):
    """The rest of an iteration without its errors."""
    while True:
        try:
            yield next(batches)
        except ValueError:
            continue
        except StopIteration:
            return


@FORKS
def test_workers_share_one_count_and_their_error_reaches_the_caller(photos):
    for name in ("cat", "dog"):
        for path in sorted((photos / "train" / name).iterdir())[:4]:
            truncate(path)
    splits = load_data("imagefolder", photos, resolution=8, max_damaged_share=0.5)
    assert sum(len(y) for _, y in DataLoader(splits.train, 4, num_workers=2)) == 27
    num_damaged = len(splits.train.damaged)
    assert num_damaged >= 5
    splits = load_data("imagefolder", photos, resolution=8)
    batches = iter(DataLoader(splits.train, 4, num_workers=2))
    with pytest.raises(ValueError, match="at most 1 of the 27 train images may be damaged"):
        list(batches)
    # Workers whose iterator is left in the middle are joined at some later collection of garbage.
    list(quiet(batches))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, r"path must be a folder with train/<class>/ and val/<class>/.* got None"),
        (lambda p: p / "nowhere", "nowhere, which is not a folder"),
        (lambda p: p, "got 0 class folders in"),
        (lambda p: write_images(p, {"cat": 3}) or p, "got 1 class folders"),
        (lambda p: write_images(p / "val", {"a": 3, "b": 3}) or p, "with val/ but no train/"),
    ],
)
def test_a_folder_of_another_layout_is_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        load_data("imagefolder", make(tmp_path), resolution=8)


def test_an_empty_class_is_refused(photos):
    (photos / "train" / "emu").mkdir()
    (photos / "train" / "emu" / "readme.txt").write_text("soon")
    with pytest.raises(ValueError, match=r"every class must have images .* got none in 'emu' of"):
        load_data("imagefolder", photos, resolution=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "val" / "dog").rename(p / "val" / "fox"), "without 'dog' and with 'fox'"),
        (lambda p: (p / "val" / "emu").mkdir(), "the same 2 classes as train, got it with 'emu'"),
        (lambda p: (p / "train" / "emu").mkdir(), "got none in 'emu'"),
    ],
)
def test_classes_that_differ_between_train_and_val_are_refused(photos, change, message):
    change(photos)
    with pytest.raises(ValueError, match=message):
        load_data("imagefolder", photos, resolution=8)


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    write_images(tmp_path, {"cat": 1, "dog": 5})
    with pytest.raises(
        ValueError, match=r"at least 2 images to hold some out for test, got fewer in 'cat' \(1\)"
    ):
        load_data("imagefolder", tmp_path, resolution=8)


def test_other_files_are_left_alone_and_mentioned(photos, caplog):
    (photos / "train" / "cat" / "notes.txt").write_text("")
    (photos / "train" / "cat" / "._000.png").write_text("")
    (photos / "train" / ".ipynb_checkpoints").mkdir()
    assert sizes(load_data("imagefolder", photos, resolution=8)) == (27, 3, 7)
    assert "1 files in" in caplog.text
    assert "train/cat/notes.txt" in caplog.text


def test_images_in_deeper_folders_belong_to_their_class(photos):
    write_images(photos / "train" / "cat", {"indoors": 10})
    assert sizes(load_data("imagefolder", photos, resolution=8)) == (36, 4, 7)


def test_the_shared_photos_of_24_classes_load(shared_data):
    splits = load_data("imagefolder", shared_data / "caltech24", resolution=64)
    assert sum(sizes(splits)[:2]) == 1691
    assert len(splits.test) == 570
    assert splits.num_classes == 24
    images, labels = next(iter(DataLoader(splits.train, 32, shuffle=True)))
    assert images.shape == (32, 3, 64, 64)
    assert labels.max() < 24
