import os
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from common.data import arrays
from common.data.dataset import load
from common.data.streams import Streams
from common.errors import Failure, Misuse


def _folder(tmp_path, classes=("cat", "dog"), count=10, parts=("",), size=(9, 7)):
    for part in parts:
        for name in classes:
            generator = np.random.default_rng(list(os.fsencode(part + name)))
            (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = generator.integers(0, 255, (size[1], size[0], 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_an_image_folder_becomes_a_dataset_with_a_stratified_test_split(tmp_path):
    dataset = load(str(_folder(tmp_path / "pets")))
    assert re.fullmatch("pets_[0-9a-f]{8}", dataset.name)  # unlike the name of any other folder or dataset
    assert dataset.class_names == ("cat", "dog")
    assert dataset.shape == (9, 9, 3)  # squares of the longer side
    assert (dataset.train_size, dataset.test_size) == (16, 4)
    assert np.bincount(dataset.test().labels).tolist() == [2, 2]


def test_folders_for_train_and_test_become_the_splits(tmp_path):
    dataset = load(str(_folder(tmp_path / "pets", count=6, parts=("train", "test"))), image_size=8, colour="grey")
    assert dataset.shape == (8, 8, 1)
    assert (dataset.train_size, dataset.test_size) == (12, 12)


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        (("train",), (16, 4)),
        (("Training",), (16, 4)),
        (("train", "test"), (20, 20)),
        (("TRAIN", "Test"), (20, 20)),
        (("training_set", "test-images"), (20, 20)),
        (("train", "valid"), (36, 4)),
        (("training", "validation", "testing"), (40, 20)),
        (("Train", "dev", "TEST"), (40, 20)),
    ],
)
def test_usual_names_of_split_folders_are_recognised(tmp_path, parts, sizes):
    dataset = load(str(_folder(tmp_path / "pets", parts=parts)))
    assert dataset.class_names == ("cat", "dog")
    assert (dataset.train_size, dataset.test_size) == sizes
    train, val = dataset.split(Streams(1))
    if len({"valid", "validation", "dev"} & set(parts)):
        assert dataset.split_sizes() == (sizes[0] - 20, 20)
        assert sorted(val.ids) == list(range(sizes[0] - 20, sizes[0]))
        assert np.array_equal(val.images, dataset.split(Streams(2))[1].images)
        assert sorted(train.ids) == list(range(sizes[0] - 20))
        assert f"{sizes[0] - 20} train, 20 val, {sizes[1]} test" in dataset.about()


def test_the_folder_for_val_becomes_val(tmp_path):
    folder = _folder(tmp_path / "pets", parts=("train", "val", "test"), size=(9, 9))
    dataset = load(str(folder))
    read = np.stack([np.asarray(Image.open(folder / "val" / name / f"{i}.png")) for name in ("cat", "dog") for i in range(10)])
    assert np.array_equal(dataset.split(Streams(0))[1].images, read)
    (folder / "val" / "dog" / "9.png").rename(folder / "train" / "dog" / "10.png")
    assert load(str(folder)).checksum != dataset.checksum


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("train", "others"), "beside train/ only val/ and test/ are allowed.*others"),
        (("train", "test1"), "only val/ and test/ are allowed.*test1"),
        (("train", "Training"), "one folder for train"),
        (("validation", "test"), "there must be a folder for train"),
        (("test2",), "only val/ and test/ are allowed.*test2"),
        (("train", "eval"), "only val/ and test/ are allowed.*eval"),
        (("seg_train", "seg_test", "seg_pred"), "classes must not be named after splits.*seg_test and seg_train"),
        (("val of shoes", "train of shoes"), "classes must not be named after splits.*train of shoes and val of shoes"),
    ],
)
def test_folders_for_other_splits_are_refused(tmp_path, parts, message):
    with pytest.raises(Misuse, match=message):
        load(str(_folder(tmp_path / "pets", parts=parts)))


def test_splits_within_a_class_are_refused(tmp_path):
    folder = _folder(tmp_path / "pets", parts=("cat",), classes=("train", "test"))
    with pytest.raises(Misuse, match="not splits of classes: move them to train/cat/ and test/cat/"):
        load(str(_folder(folder, classes=("dog",))))


