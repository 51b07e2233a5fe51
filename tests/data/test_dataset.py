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


def _save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)


def _all_alike(folder, pixels, suffix=".png", **options):
    """Two classes of 5 copies of an image. Returns the one test image of the first class."""
    for i in range(10):
        _save(folder / "ab"[i % 2] / f"{i}{suffix}", pixels, **options)
    return load(str(folder)).test().images[0]


@pytest.mark.parametrize(("suffix", "mode"), [(".png", "I;16"), (".tif", "I;16"), (".pgm", "I")])
def test_16_bits_become_8(tmp_path, suffix, mode):
    # 65535 / 255 = 257; 1000 / 257 = 3.9, 60000 / 257 = 233.5.
    pixels = np.array([[0, 257], [1000, 60000]], np.uint16)
    assert _all_alike(tmp_path / "deep", pixels, suffix).squeeze(-1).tolist() == [[0, 1], [4, 233]]
    assert Image.open(tmp_path / "deep" / "a" / f"0{suffix}").mode == mode


def test_32_bits_have_no_range_and_are_refused(tmp_path):
    with pytest.raises(Misuse, match=r"32 bits, .* save it with 8 or 16.*a/0\.tif"):
        _all_alike(tmp_path / "deep", np.zeros((2, 2), np.float32), ".tif")


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "tRNS"])
def test_what_is_transparent_lies_on_white_and_warns_nobody(tmp_path, recwarn, kind):
    # Black at full, half and no opacity: 0, 255 - 128 = 127, 255.
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 3] = [[255, 128], [0, 0]]
    picture, expected = Image.fromarray(pixels), [[0, 127], [255, 255]]
    if kind == "LA":
        picture = picture.convert("LA")
    if kind == "P":
        picture = picture.quantize(4)
    if kind == "tRNS":  # a grey value that counts as transparent
        picture, expected = Image.fromarray(np.array([[10, 20], [30, 30]], np.uint8)), [[10, 20], [255, 255]]
    image = _all_alike(tmp_path / "icons", picture, **({"transparency": 30} if kind == "tRNS" else {}))
    assert image[..., 0].tolist() == expected
    assert image.shape[-1] == (1 if kind in ("LA", "tRNS") else 3)
    assert not recwarn.list


@pytest.mark.parametrize("picture", [Image.new("1", (2, 2), 1), Image.new("CMYK", (2, 2)), Image.new("P", (2, 2), 0)])
def test_other_modes_become_grey_or_rgb(tmp_path, picture):
    if picture.mode == "P":
        picture.putpalette([255, 255, 255])
    image = _all_alike(tmp_path / "any", picture, ".tif")
    assert image.shape == (2, 2, 1 if picture.mode == "1" else 3)
    assert (image == 255).all()


def test_a_photograph_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what is stored as the upper half is the right one
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:8] = 255
    image = _all_alike(tmp_path / "photos", pixels, ".jpg", exif=exif, quality=95)
    assert (image[:, :7] < 50).all()
    assert (image[:, 9:] > 200).all()


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("L", (2, 2), level) for level in (10, 200)]
    assert (_all_alike(tmp_path / "moving", frames[0], ".gif", save_all=True, append_images=frames[1:]) == 10).all()


@pytest.mark.parametrize(("size", "side"), [((256, 200), 256), ((257, 200), sources.FOLDER_SIZE)])
def test_large_images_shrink_so_that_they_fit_in_memory(tmp_path, size, side):
    assert _all_alike(tmp_path / "large", Image.new("L", size)).shape == (side, side, 1)


def test_an_image_beyond_pillows_limit_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # it refuses what has more than twice as many
    with pytest.raises(Misuse, match=r"unreadable image \(Image size \(63 pixels\) exceeds limit.*cat/0\.png"):
        load(str(_folder(tmp_path / "pets")))


def test_a_systems_own_files_are_no_images(tmp_path):
    folder = _folder(tmp_path / "pets")
    plain = load(str(folder))
    beside = (".DS_Store", "._0.png", "__MACOSX/cat/._0.png")
    for name in (*beside, "cat/Thumbs.db", "cat/._0.png", "cat/.ipynb_checkpoints/0.png", "cat/@eaDir/0.png/THUMB_M.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not an image")
    (folder / "dog" / "more.png").mkdir()
    (folder / "dog" / "list.txt").write_text("text")
    again = load(str(folder))
    assert (again.checksum, again.class_names) == (plain.checksum, ("cat", "dog"))


