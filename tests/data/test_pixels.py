"""Conversion of each pixel format, against values computed by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common.data import pixels, sources
from common.data.dataset import load
from common.errors import Misuse


def _save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)


def _folder(folder, image, suffix=".png", grey=False, **options):
    """A folder with two classes of noise images, and the given image, of the same size, in test."""
    _save(folder / "test" / "a" / f"it{suffix}", image, **options)
    with Image.open(folder / "test" / "a" / f"it{suffix}") as picture:
        width, height = picture.size
    generator = np.random.default_rng(0)
    for i in range(12):
        noise = generator.integers(0, 256, (height, width, 3), np.uint8)
        part = "train" if i < 10 else "test"
        if (part, i % 2) != ("test", 0):
            _save(folder / part / "ab"[i % 2] / f"{i}.png", noise[..., 0] if grey else noise)
    return folder


def _inverted(path):
    """Set white to 0 in a TIFF file (PhotometricInterpretation 0)."""
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"
    content = path.read_bytes()
    assert content.count(tag + b"\x01\x00") == 1
    path.write_bytes(content.replace(tag + b"\x01\x00", tag + b"\x00\x00"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_may_have_white_at_0(tmp_path, dtype):
    values = np.array([[0, 1], [4, 233]], dtype) * (257 if dtype == np.uint16 else 1)
    folder = _folder(tmp_path / "inverted", values.astype(dtype), ".tif", grey=True)
    _inverted(folder / "test" / "a" / "it.tif")
    assert load(str(folder)).test().images[0].squeeze(-1).tolist() == [[255, 254], [251, 22]]


def _formats():
    """Format -> f(grey image, number) -> pixels, suffix and options with which Pillow saves the same picture."""

    def turned(image, orientation):
        turns = (
            None,
            image,
            image[:, ::-1],
            image[::-1, ::-1],
            image[::-1],
            image.T,
            np.rot90(image),
            image[::-1, ::-1].T,
            np.rot90(image, -1),
        )
        return np.ascontiguousarray(turns[orientation])

    def exif(number):
        data = Image.Exif()
        data[pixels.ORIENTATION] = 1 + number % 8
        return {"exif": data}

    return {
        "16 bits": lambda image, _: (image.astype(np.uint16) * 257, ".png", {}),
        "floats to 1": lambda image, _: ((image / 255).astype(np.float32), ".tif", {}),
        "floats to 255": lambda image, _: (image.astype(np.float32), ".tif", {}),
        "32 bits": lambda image, _: (image.astype(np.int32), ".tif", {}),
        "turned": lambda image, i: (turned(image, 1 + i % 8), ".png", exif(i)),
        "turned TIFF": lambda image, i: (turned(image, 1 + i % 8), ".tif", exif(i)),
        "black on transparency": lambda image, _: (np.stack([np.zeros_like(image), 255 - image], axis=-1), ".png", {}),
        "palette": lambda image, _: (Image.fromarray(image).convert("P"), ".gif", {}),
        "rgb": lambda image, _: (np.stack([image] * 3, axis=-1), ".webp", {"lossless": True}),
    }


@pytest.mark.parametrize("kind", _formats())
def test_a_dataset_is_the_same_in_other_formats(tmp_path, kind):
    generator = np.random.default_rng(0)
    for i in range(20):
        image = generator.integers(0, 256, (12, 12), np.uint8)
        image[0, :2] = 0, 255
        other, suffix, options = _formats()[kind](image, i)
        _save(tmp_path / "plain" / "ab"[i % 2] / f"{i}.png", image)
        _save(tmp_path / "other" / "ab"[i % 2] / f"{i}{suffix}", other, **options)
    plain, other = (load(str(tmp_path / name), colour="grey") for name in ("plain", "other"))
    assert other.checksum == plain.checksum


def _read(folder, image, suffix=".png", **options):
    """The image as read from a folder, and the line that describes the dataset."""
    dataset = load(str(_folder(folder, image, suffix, **options)))
    return dataset.test().images[0], dataset.about()


@pytest.mark.parametrize(("suffix", "mode"), [(".png", "I;16"), (".tif", "I;16"), (".tif", "I;16B"), (".pgm", "I")])
def test_16_bits_become_8(tmp_path, suffix, mode):
    # 65535 / 255 = 257; 1000 / 257 = 3.9, 60000 / 257 = 233.5.
    values = np.array([[0, 257], [1000, 60000]], ">u2" if mode == "I;16B" else np.uint16)
    image, about = _read(tmp_path / "deep", values, suffix, grey=True)
    assert image.squeeze(-1).tolist() == [[0, 1], [4, 233]]
    assert "; 1 of 16 bits, scaled to 8" in about
    assert Image.open(tmp_path / "deep" / "test" / "a" / f"it{suffix}").mode == mode


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.5], [0.25, 1]], np.float32), [[0, 128], [64, 255]]),
        (np.array([[0, 99.6], [0.2, 255]], np.float32), [[0, 100], [0, 255]]),
        (np.array([[0, 200], [7, 255]], np.int32), [[0, 200], [7, 255]]),
        (np.array([[0, 257], [1000, 60000]], np.int32), [[0, 1], [4, 233]]),
    ],
)
def test_floats_and_32_bits_are_scaled_by_their_range(tmp_path, values, expected):
    image, about = _read(tmp_path / "deep", values, ".tif", grey=True)
    assert image.squeeze(-1).tolist() == expected
    assert "; 1 of floats or 32 bits, scaled by their range" in about


@pytest.mark.parametrize("values", [[[-1.0, 1.0]], [[0.0, 300.0]], [[0.0, float("nan")]], [[0.0, float("inf")]]])
def test_floats_of_another_range_are_refused(tmp_path, values):
    with pytest.raises(Misuse, match=r"no known black and white.* save it with 8 or 16 bits.*a/it\.tif"):
        _read(tmp_path / "deep", np.array(values, np.float32), ".tif", grey=True)


def test_the_range_of_floats_is_that_of_all_images(tmp_path):
    folder = _folder(tmp_path / "deep", np.array([[0, 1], [1, 0]], np.float32), ".tif", grey=True)
    _save(folder / "train" / "a" / "bright.tif", np.array([[0, 255], [9, 9]], np.float32))
    assert load(str(folder)).test().images[0].max() == 1


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "tRNS", "16 bits"])
def test_transparent_images_are_composited_on_white_without_a_warning(tmp_path, recwarn, kind):
    # Black at full, half and no opacity: 0, 255 - 128 = 127, 255.
    values = np.zeros((2, 2, 4), np.uint8)
    values[..., 3] = [[255, 128], [0, 0]]
    picture, expected, options = Image.fromarray(values), [[0, 127], [255, 255]], {}
    if kind == "LA":
        picture = picture.convert("LA")
    if kind == "P":
        picture = picture.quantize(4)
    if kind == "tRNS":  # one grey value is transparent
        picture, expected = Image.fromarray(np.array([[10, 20], [30, 30]], np.uint8)), [[10, 20], [255, 255]]
        options = {"transparency": 30}
    if kind == "16 bits":
        picture, expected = Image.fromarray(np.array([[257, 514], [771, 771]], np.uint16)), [[1, 2], [255, 255]]
        options = {"transparency": 771}
    grey = kind in ("LA", "tRNS", "16 bits")
    image, about = _read(tmp_path / "icons", picture, grey=grey, **options)
    assert image[..., 0].tolist() == expected
    assert image.shape[-1] == (1 if grey else 3)
    if kind != "16 bits":  # Pillow 13 does not save the transparent value
        assert "; 1 transparent, composited on white" in about
    assert not recwarn.list


@pytest.mark.parametrize(("mode", "red"), [("CMYK", (0, 255, 255, 0)), ("YCbCr", (76, 85, 255))])
def test_a_jpeg_in_another_colour_space_becomes_rgb(tmp_path, mode, red):
    image, _ = _read(tmp_path / "any", Image.new(mode, (16, 16), red), ".jpg", quality=100)
    assert np.abs(image.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("picture", [Image.new("1", (2, 2), 1), Image.new("CMYK", (2, 2)), Image.new("P", (2, 2), 0)])
def test_other_modes_become_grey_or_rgb(tmp_path, picture):
    if picture.mode == "P":
        picture.putpalette([255, 255, 255])
    image, _ = _read(tmp_path / "any", picture, ".tif", grey=picture.mode == "1")
    assert image.shape == (2, 2, 1 if picture.mode == "1" else 3)
    assert (image == 255).all()


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp", ".avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_rotated_by_their_exif_orientation(tmp_path, suffix, orientation):
    # Upright order of four quarters, 0 dark to 3 bright, by the EXIF standard's table of orientations.
    shown = {1: "0123", 2: "1032", 3: "3210", 4: "2301", 5: "0213", 6: "2031", 7: "3120", 8: "1302"}[orientation]
    exif = Image.Exif()
    exif[pixels.ORIENTATION] = orientation
    quarters = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 24), np.uint8))
    image, about = _read(
        tmp_path / "photos", quarters, suffix, grey=True, exif=exif, **({"quality": 95} if suffix in (".jpg", ".avif") else {})
    )
    side = len(image)
    shown_quarters = [image[y, x, 0] for y in (side // 4, 3 * side // 4) for x in (side // 4, 3 * side // 4)]
    assert "".join(str(round(value / 80)) for value in shown_quarters) == shown
    turned = pixels.upright(quarters, orientation)
    height, width = turned.shape
    corners = [turned[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    assert "".join(str(value // 80) for value in corners) == shown
    assert ("rotated by their EXIF orientation" in about) == (orientation > 1)


def test_an_invalid_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[pixels.ORIENTATION] = 9
    image, about = _read(tmp_path / "photos", np.array([[0, 80], [160, 240]], np.uint8), ".png", grey=True, exif=exif)
    assert image.squeeze(-1).tolist() == [[0, 80], [160, 240]]
    assert "rotated" not in about


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("L", (2, 2), level) for level in (10, 200)]
    image, about = _read(tmp_path / "moving", frames[0], ".gif", save_all=True, append_images=frames[1:])
    assert (image == 10).all()
    assert "; 1 animated, of which the first frame is used" in about


@pytest.mark.parametrize(("size", "side"), [((256, 200), 256), ((257, 200), sources.FOLDER_SIZE)])
def test_images_above_256_pixels_are_resized(tmp_path, size, side):
    image, about = _read(tmp_path / "large", Image.new("L", size), grey=True)
    assert image.shape == (side, side, 1)
    assert f"{side}×{side} grey, resized from {size[0]}×200, stretched to squares (aspect ratio not kept)" in about


def test_an_image_beyond_pillows_limit_is_named(tmp_path, monkeypatch):
    folder = _folder(tmp_path / "bombs", np.zeros((7, 9), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow refuses images of more than twice as many
    with pytest.raises(Misuse, match=r"12 of 12 images cannot be read.*0\.png \(Image size \(63 pixels\) exceeds") as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("dtype", "values"), [(np.uint16, [0, 257, 65535]), (np.float32, [0, 1 / 255, 1]), (bool, [0, 1, 1])])
def test_arrays_are_scaled_by_their_type(dtype, values):
    image = pixels.eight_bits(np.array([values], dtype), 1 if dtype == np.float32 else None)
    assert image.tolist() == [[[0], [255 if dtype is bool else 1], [255]]]


def test_arrays_of_another_shape_or_type_are_refused():
    for values in (np.zeros((2, 2, 5), np.uint8), np.zeros((2, 2, 2, 3), np.uint8), np.zeros((2, 2), np.float32)):
        with pytest.raises(ValueError, match="neither grey nor rgb|no standard range"):
            pixels.eight_bits(values)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("equal", "after decoding, the images are all equal"),
        ("flat", "after decoding, the images are each of a single colour"),
        (
            "white on transparency",
            r"after decoding, the images are all equal.*transparent pixels become white.*the first pixel 255, 255, 255",
        ),
        ("two pictures", "the test split needs images without copies"),
    ],
)
def test_images_without_differences_are_refused(tmp_path, kind, message):
    for i in range(10):
        values = np.full((4, 4, 4), 255, np.uint8)
        if kind == "equal":
            values[:2, :, :3] = 0
        elif kind == "flat":
            values[..., :3] = 20 * i
        elif kind == "two pictures":
            values[i % 2] = [0, 0, 0, 255]
        else:
            values[i % 4, :, 3] = i
        _save(tmp_path / kind / "ab"[i % 2] / f"{i}.png", values)
    with pytest.raises(Misuse, match=message):
        load(str(tmp_path / kind))


def test_images_of_a_single_colour_and_dark_datasets_are_reported(tmp_path):
    folder = _folder(tmp_path / "some", np.full((4, 4), 9, np.uint8), grey=True)
    assert "; 1 images are of a single colour" in load(str(folder)).about()
    for path in folder.rglob("*.png"):
        _save(path, np.asarray(Image.open(path)) // 16)
    assert "; no pixel value is above 15 of 255" in load(str(folder)).about()


def _png(width, depth, kind, row, key):
    """A PNG of one row, with a transparent colour."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0)
    parts = ((b"IHDR", head), (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)))


def test_the_transparent_colour_of_a_png_is_that_of_its_depth():
    two = _png(4, 2, 0, bytes([0b00011011]), struct.pack(">H", 2))  # 0, 1, 2, 3 of 3; 2 is transparent
    assert pixels.eight_bits(pixels.decoded(two))[0, :, 0].tolist() == [0, 85, 255, 255]
    four = _png(2, 4, 0, bytes([0x5A]), struct.pack(">H", 10))  # 5 and 10 of 15
    assert pixels.eight_bits(pixels.decoded(four))[0, :, 0].tolist() == [85, 255]
    deep = _png(
        2, 16, 2, struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x4321, 0x8765, 0xCBA9), struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)
    )
    assert pixels.eight_bits(pixels.decoded(deep))[0].tolist() == [[255, 255, 255], [0x43, 0x87, 0xCB]]