@pytest.mark.parametrize("names", [("car", "train"), ("bullet train", "freight train"), ("training", "swimming")])
def test_a_class_may_be_called_train(tmp_path, names):
    assert load(str(_folder(tmp_path / "vehicles", classes=names))).class_names == tuple(sorted(names))


def test_classes_of_test_that_train_lacks_are_refused(tmp_path):
    folder = _folder(tmp_path / "pets", classes=("Cat", "Dog"), parts=("train",))
    _folder(folder, parts=("test",))
    message = (
        r"test/ must have no other classes than train/ \(Cat, Dog\): rename or remove the others. Received: cat, dog, in .*/test$"
    )
    with pytest.raises(Misuse, match=message):
        load(str(folder))


def test_images_of_test_without_classes_are_refused(tmp_path):
    folder = _folder(tmp_path / "pets", parts=("train",))
    (folder / "train" / "cat" / "0.png").rename(tmp_path / "0.png")
    (folder / "test").mkdir()
    (tmp_path / "0.png").rename(folder / "test" / "0.png")
    with pytest.raises(Misuse, match="one subfolder per class: move its images into such folders, or remove it.*/test$"):
        load(str(folder))


def test_class_names_in_different_unicode_forms_are_one_class(tmp_path):
    folder = _folder(tmp_path / "pets", classes=("caf\u00e9", "dog"), parts=("train",))
    dataset = load(str(_folder(folder, classes=("cafe\u0301", "dog"), parts=("test",))))
    assert (dataset.class_names, dataset.train_size, dataset.test_size) == (("caf\u00e9", "dog"), 20, 20)


def test_images_in_subfolders_of_a_class_belong_to_it(tmp_path):
    dataset = load(str(_folder(tmp_path / "all", classes=("animals/cat", "animals/dog", "things/car"))))
    assert dataset.about().startswith("2 classes (animals: 20, things: 10), ")


def test_a_changed_folder_is_read_again(tmp_path):
    folder = _folder(tmp_path / "pets")
    before = load(str(folder)).checksum
    os.utime(folder / "cat" / "0.png", (1, 1))
    assert load(str(folder)).checksum == before  # same pixels
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(folder / "cat" / "0.png")
    assert load(str(folder)).checksum != before


