"""Pictures of any kind become RGB tensors."""

from __future__ import annotations

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader

from mutualnet.data import load_data
from mutualnet.data.preprocessing import CropEnds
from mutualnet.image_files import read_image, to_rgb


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
    assert CropEnds()(Image.new("L", (20, 10))).size == (20, 10)
    long = Image.new("L", (101, 10))
    long.paste(255, (50, 0, 51, 10))
    cut = CropEnds()(long)
    assert cut.size == (20, 10)
    assert np.asarray(cut)[:, 10].min() == 255


def write_grey_png_16(path, values, transparent=None):
    """A 16-bit grey PNG, byte by byte, so that no encoder rounds it; one value may show nothing."""
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)),
        *([] if transparent is None else [(b"tRNS", struct.pack(">H", transparent))]),
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


def test_a_transparent_value_of_sixteen_bits_shows_white(tmp_path):
    path = tmp_path / "deep.png"
    write_grey_png_16(path, np.array([[0, 257 * 100, 257 * 100 + 1]]), transparent=257 * 100)
    assert np.asarray(read_image(path)).tolist() == [[[0] * 3, [255] * 3, [100] * 3]]


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


def test_an_image_over_the_limit_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("1", (11, 10)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"at most 100 pixels, got 11 x 10\. Make it smaller"):
            read_image(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert read_image(path).size == (11, 10)


def test_threads_that_read_images_leave_warnings_as_they_are(tmp_path):
    Image.effect_noise((300, 300), 50).save(tmp_path / "a.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_image, [tmp_path / "a.png"] * 64))
    assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PDF"])
def test_only_formats_of_pixels_are_opened_whatever_the_name(tmp_path, kind):
    """PostScript starts a program."""
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", format=kind)
    with pytest.raises(UnidentifiedImageError):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000"])
def test_a_format_need_not_be_that_of_the_name(tmp_path, kind):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png", format=kind)
    assert read_image(tmp_path / "a.png").size == (16, 16)


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
