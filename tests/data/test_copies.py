"""Copies of a cached dataset on another machine: written whole, checked by SHA-256, and refused if they differ."""

import dataclasses
import json
import shutil

import pytest

from common.data.copies import COPIED, copy_state, write_copy
from common.errors import Failure


@pytest.fixture
def elsewhere(digits, tmp_path):
    """The dataset on a machine that does not have it yet, and the contents of the files to copy."""
    return dataclasses.replace(digits, folder=tmp_path / "cache" / "digits"), [(digits.folder / f).read_bytes() for f in COPIED]


def test_a_copy_is_what_the_other_machine_has(digits, elsewhere):
    dataset, contents = elsewhere
    assert copy_state(dataset) == "missing"
    write_copy(dataset, contents)
    assert copy_state(dataset) == "ready"
    assert (dataset.test().images == digits.test().images).all()
    before = (dataset.folder / "meta.json").stat().st_ino
    write_copy(dataset, contents)  # of another process on that machine
    assert (dataset.folder / "meta.json").stat().st_ino == before


def test_a_damaged_copy_is_written_again(elsewhere):
    dataset, contents = elsewhere
    write_copy(dataset, contents)
    (dataset.folder / "train_labels.npy").write_bytes(b"x")
    assert copy_state(dataset) == "missing"
    write_copy(dataset, contents)
    assert copy_state(dataset) == "ready"


def test_other_images_of_the_same_name_are_refused(digits, elsewhere):
    dataset, _ = elsewhere
    shutil.copytree(digits.folder, dataset.folder)
    meta = json.loads((dataset.folder / "meta.json").read_text())
    (dataset.folder / "meta.json").write_text(json.dumps(meta | {"checksum": "f" * 64}))
    wanted = f"has other images or labels of digits in {dataset.folder} (SHA-256 {'f' * 12} instead of {digits.checksum[:12]}: "
    assert copy_state(dataset) == f"{wanted}delete that folder)"


def test_what_was_damaged_on_its_way_is_refused(elsewhere):
    dataset, contents = elsewhere
    with pytest.raises(Failure, match="was damaged on its way here"):
        write_copy(dataset, [*contents[:-1], b"x"])


def test_a_copy_that_cannot_be_written_is_one_line(elsewhere, tmp_path):
    dataset, contents = elsewhere
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(Failure, match="cannot write"):
        write_copy(dataset, contents)