def test_all_unreadable_images_are_named_at_once(tmp_path):
    folder = _folder(tmp_path / "pets")
    half = folder / "dog" / "3.png"
    half.write_bytes(half.read_bytes()[:60])
    (folder / "cat" / "0.png").write_bytes(b"not an image")
    (folder / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(Misuse) as caught:
        load(str(folder))
    message = str(caught.value)
    assert message.startswith("3 of 20 images cannot be read: replace or remove them. Received: ")
    for name in ("cat/0.png (not an image that Pillow reads)", "cat/1.png (not an image that Pillow reads)", "dog/3.png ("):
        assert name in message
    assert "\n" not in message


def test_many_unreadable_images_are_listed_in_a_file(tmp_path, cache):
    folder = _folder(tmp_path / "pets", count=30)
    for path in folder.rglob("?*.png"):
        path.write_bytes(b"")
    with pytest.raises(Misuse, match=r"^60 of 60 images .* and 40 more \(.*\.broken\.txt lists them all\), in ") as caught:
        load(str(folder))
    assert str(caught.value).count("not an image") == 20
    (listing,) = cache.glob("pets_*.broken.txt")
    assert listing.read_text().count("\n") == 60


def test_hidden_files_and_those_of_operating_systems_are_ignored(tmp_path):
    folder = _folder(tmp_path / "pets")
    plain = load(str(folder))
    assert "ignored" not in plain.about()
    beside = (".DS_Store", "._0.png", "__MACOSX/cat/._0.png")
    for name in (*beside, "cat/Thumbs.db", "cat/._0.png", "cat/.ipynb_checkpoints/0.png", "cat/@eaDir/0.png/THUMB_M.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not an image")
    (folder / "dog" / "more.png").mkdir()
    (folder / "dog" / "list.txt").write_text("text")
    for i in range(3):
        (folder / "dog" / f"{i}.HEIC").write_bytes(b"an image that Pillow does not read")
    Image.new("L", (9, 7)).save(folder / "beside.png")
    again = load(str(folder))
    assert (again.checksum, again.class_names) == (plain.checksum, ("cat", "dog"))
    assert (
        "; ignored: 3 .heic, 1 .db, 1 .txt (not read by Pillow), 3 hidden files or folders, 1 beside the class folders"
        in again.about()
    )


def test_hidden_folders_are_ignored_at_any_depth(tmp_path):
    folder = _folder(tmp_path / "pets", classes=("cat", "dog"))
    plain = load(str(folder))
    for place in (".cache", "__MACOSX/pets", "cat/a/.thumbnails", "cat/a/b/@eaDir/x", "dog/__MACOSX", "$RECYCLE.BIN"):
        (folder / place).mkdir(parents=True)
        Image.new("RGB", (9, 7)).save(folder / place / "0.png")
    again = load(str(folder))
    assert (again.checksum, again.class_names) == (plain.checksum, ("cat", "dog"))


@pytest.mark.parametrize("suffix", ["jfif", "avif", "JPG", "jp2", "tga", "qoi", "ppm", "mpo", "dib", "PCX"])
def test_images_in_other_formats_of_pillow_are_read(tmp_path, suffix):
    generator = np.random.default_rng(0)
    for i in range(10):
        path = tmp_path / "pets" / "ab"[i % 2] / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    dataset = load(str(tmp_path / "pets"))
    assert (dataset.train_size, dataset.test_size) == (8, 2)


def test_links_are_followed_and_broken_ones_named(tmp_path):
    folder, elsewhere = _folder(tmp_path / "pets"), _folder(tmp_path / "more", classes=("bird",), count=5)
    (folder / "bird").symlink_to(elsewhere / "bird")
    (folder / "cat" / "further").symlink_to(_folder(tmp_path / "far", classes=("away",), count=6) / "away")
    before = load(str(folder))
    assert before.class_names == ("bird", "cat", "dog")
    assert before.train_size + before.test_size == 31
    Image.new("L", (9, 7)).save(elsewhere / "bird" / "0.png")
    assert load(str(folder)).checksum != before.checksum
    (folder / "cat" / "loop").symlink_to(folder / "cat")
    with pytest.raises(Misuse, match=r"a link must not point to a folder that contains it: remove it.*cat/loop$"):
        load(str(folder))
    (folder / "cat" / "loop").unlink()
    (folder / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(Misuse, match=r"must be readable \(No such file or directory\).*cat/gone\.png"):
        load(str(folder))


def test_class_names_and_paths_may_hold_any_characters(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = _folder(tmp_path / "my pets, all", classes=("a, b", "Cat", "cat", "飞机"))
    assert load("~/my pets, all").class_names == ("Cat", "a, b", "cat", "飞机")
    os.rename(folder / "cat", os.fsencode(folder) + b"/d\xffg")  # in an encoding of another system
    assert load(str(folder)).class_names == ("Cat", "a, b", "d\\xffg", "飞机")
    for path in folder.rglob("*.png"):
        path.rename(path.with_suffix(".PNG"))
    assert load(str(folder)).train_size == 32


@pytest.mark.parametrize("place", ["bird", "bird.png", "cat/away", "cat/it.png"])
def test_a_link_to_itself_is_named(tmp_path, place):
    folder = _folder(tmp_path / "pets")
    (folder / place).symlink_to(folder / place)
    with pytest.raises(Misuse, match=rf"must be readable \(Too many levels of symbolic links\).*{folder / place}$"):
        load(str(folder))


def test_control_characters_in_class_names_are_escaped(tmp_path):
    line = load(str(_folder(tmp_path / "pets", classes=("a\nb", "\x1b[31mred")))).about()
    assert r"(\x1b[31mred: 10, a\nb: 10)" in line
    assert line.isprintable()


@pytest.mark.parametrize("place", ["", "cat", "cat/0.png"])
def test_files_and_folders_without_permission_are_named(tmp_path, monkeypatch, place):
    folder = _folder(tmp_path / "pets")
    closed = folder / place

    def refusing(function):
        def call(path=".", *others, **options):
            if os.fspath(path) == str(closed):
                raise PermissionError(13, "Permission denied", str(closed))
            return function(path, *others, **options)

        return call

    for name in ("listdir", "scandir"):  # not by file modes, which do not restrict root
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(pathlib.Path, "open", refusing(pathlib.Path.open))
    with pytest.raises(Misuse, match=rf"\(Permission denied\).*{folder if place.endswith('.png') else closed}$"):
        load(str(folder))


def test_split_folders_without_class_folders_are_refused(tmp_path):
    with pytest.raises(Misuse, match=r"must have one subfolder per class: .*test"):
        load(str(_folder(tmp_path / "pets", classes=("train", "test"))))


def test_a_class_that_the_test_images_lack_is_named(tmp_path):
    folder = _folder(tmp_path / "pets", parts=("train", "test"))
    (folder / "test" / "dog").rename(tmp_path / "dog")
    with pytest.raises(Misuse, match=r"1 for test.*Received: 0 in .*test/dog"):
        load(str(folder))


def test_an_error_shows_where_the_class_folders_are(tmp_path):
    inner = _folder(tmp_path / "my archive" / "flowers", classes=("rose", "tulip"))
    with pytest.raises(Misuse, match=rf"classes are in a subfolder, DATASET='{inner}'\. Received: {tmp_path / 'my archive'}$"):
        load(str(tmp_path / "my archive"))
    with pytest.raises(Misuse, match="move the images into folders named after their class"):
        load(str(inner / "rose"))
    (tmp_path / "none").mkdir()
    with pytest.raises(Misuse, match="at least two: it has 0"):
        load(str(tmp_path / "none"))
    with pytest.raises(Misuse, match="not a file"):
        load(str(inner / "rose" / "0.png"))
    with pytest.raises(Misuse, match="home folder of somebody unknown here: write the whole path"):
        load("~nobody-of-that-name/images")
    with pytest.raises(Misuse, match="does not exist"):
        load("./nowhere/images")


def test_images_beside_a_table_of_labels_are_to_be_moved(tmp_path):
    (tmp_path / "labels.csv").touch()
    _folder(tmp_path, classes=("images",))
    with pytest.raises(Misuse, match="move the images into folders named after their class"):
        load(str(tmp_path))


def test_classes_deeper_in_train_are_to_be_moved_up(tmp_path):
    _folder(tmp_path, parts=("train/seg_train", "test/seg_test"))
    message = f"at least two: move those of {tmp_path}/train/seg_train up into it. Received: {tmp_path}/train"
    with pytest.raises(Misuse, match=re.escape(message)):
        load(str(tmp_path))


@pytest.mark.parametrize(("counts", "val"), [((5, 5), [1, 1]), ((5, 5, 5), [1, 1, 1]), ((5, 120), [1, 9])])
def test_val_holds_each_class(tmp_path, counts, val):
    # Of 5 images one is for test and one for val. Of 125, a fifth is 25 and a tenth of the rest is 10.
    for name, count in zip("abc", counts, strict=False):
        _folder(tmp_path / "rare", classes=(name,), count=count)
    dataset = load(str(tmp_path / "rare"))
    for seed in range(5):
        train, validation = dataset.split(Streams(seed))
        assert np.bincount(validation.labels).tolist() == val
        assert np.bincount(train.labels)[0] == 3
        assert sorted([*train.ids, *validation.ids]) == list(range(dataset.train_size))
    assert dataset.split_sizes() == (dataset.train_size - sum(val), sum(val))


def test_too_few_classes_or_images_are_named(tmp_path):
    with pytest.raises(Misuse, match="at least two"):
        load(str(_folder(tmp_path / "one", classes=("cat",))))
    with pytest.raises(Misuse, match="at least 5 images.*Received: 3"):
        load(str(_folder(tmp_path / "few", count=3)))


# --- the test split, copies, and the line that describes a dataset ---


def _test_images(dataset):
    return {image.tobytes() for image in dataset.test().images}


def test_the_choice_of_test_images_depends_on_pixels_alone(tmp_path):
    folder = _folder(tmp_path / "pets", count=30)
    small, plain = load(str(folder), image_size=4, colour="grey"), load(str(folder), image_size=9)
    assert "the test images are a fifth of each class, chosen by a hash of their pixels" in plain.about()
    chosen = _test_images(plain)
    other = tmp_path / "renamed"
    folder.rename(other)
    for number, path in enumerate(sorted(other.rglob("*.png"), reverse=True)):
        with Image.open(path) as picture:
            picture.save(path.with_name(f"new{number}.bmp"))
        path.unlink()
    assert _test_images(load(str(other), image_size=9)) == chosen
    assert _test_images(load(str(other), image_size=4, colour="grey")) == _test_images(small)
    _folder(tmp_path / "more", classes=("cat",), count=1, size=(9, 8))
    (tmp_path / "more" / "cat" / "0.png").rename(other / "cat" / "another.png")
    assert len(_test_images(load(str(other), image_size=9)) & chosen) >= len(chosen) - 1


def test_copies_of_train_images_are_removed_from_test(tmp_path):
    folder = _folder(tmp_path / "pets", parts=("train", "test"))
    for i in range(2):
        with Image.open(folder / "train" / "cat" / f"{i}.png") as picture:
            picture.save(folder / "test" / "cat" / f"copy{i}.bmp")
    dataset = load(str(folder))
    assert (dataset.train_size, dataset.test_size) == (20, 20)
    assert (
        "2 images of test are also in train or val, and removed from test: test/cat/copy0.bmp, test/cat/copy1.bmp"
        in dataset.about()
    )
    shutil.rmtree(folder / "test")
    shutil.copytree(folder / "train", folder / "test")
    with pytest.raises(Misuse, match="test must have images that are neither in train nor in val.*test/cat/0.png"):
        load(str(folder))


def test_images_with_copies_stay_in_train_and_are_reported(tmp_path):
    folder = _folder(tmp_path / "pets")
    for i in range(8):
        shutil.copy(folder / "cat" / f"{i}.png", folder / "cat" / f"copy{i}.png")
    shutil.copy(folder / "dog" / "1.png", folder / "cat" / "dog.png")
    dataset = load(str(folder))
    known = {image.tobytes() for split in dataset.split(Streams(0)) for image in split.images}
    assert not known & _test_images(dataset)
    assert "1 images have copies of another class: cat/dog.png = dog/1.png" in dataset.about()
    assert "9 images have copies: cat/0.png, cat/1.png, cat/2.png and 6 more" in dataset.about()


def test_a_class_without_images_in_val_is_reported(tmp_path):
    folder = _folder(tmp_path / "pets", parts=("train", "val", "test"))
    shutil.rmtree(folder / "val" / "dog")
    assert "; val has no images of dog" in load(str(folder)).about()


def test_one_line_describes_the_dataset(tmp_path):
    folder = _folder(tmp_path / "pets", size=(24, 18))
    generator = np.random.default_rng(1)
    Image.fromarray(generator.integers(0, 255, (300, 400), np.uint8)).save(folder / "dog" / "large.png")
    line = load(str(folder)).about()
    assert line.startswith(
        "2 classes (cat: 10, dog: 11), 15 train, 2 val, 4 test; 64×64 rgb, resized from 24×18 … 400×300, "
        "stretched to squares (aspect ratio not kept), from 1 grey and 20 rgb images; "
    )
    assert "\n" not in line


def test_progress_of_reading_is_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(arrays, "PROGRESS_AFTER", 0)
    monkeypatch.setattr(arrays, "PROGRESS_EVERY", 0)
    load(str(_folder(tmp_path / "pets")))
    assert "pets: 7 of 20 images read" in capfd.readouterr().err


def test_images_that_change_during_a_run_end_its_trials(tmp_path):
    folder = _folder(tmp_path / "pets")
    begun = load(str(folder))
    Image.new("RGB", (9, 7), "red").save(folder / "cat" / "0.png")
    now = load(str(folder))  # another command, which writes the same cache
    assert now.checksum != begun.checksum
    for opened in (begun.test, lambda: begun.split(Streams(0))):
        with pytest.raises(Failure, match=r"the images of pets_[0-9a-f]{8} have changed since this run began: run again"):
            opened()
    shutil.rmtree(now.folder)
    with pytest.raises(Failure, match="was deleted or is being written: run again"):
        now.test()


def test_exchanged_files_of_equal_size_and_time_are_noticed(tmp_path):
    folder = _folder(tmp_path / "pets", count=0)
    for name in ("cat", "dog"):
        for i in range(10):
            path = folder / name / f"{i}.bmp"
            image = Image.new("RGB", (9, 7), (10 * i, 0, 255 * (name == "cat")))
            image.putpixel((0, 0), (255, 255, 255))
            image.save(path)
            os.utime(path, (1.7e9, 1.7e9))
    before = load(str(folder)).checksum
    (folder / "cat" / "3.bmp").rename(folder / "between")
    (folder / "dog" / "3.bmp").rename(folder / "cat" / "3.bmp")
    (folder / "between").rename(folder / "dog" / "3.bmp")
    assert load(str(folder)).checksum != before
