import json
import socket

import numpy as np
import pytest
from PIL import Image

from common.data import dataset as dataset_module
from common.data.dataset import load
from common.data.prepared import prepared_copy, tfds_dataset
from common.data.streams import Streams
from common.errors import Failure, Misuse

pytestmark = pytest.mark.slow


def test_an_unknown_dataset_is_named():
    with pytest.raises(Misuse, match="Received: 'cifar11'"):
        load("cifar11")


def test_a_missing_network_is_reported_after_a_few_attempts(tmp_path, monkeypatch):
    attempts = []

    def refuse(*address, **_):
        attempts.append(address)
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(Failure) as caught:
        load("fashion_mnist")
    assert 1 <= len(attempts) <= 10
    message = str(caught.value)
    assert "\n" not in message
    for part in ("fashion_mnist", str(tmp_path), "DATASET=digits", "TFDS_DATA_DIR"):
        assert part in message


def _prepare(folder, splits, *, called="shapes", version="1.0.0", configs=(), features=None, **image):
    """Prepare a small dataset with TFDS. Returns the folder.

    Args:
        splits: split -> its examples, (image, label); with `features`, dicts of these.
        features: TFDS features, by default `image` and `label`.
        image: arguments of the feature `image`.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification.mnist import MNIST

    with tfds.core.registered.skip_registration():

        class Shapes(MNIST):
            name = called
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=one) for one in configs)

            def _info(self):
                default = {"image": tfds.features.Image(**image), "label": tfds.features.ClassLabel(num_classes=2)}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features or default))

            def _split_generators(self, _):
                return {split: self._rows(rows) for split, rows in splits.items()}

            def _rows(self, rows):
                for i, row in enumerate(rows):
                    yield i, row if features else dict(zip(("image", "label"), row, strict=True))

    for config in configs or (None,):
        builder = Shapes(data_dir=folder, config=config)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return folder


def _picture(i, channels=1, dtype=np.uint8):
    """An image whose upper left pixel is i, different for each i."""
    values = np.full((28, 28, channels), i, dtype)
    values[1:] = np.random.default_rng(i).integers(0, 200, (27, 28, channels))
    return values


def _rows(start, end, labels=2):
    return [(_picture(i), i % labels) for i in range(start, end)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return _prepare(tmp_path_factory.mktemp("tfds"), {"train": _rows(20, 60), "test": _rows(0, 8)}, shape=(28, 28, 1))


@pytest.fixture
def tfds_folder(tmp_path, monkeypatch):
    """A folder for prepared datasets, with a separate cache; datasets are read in this process, which has TensorFlow loaded."""

    def read(folder, name, *form):
        dataset_module.write_cache(folder, dataset_module._source(name), name, tfds_dataset(name, *form))

    monkeypatch.setattr(dataset_module, "_prepare_from_tfds", read)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "tfds"


def test_a_prepared_tfds_dataset_is_read_by_name(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    dataset = load("shapes")
    assert (dataset.shape, dataset.train_size, dataset.test_size) == ((28, 28, 1), 40, 8)
    images, labels = dataset.test().images, dataset.test().labels
    assert sorted(images[:, 0, 0, 0]) == list(range(8))
    assert np.array_equal(images[:, 0, 0, 0] % 2, labels)


def test_a_cache_is_of_the_copy_that_is_prepared_now(tfds_folder, tmp_path, monkeypatch):
    """Not of an earlier version, or of another folder; without any prepared copy the cache stands for it."""
    _prepare(tfds_folder, {"train": _rows(20, 60), "test": _rows(0, 8)}, shape=(28, 28, 1))
    assert load("shapes").train_size == 40
    _prepare(tfds_folder, {"train": _rows(20, 90), "test": _rows(0, 8)}, version="2.0.0", shape=(28, 28, 1))
    assert load("shapes").train_size == 70
    other = _prepare(tmp_path / "other", {"train": _rows(20, 80), "test": _rows(0, 8)}, shape=(28, 28, 1))
    monkeypatch.setenv("TFDS_DATA_DIR", str(other))
    assert load("shapes").train_size == 60
    monkeypatch.setattr(dataset_module, "_prepare_from_tfds", lambda *_: pytest.fail("the cache was made again"))
    assert load("shapes").train_size == 60
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    assert load("shapes").train_size == 60


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


def test_the_newest_prepared_version_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for version in ("9.0.0", "10.0.0", "2.0.0.incompleteABC"):
        (tmp_path / "shapes" / version).mkdir(parents=True)
        (tmp_path / "shapes" / version / "dataset_info.json").write_text(json.dumps({}))
    assert prepared_copy("shapes").name == "10.0.0"


def test_a_name_may_hold_a_config_and_a_version(tfds_folder):
    for version, first in (("1.0.0", 20), ("2.0.0", 120)):
        rows = {"train": _rows(first, first + 10), "test": _rows(first - 8, first)}
        _prepare(tfds_folder, rows, version=version, configs=("one", "two"), shape=(28, 28, 1))
    for name, version in (("shapes/one", "2.0.0"), ("shapes/two:1.0.0", "1.0.0"), ("shapes/one:1.*.*", "1.0.0")):
        assert prepared_copy(name) == tfds_folder / name.split(":")[0] / version
    assert prepared_copy("shapes/one:3.0.0") is None
    with pytest.raises(Misuse, match="shapes has several configs: name one, shapes/one or shapes/two. Received: shapes"):
        prepared_copy("shapes")
    dataset = load("shapes/one:1.0.0")
    assert dataset.name == "shapes_one_1.0.0"
    assert dataset.test().images[:, 0, 0, 0].max() == 19


def test_the_default_config_is_that_of_tfds(tfds_folder):
    for config in ("bangla", "devanagari"):  # tfds.load("cmaterdb") loads the first
        for version in ("1.0.0", "2.0.0") if config == "devanagari" else ("1.0.0",):
            (tfds_folder / "cmaterdb" / config / version).mkdir(parents=True)
            (tfds_folder / "cmaterdb" / config / version / "dataset_info.json").write_text(json.dumps({}))
    assert prepared_copy("cmaterdb") == tfds_folder / "cmaterdb" / "bangla" / "1.0.0"


@pytest.mark.parametrize("called", ["validation", "val"])
def test_a_validation_split_becomes_val(tfds_folder, called):
    _prepare(tfds_folder, {"train": _rows(20, 40), called: _rows(0, 6), "test": _rows(10, 14)}, shape=(28, 28, 1))
    dataset = load("shapes")
    assert (dataset.split_sizes(), dataset.train_size, dataset.test_size) == ((20, 6), 26, 4)
    for seed in range(2):
        train, val = dataset.split(Streams(seed))
        assert sorted(val.images[:, 0, 0, 0]) == list(range(6))
        assert sorted(train.images[:, 0, 0, 0]) == list(range(20, 40))
    assert "20 train, 6 val, 4 test" in dataset.about()


def test_without_a_test_split_a_fifth_of_train_becomes_test(tfds_folder):
    _prepare(tfds_folder, {"train": _rows(0, 40), "validation": _rows(50, 56)}, shape=(28, 28, 1))
    dataset = load("shapes")
    assert (dataset.split_sizes(), dataset.test_size) == ((32, 6), 8)
    assert "; the test images are a fifth of train" in dataset.about()


def test_an_image_without_a_label_is_refused(tfds_folder):
    _prepare(tfds_folder, {"train": _rows(20, 40), "test": [(_picture(i), -1) for i in range(4)]}, shape=(28, 28, 1))
    with pytest.raises(Misuse, match=r"4 of the 4 images in test of shapes have no label.* Received: -1"):
        load("shapes")


def test_features_with_other_names_are_refused(tfds_folder):
    import tensorflow_datasets as tfds

    features = {"picture": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=2)}
    _prepare(tfds_folder, {"train": [{"picture": _picture(i), "label": i % 2} for i in range(4)]}, features=features)
    with pytest.raises(Misuse, match=r"needs a feature `image` of type Image and .*Received: label: ClassLabel, picture: Image$"):
        load("shapes")


def test_text_labels_are_refused(tfds_folder):
    import tensorflow_datasets as tfds

    features = {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.Text()}
    _prepare(tfds_folder, {"train": [{"image": _picture(i), "label": "cat"} for i in range(4)]}, features=features)
    with pytest.raises(Misuse, match="Received: image: Image, label: Text$"):
        load("shapes")


def test_images_of_one_class_are_refused(tfds_folder):
    _prepare(tfds_folder, {"train": [(_picture(i), 1) for i in range(10)], "test": _rows(20, 24)}, shape=(28, 28, 1))
    with pytest.raises(Misuse, match="must be of at least two classes. Received: 10 of class 1"):
        load("shapes")


def test_an_error_about_a_missing_version_lists_the_prepared_ones(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    with pytest.raises(Misuse, match=r"prepared here: shapes:1\.0\.0\. Received: 'shapes:9\.0\.0'"):
        load("shapes:9.0.0")


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint16, [0, 257, 1000, 65535], [0, 1, 4, 255]),
        (np.float32, [0, 0.5, 0.25, 1], [0, 128, 64, 255]),
        (np.float32, [0, 7, 99.6, 255], [0, 7, 100, 255]),
    ],
)
def test_deep_images_are_scaled_by_their_range(tfds_folder, dtype, values, expected):
    image = np.array(values, dtype).reshape(2, 2, 1)
    others = [(image * np.array([[[0.5], [0]], [[i / 20], [0]]])).astype(dtype) for i in range(12)]
    _prepare(
        tfds_folder, {"train": [(one, i % 2) for i, one in enumerate(others)], "test": [(image, 0)]}, shape=(2, 2, 1), dtype=dtype
    )
    dataset = load("shapes")
    assert dataset.test().images.ravel().tolist() == expected
    assert f"; {np.dtype(dtype)} pixels, scaled to 8 bits" in dataset.about()


def test_floats_of_another_range_are_refused(tfds_folder):
    rows = [(np.random.default_rng(i).normal(size=(4, 4, 1)).astype(np.float32), i % 2) for i in range(10)]
    _prepare(tfds_folder, {"train": rows, "test": rows[:2]}, shape=(4, 4, 1), dtype=np.float32)
    with pytest.raises(Misuse, match=r"images of float32: pixels from -\d.* no known black and white.*Received: shapes"):
        load("shapes")


def test_transparent_images_are_composited_on_white(tfds_folder):
    rows = [(_picture(i, 4), i % 2) for i in range(20)]
    image = np.zeros((28, 28, 4), np.uint8)
    image[0, 0, 3], image[0, 1, 3] = 255, 128
    _prepare(tfds_folder, {"train": rows, "test": [(image, 0)]}, shape=(28, 28, 4))
    dataset = load("shapes")
    assert dataset.shape == (28, 28, 3)
    assert dataset.test().images[0, 0, :3, 0].tolist() == [0, 127, 255]
    assert "; 21 transparent, composited on white" in dataset.about()


def test_images_are_rotated_by_their_exif_orientation(tfds_folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise: the upper half of the stored pixels becomes the right one
    values = np.zeros((16, 16, 3), np.uint8)
    values[:8] = 255
    Image.fromarray(values).save(tmp_path / "it.jpg", exif=exif, quality=95)
    for i in range(10):
        Image.fromarray(_picture(i, 3)[:16, :16]).save(tmp_path / f"{i}.jpg")
    rows = [(str(tmp_path / f"{i}.jpg"), i % 2) for i in range(10)]
    _prepare(tfds_folder, {"train": rows, "test": [(str(tmp_path / "it.jpg"), 0)]}, shape=(None, None, 3), encoding_format="jpeg")
    dataset = load("shapes", image_size=16)
    image = dataset.test().images[0]
    assert (image[:, :7] < 50).all()
    assert (image[:, 9:] > 200).all()
    assert "; 1 rotated by their EXIF orientation" in dataset.about()


def test_an_intact_dataset_is_not_reported_as_corrupt(tfds_folder):
    _prepare(tfds_folder, {"train": [(_picture(0), i % 2) for i in range(10)], "test": _rows(0, 1)}, shape=(28, 28, 1))
    with pytest.raises(Misuse, match="the images are all equal"):
        load("shapes")
    _prepare(tfds_folder, {"unsupervised": _rows(0, 4)}, called="others", shape=(28, 28, 1))
    with pytest.raises(Misuse, match="others has no train split"):
        load("others")


def test_the_progress_of_the_child_process_is_printed(prepared, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setenv("CACHE_DIR", str(tmp_path))
    source = "import common.data.arrays as a, common.data.dataset as d; a.PROGRESS_AFTER = a.PROGRESS_EVERY = 0; d.main()"
    monkeypatch.setattr(dataset_module, "CHILD", (*dataset_module.CHILD[:1], "-c", source))
    load("shapes")
    assert "shapes, train: 7 of 40 images read" in capfd.readouterr().err