def test_links_are_followed_and_broken_ones_named(tmp_path):
    folder, elsewhere = _folder(tmp_path / "pets"), _folder(tmp_path / "more", classes=("bird",), count=5)
    (folder / "bird").symlink_to(elsewhere / "bird")
    (folder / "cat" / "loop").symlink_to(folder / "cat")
    before = load(str(folder))
    assert before.class_names == ("bird", "cat", "dog")
    assert before.train_size + before.test_size == 25
    Image.new("L", (9, 7)).save(elsewhere / "bird" / "0.png")
    assert load(str(folder)).checksum != before.checksum
    (folder / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(Misuse, match=r"cannot be read \(No such file or directory\).*cat/gone\.png"):
        load(str(folder))


def test_class_names_and_paths_may_be_any(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = _folder(tmp_path / "my pets, all", classes=("a, b", "Cat", "cat", "飞机"))
    assert load("~/my pets, all").class_names == ("Cat", "a, b", "cat", "飞机")
    os.rename(folder / "cat", os.fsencode(folder) + b"/d\xffg")  # in an encoding of another system
    assert load(str(folder)).class_names == ("Cat", "a, b", "d\\xffg", "飞机")
    for path in folder.rglob("*.png"):
        path.rename(path.with_suffix(".PNG"))
    assert load(str(folder)).train_size == 32


@pytest.mark.parametrize("place", ["", "cat", "cat/0.png"])
def test_what_may_not_be_read_is_named(tmp_path, monkeypatch, place):
    folder = _folder(tmp_path / "pets")
    closed = folder / place

    def refusing(function):
        def call(path=".", *others, **options):
            if os.fspath(path) == str(closed):
                raise PermissionError(13, "Permission denied", str(closed))
            return function(path, *others, **options)

        return call

    for name in ("listdir", "scandir"):  # what file modes forbid, they do not forbid root
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(Image, "open", refusing(Image.open))
    with pytest.raises(Misuse, match=rf"\(Permission denied\).*{closed}$"):
        load(str(folder))


@pytest.mark.parametrize("parts", [("validation", "test"), ("Train", "Test"), ("training",)])
def test_parts_by_another_name_are_no_classes(tmp_path, parts):
    with pytest.raises(Misuse, match="must be called train and, where there is one, test"):
        load(str(_folder(tmp_path / "pets", parts=parts)))


def test_parts_without_classes_are_no_classes(tmp_path):
    with pytest.raises(Misuse, match=r"hold one subfolder per class\..*test"):
        load(str(_folder(tmp_path / "pets", classes=("train", "test"))))


def test_a_class_that_the_test_images_lack_is_named(tmp_path):
    folder = _folder(tmp_path / "pets", parts=("train", "test"))
    (folder / "test" / "dog").rename(tmp_path / "dog")
    with pytest.raises(Misuse, match=r"1 to test.*Received: 0 in .*test/dog"):
        load(str(folder))


def test_where_the_classes_lie_is_said(tmp_path):
    inner = _folder(tmp_path / "my archive" / "flowers", classes=("rose", "tulip"))
    with pytest.raises(Misuse, match=rf"classes lie deeper, DATASET='{inner}'\. Received: {tmp_path / 'my archive'}$"):
        load(str(tmp_path / "my archive"))
    with pytest.raises(Misuse, match="move the images into folders named after their class"):
        load(str(inner / "rose"))
    (tmp_path / "none").mkdir()
    with pytest.raises(Misuse, match="at least two: it has 0"):
        load(str(tmp_path / "none"))
    with pytest.raises(Misuse, match="not a file"):
        load(str(inner / "rose" / "0.png"))
    with pytest.raises(Misuse, match="does not exist"):
        load("~nobody-of-that-name/images")


@pytest.mark.parametrize(("counts", "val"), [((5, 5), [1, 1]), ((5, 5, 5), [1, 1, 1]), ((5, 120), [1, 9])])
def test_val_holds_each_class(tmp_path, counts, val):
    # Of 5, one is tested on and one validated on. Of 125, a fifth is 25 and a tenth of the rest is 10.
    for name, count in zip("abc", counts, strict=False):
        _folder(tmp_path / "rare", classes=(name,), count=count)
    dataset = load(str(tmp_path / "rare"))
    for seed in range(5):
        train, validated = dataset.split(Streams(seed))
        assert np.bincount(validated.labels).tolist() == val
        assert np.bincount(train.labels)[0] == 3
        assert sorted([*train.ids, *validated.ids]) == list(range(dataset.train_size))
    assert dataset.split_sizes() == (dataset.train_size - sum(val), sum(val))


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
