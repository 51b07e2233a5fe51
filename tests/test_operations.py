import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from common import operations


@pytest.fixture
def images():
    """Five colour images of whole numbers with height 6 and width 8."""
    return np.floor(np.random.default_rng(1).uniform(0, 256, (5, 6, 8, 3))).astype(np.float32)


def operation(name, images, strength, forwards=True):
    """The images after an operation, which is the same whether it is named or drawn."""
    which = (operations.OPERATIONS.index(name) + 0.5) / len(operations.OPERATIONS)
    images, direction = tf.constant(images, tf.float32), tf.fill([len(images)], 0.1 if forwards else 0.9)
    named = operations.apply_operation(images, name, direction, strength).numpy()
    drawn = operations.apply_drawn(images, tf.fill([len(images)], which), direction, strength).numpy()
    assert np.array_equal(named, drawn)
    return named


def grey(images):
    return (images @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, axis=-1)


def test_colour_operations_by_numpy(images):
    assert np.array_equal(operation("identity", images, 1.0), images)
    assert np.array_equal(operation("posterize", images, 1.0), images // 16 * 16)
    assert np.array_equal(operation("posterize", images, 0.5), images // 4 * 4)
    assert np.array_equal(operation("solarize", images, 0.5), np.where(images >= 128, 255 - images, images))
    assert np.array_equal(operation("solarize", images, 1.0), 255 - images)
    others = {"brightness": 0 * images, "colour": grey(images)}
    others["contrast"] = grey(images).mean(axis=(1, 2, 3), keepdims=True)
    smooth = images.copy()
    for y in range(1, 5):
        for x in range(1, 7):
            window = images[:, y - 1 : y + 2, x - 1 : x + 2]
            smooth[:, y, x] = (window.sum(axis=(1, 2)) + 4 * images[:, y, x]) / 13
    others["sharpness"] = smooth
    for name, other in others.items():
        for forwards, factor in ((True, 1.45), (False, 0.55)):
            expected = np.clip(other + factor * (images - other), 0, 255)
            assert np.allclose(operation(name, images, 0.5, forwards), expected, atol=0.01), name


def test_auto_contrast_and_equalize_by_numpy(images):
    images = np.floor(images / 3) + 20
    images[0, :, :, 1] = 7.0  # a channel of one value stays
    stretched, equal = operation("auto contrast", images, 0.0), operation("equalize", images, 0.0)
    for i in range(len(images)):
        for c in range(3):
            channel = images[i, :, :, c]
            low, high = channel.min(), channel.max()
            if low == high:
                assert np.array_equal(stretched[i, :, :, c], channel)
                assert np.array_equal(equal[i, :, :, c], channel)
                continue
            assert np.allclose(stretched[i, :, :, c], 255 * (channel - low) / (high - low), atol=0.01)
            share = np.array([[(channel <= value).mean() for value in row] for row in channel])
            assert np.allclose(equal[i, :, :, c], 255 * (share - share.min()) / (1 - share.min()), atol=0.01)


def test_geometric_operations_by_hand():
    # A point in the right place of a 31 × 31 image, whose middle is (15, 15).
    def moved(name, row, column, strength, forwards=True):
        image = np.zeros((1, 31, 31, 1), np.float32)
        image[0, row, column] = 255
        changed = operation(name, image, strength, forwards)[0, :, :, 0]
        weights = changed / changed.sum()
        return (weights.sum(axis=1) @ np.arange(31), weights.sum(axis=0) @ np.arange(31))

    shift = 0.5 * 31 * 150 / 331
    assert moved("translate x", 15, 15, 0.5) == pytest.approx((15, 15 - shift), abs=0.05)
    assert moved("translate y", 15, 15, 0.5, forwards=False) == pytest.approx((15 + shift, 15), abs=0.05)
    assert moved("shear x", 25, 15, 1.0) == pytest.approx((25, 15 - 3), abs=0.05)  # 0.3 of the ten rows from the middle
    assert moved("shear y", 15, 5, 1.0) == pytest.approx((15 + 3, 5), abs=0.05)
    for forwards, side in ((True, -1), (False, 1)):
        row, column = moved("rotate", 15, 25, 1.0, forwards)  # ten to the right, turned by 30°: upwards first
        assert (row - 15, column - 15) == pytest.approx((side * 10 * 0.5, 10 * np.sqrt(3) / 2), abs=0.3)


def test_operations_are_drawn_uniformly_and_strength_0_is_the_identity(images):
    steps = np.floor(np.linspace(0, 1, 1400, endpoint=False) * len(operations.OPERATIONS))
    assert set(np.bincount(steps.astype(int))) == {100}
    without = [name for name in operations.OPERATIONS if name not in ("auto contrast", "equalize")]
    assert all(np.allclose(operation(name, images, 0.0), images, atol=1e-3) for name in without)
    assert all(not np.allclose(operation(name, images, 0.3), images, atol=0.5) for name in operations.OPERATIONS[1:])


# --- the Python Imaging Library, which the papers use -----------------------------------------------------------------

FACTOR = 1 + 0.9 * 0.5
BY_PILLOW = {
    "identity": (lambda image: image, 0),
    "auto contrast": (ImageOps.autocontrast, 1),
    "brightness": (lambda image: ImageEnhance.Brightness(image).enhance(FACTOR), 1),
    "colour": (lambda image: ImageEnhance.Color(image).enhance(FACTOR), 1.5),
    "contrast": (lambda image: ImageEnhance.Contrast(image).enhance(FACTOR), 1.5),
    "sharpness": (lambda image: ImageEnhance.Sharpness(image).enhance(FACTOR), 1.5),
    "posterize": (lambda image: ImageOps.posterize(image, 6), 0),
    "solarize": (lambda image: ImageOps.solarize(image, 128), 0),
}
"""Operation -> its function in Pillow at strength 0.5, and the largest difference, through rounding to whole numbers."""
MATRICES = {
    "rotate": (np.cos(np.pi / 12), -np.sin(np.pi / 12), np.sin(np.pi / 12), np.cos(np.pi / 12)),
    "shear x": (1, 0.15, 0, 1),
    "shear y": (1, 0, 0.15, 1),
}
"""Operation -> a, b, c, d at strength 0.5: output pixel (x, y) is input pixel (a x + b y, c x + d y), from the middle."""


@pytest.mark.parametrize("name", BY_PILLOW)
def test_a_colour_operation_is_that_of_pillow(images, name):
    function, tolerance = BY_PILLOW[name]
    expected = [np.asarray(function(Image.fromarray(image.astype(np.uint8)))) for image in images]
    assert np.abs(operation(name, images, 0.5) - expected).max() <= tolerance


def test_equalize_is_about_that_of_pillow_where_values_are_many():
    """Pillow rounds the number of pixels of a step down, so that it may stop short of 255."""
    image = np.random.default_rng(0).beta(2, 5, (1, 128, 128, 1)) * 255
    expected = np.asarray(ImageOps.equalize(Image.fromarray(image[0, :, :, 0].astype(np.uint8))))
    assert np.abs(operation("equalize", np.floor(image), 1.0)[0, :, :, 0] - expected).max() <= 3


@pytest.mark.parametrize("name", MATRICES)
def test_a_transform_is_that_of_pillow(name):
    image = np.random.default_rng(2).uniform(0, 255, (9, 11)).astype(np.float32)
    a, b, c, d = MATRICES[name]
    middle = np.array([5.5, 4.5])  # Pillow's coordinates are those of corners of pixels
    x0, y0 = middle - [[a, b], [c, d]] @ middle
    transform = Image.Transform.AFFINE, (a, b, x0, c, d, y0), Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(image).transform((11, 9), *transform))
    changed = operation(name, image[None, :, :, None], 0.5)[0, :, :, 0]
    inner = (slice(2, -2), slice(2, -2))  # at the border, Pillow does not blend with the black outside
    assert np.allclose(changed[inner], expected[inner], atol=0.1)


@pytest.mark.parametrize("name", ["translate x", "translate y"])
def test_a_translation_moves_by_a_share_of_the_side(name):
    image = np.random.default_rng(3).uniform(0, 255, (1, 331, 331, 1)).astype(np.float32)
    changed, axis = operation(name, image, 0.1), 2 if name == "translate x" else 1  # by 15 pixels
    kept, moved = ((slice(None), slice(None, -15), slice(None)), (slice(None), slice(15, None), slice(None)))
    order = (0, axis, 3 - axis, 3)
    assert np.allclose(changed.transpose(order)[kept], image.transpose(order)[moved], atol=0.01)
    assert np.all(changed.transpose(order)[:, -15:] == 0)
