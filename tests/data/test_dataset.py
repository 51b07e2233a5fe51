import numpy as np
import pytest

from common.data.dataset import load
from common.data.streams import Streams
from common.errors import Misuse


def test_digits_have_the_sizes_that_scikit_learn_ships(digits):
    assert digits.shape == (28, 28, 1)
    assert (digits.train_size, digits.test_size, digits.classes) == (1438, 359, 10)
    assert digits.split_sizes() == (1150, 288)
    images = digits.test().images
    assert images.dtype == np.uint8
    assert images.max() == 255


def test_splits_are_disjoint_stratified_and_cover_train(digits):
    train, val = digits.split(Streams(0))
    assert sorted([*train.ids, *val.ids]) == list(range(1438))
    shares = np.bincount(val.labels) / len(val) - np.bincount(train.labels) / len(train)
    assert np.abs(shares).max() < 0.01


def test_val_depends_on_the_seed_of_the_split_stream(digits):
    first, second = digits.split(Streams(0))[1].ids, digits.split(Streams(1))[1].ids
    assert not np.array_equal(first, second)
    assert np.array_equal(digits.split(Streams(1, vary=()))[1].ids, first)


@pytest.mark.parametrize("damage", ["flip a byte", "truncate", "delete"])
def test_a_damaged_cache_is_rebuilt(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("CACHE_DIR", str(tmp_path))
    dataset = load("digits")
    path = dataset.folder / "train_images.npy"
    content = bytearray(path.read_bytes())
    if damage == "flip a byte":
        content[5000] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:5000])
    else:
        path.unlink()
    again = load("digits")
    assert again.checksum == dataset.checksum
    assert again.split(Streams(0))[0].images.shape == (1150, 28, 28, 1)


@pytest.mark.parametrize(("variable", "name"), [("CACHE_DIR", "digits"), ("TFDS_DATA_DIR", "fashion_mnist")])
def test_a_path_in_the_home_folder_of_an_unknown_user_is_refused(monkeypatch, variable, name):
    monkeypatch.setenv(variable, "~nobody-of-that-name/x")
    with pytest.raises(Misuse, match=f"{variable} begins with the home folder of somebody unknown .*Received: ~nobody-of"):
        load(name)


def test_a_cached_dataset_is_not_decoded_again(digits, monkeypatch):
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda *_, **__: pytest.fail("decoded again"))
    assert load("digits").checksum == digits.checksum


def test_resizing_and_conversion_to_rgb():
    dataset = load("digits", image_size=12, colour="rgb")
    assert dataset.shape == (12, 12, 3)
    image = dataset.test().images[0]
    assert np.array_equal(image[..., 0], image[..., 2])
