import json
import os
import re
import socket
import time

import numpy as np
import pytest
from PIL import Image

from common.data import sources
from common.data.dataset import load
from common.data.streams import Streams
from common.errors import Failure, Misuse


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


def test_the_split_follows_its_stream_and_the_test_split_does_not(digits):
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


def test_a_cached_dataset_opens_in_under_half_a_second(digits):
    start = time.perf_counter()
    load("digits")
    assert time.perf_counter() - start < 0.5


def test_resizing_and_recolouring():
    dataset = load("digits", image_size=12, colour="rgb")
    assert dataset.shape == (12, 12, 3)
    image = dataset.test().images[0]
    assert np.array_equal(image[..., 0], image[..., 2])


# --- image folders ---


def _folder(tmp_path, classes=("cat", "dog"), count=10, parts=("",), size=(9, 7)):
    generator = np.random.default_rng(0)
    for part in parts:
        for name in classes:
            (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = generator.integers(0, 255, (size[1], size[0], 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_an_image_folder_becomes_a_dataset_with_a_stratified_test_split(tmp_path):
    dataset = load(str(_folder(tmp_path / "pets")))
    assert re.fullmatch("pets_[0-9a-f]{8}", dataset.name)  # no folder takes the name of another or of a dataset
    assert dataset.class_names == ("cat", "dog")
    assert dataset.shape == (9, 9, 3)  # the longer side, squared
    assert (dataset.train_size, dataset.test_size) == (16, 4)
    assert np.bincount(dataset.test().labels).tolist() == [2, 2]


def test_its_own_train_and_test_folders_are_kept(tmp_path):
    dataset = load(str(_folder(tmp_path / "pets", count=6, parts=("train", "test"))), image_size=8, colour="grey")
    assert dataset.shape == (8, 8, 1)
    assert (dataset.train_size, dataset.test_size) == (12, 12)


def test_train_alone_is_split_and_other_siblings_are_refused(tmp_path):
    dataset = load(str(_folder(tmp_path / "pets", parts=("train",))))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.test_size == 4
    with pytest.raises(Misuse, match="test/ beside it, nothing else.*val"):
        load(str(_folder(tmp_path / "others", parts=("train", "val"))))


def test_a_changed_folder_is_read_again(tmp_path):
    folder = _folder(tmp_path / "pets")
    before = load(str(folder)).checksum
    os.utime(folder / "cat" / "0.png", (1, 1))
    assert load(str(folder)).checksum == before  # same pixels
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(folder / "cat" / "0.png")
    assert load(str(folder)).checksum != before


@pytest.mark.parametrize("content", [b"not an image", "half"])
def test_an_unreadable_image_is_named(tmp_path, content):
    folder = _folder(tmp_path / "pets")
    path = folder / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:60] if content == "half" else content)
    with pytest.raises(Misuse, match=r"unreadable image.*dog/3\.png"):
        load(str(folder))


def test_too_few_classes_or_images_are_named(tmp_path):
    with pytest.raises(Misuse, match="at least two"):
        load(str(_folder(tmp_path / "one", classes=("cat",))))
    with pytest.raises(Misuse, match="at least 5 images.*Received: 3"):
        load(str(_folder(tmp_path / "few", count=3)))


# --- TFDS ---


def test_an_unknown_name_is_named():
    with pytest.raises(Misuse, match="Received: 'cifar11'"):
        load("cifar11")


def test_no_network_is_said_within_15_seconds(tmp_path, monkeypatch):
    def refuse(*_, **__):
        time.sleep(0.1)
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(Failure) as caught:
        load("fashion_mnist")
    assert time.perf_counter() - start < 15
    message = str(caught.value)
    assert "\n" not in message
    for part in ("fashion_mnist", str(tmp_path), "DATASET=digits", "TFDS_DATA_DIR"):
        assert part in message


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small TFDS dataset, prepared by TFDS itself."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification.mnist import MNIST

    folder = tmp_path_factory.mktemp("tfds")
    with tfds.core.registered.skip_registration():

        class Shapes(MNIST):
            name = "shapes"

            def _split_generators(self, _):
                return {"train": self._rows(40), "test": self._rows(8)}

            def _rows(self, count):
                for i in range(count):
                    yield i, {"image": np.full((28, 28, 1), i, np.uint8), "label": i % 2}

    Shapes(data_dir=folder).download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return folder


def test_a_prepared_tfds_dataset_is_read_by_name(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    dataset = load("shapes")
    assert (dataset.shape, dataset.train_size, dataset.test_size) == ((28, 28, 1), 40, 8)
    images, labels = dataset.test().images, dataset.test().labels
    assert sorted(images[:, 0, 0, 0]) == list(range(8))
    assert np.array_equal(images[:, 0, 0, 0] % 2, labels)


def test_a_corrupt_tfds_file_is_reported(prepared, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(prepared, tmp_path / "tfds")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("CACHE_DIR", str(tmp_path / "cache"))
    record = next((tmp_path / "tfds").rglob("*train.tfrecord*"))
    content = bytearray(record.read_bytes())
    content[200] ^= 255
    record.write_bytes(content)
    with pytest.raises(Failure, match="shapes in .* is corrupt .*delete that folder and prepare it again"):
        load("shapes")


def test_the_newest_prepared_version_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for version in ("9.0.0", "10.0.0", "2.0.0.incompleteABC"):
        (tmp_path / "shapes" / version).mkdir(parents=True)
        (tmp_path / "shapes" / version / "dataset_info.json").write_text(json.dumps({}))
    assert sources.prepared_copy("shapes").name == "10.0.0"
