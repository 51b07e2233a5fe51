"""Finds the splits, classes and image files of a folder, and counts the files that are ignored."""

import functools
import hashlib
import os
import pathlib
import re
import shlex
import unicodedata
from collections import Counter
from dataclasses import dataclass

from common.data.arrays import first_names
from common.errors import Misuse

FOLDER_RULES = 3
"""Version of the rules by which a folder is read. Raising it invalidates the caches of image folders."""
ROLES = {"train": ("train", "training", "trn"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing", "tst")}
"""Split -> usual names of its folder, in lower case; an ending of `SUFFIX` may follow."""
SUFFIX = "([-_ ]?(set|data|images|split))?"
SPLIT_NAME = re.compile(f"([a-z]+?){SUFFIX}")
WORDS = "|".join(name for names in ROLES.values() for name in names)
SPLIT_LIKE = re.compile(rf"({WORDS}){SUFFIX}[-_ ]?\d*")
SPLIT_WORD = re.compile(rf"(?<![a-z])({WORDS})(?![a-z])")
UNDECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF", "WMF"}
"""Formats that Pillow only writes, only identifies, or decodes by another program."""
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
NO_SUFFIX = "without suffix"
UNSORTED = ("images", "image", "imgs", "img", "photos", "pictures", "data", "jpegimages")
"""Usual names of a folder with the images of all classes, whose labels are in a table."""
LEAST_IMAGES = 5
"""Smallest number of images per class: three for train, one for val and one for test."""


@dataclass(frozen=True)
class Folder:
    """The image files of a folder by split and class.

    Attributes:
        names: class names, sorted.
        files: split -> a list of files for each class, in the order of `names`. `train`, and `val` and `test` if the folder has
            subfolders for them.
        ignored: suffix or kind of the ignored files -> their number.
    """

    path: pathlib.Path
    names: tuple[str, ...]
    files: dict[str, list[list[pathlib.Path]]]
    ignored: Counter

    def digest(self) -> str:
        """A hash of the files' names, sizes and times, which tells whether the cache is out of date. Raises `Misuse`.

        The time of the last change of its entry tells when files of equal size and age were exchanged.
        """
        lines = [f"rules {FOLDER_RULES}", *self.names, repr(sorted(self.ignored.items()))]
        for part, classes in self.files.items():
            for number, paths in enumerate(classes):
                for path in paths:
                    status = _readable(path.stat)
                    times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
                    lines.append(f"{part} {number} {path.relative_to(self.path)} {status.st_size} {times}")
        return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()

    def name_of(self, path: pathlib.Path) -> str:
        """A file's path relative to the folder, as printable text."""
        return os.fsencode(path.relative_to(self.path)).decode(errors="backslashreplace")


def scan(path: pathlib.Path) -> Folder:
    """Find the splits, classes and images of a folder.

    It has one subfolder per class, or such folders for train, val and test. Images of a class may be in subfolders. Links are
    followed. Hidden files and folders, and those that operating systems add, are ignored.

    Raises:
        Misuse: fewer than two classes, too few images, circular links, a file or folder that cannot be read.
    """
    ignored = Counter()
    parts = _parts(path)
    classes = {part: _class_folders(place) for part, place in parts.items()}
    names = sorted({_name(p) for p in classes["train"]})
    if len(names) < 2:
        raise Misuse(_too_few_classes(parts["train"], classes["train"], len(parts) > 1))
    if len(parts) == 1:
        _refuse_splits_in_classes(classes["train"])
    for part, folders in classes.items():
        unknown = [p.name for p in folders if _name(p) not in names]
        if unknown:
            raise Misuse(
                f"{part}/ must have no other classes than train/ ({first_names(names)}): rename or remove the others. "
                f"Received: {first_names(unknown)}, in {parts[part]}"
            )
    files = {
        part: [sorted(f for p in folders if _name(p) == name for f in _images(p, ignored)) for name in names]
        for part, folders in classes.items()
    }
    for place in {path, *parts.values()}:
        _count_beside(place, ignored)
    for part, least in (("train", LEAST_IMAGES), ("test", 1)):
        for name, images in zip(names, files.get(part, ()), strict=False):
            if len(images) < least:
                note = f" ({describe(ignored)} ignored)" if ignored else ""
                raise Misuse(
                    f"each class needs at least {LEAST_IMAGES} images for train and 1 for test: add some, or remove its folder. "
                    f"Received: {len(images)} in {parts[part] / name}{note}"
                )
    return Folder(path, tuple(names), files, ignored)


def describe(ignored: Counter) -> str:
    """The ignored files by suffix or kind with their numbers, the most frequent first."""
    ordered = sorted(ignored.items(), key=lambda pair: (-pair[1], pair[0]))
    unread = [f"{count} {what}" for what, count in ordered if what.startswith(".") or what == NO_SUFFIX]
    others = [f"{count} {what}" for what, count in ordered if f"{count} {what}" not in unread]
    return ", ".join([*([f"{', '.join(unread)} (not read by Pillow)"] if unread else []), *others])


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that Pillow decodes, in lower case."""
    from PIL import Image

    Image.init()
    return frozenset(s for s, kind in Image.registered_extensions().items() if kind not in UNDECODED)


def _readable(call, *arguments):
    """The result of a file operation. Raises `Misuse` in place of `OSError`."""
    try:
        return call(*arguments)
    except OSError as error:
        raise Misuse(
            f"all files of a dataset folder must be readable ({error.strerror}): set their permissions, or remove them. "
            f"Received: {error.filename}"
        ) from error


def _entries(folder: pathlib.Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return list(entries)


def _name(path: pathlib.Path) -> str:
    """A class' name in Unicode NFC, since macOS writes accents as separate characters."""
    return unicodedata.normalize("NFC", path.name)


def _hidden(name: str) -> bool:
    """Whether a file or folder is hidden or made by an operating system: `.DS_Store`, `__MACOSX`, folders of thumbnails, …"""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def _class_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The subfolders of a folder that are not hidden, sorted."""
    entries = [entry for entry in _readable(_entries, folder) if not _hidden(entry.name)]
    return sorted(pathlib.Path(entry.path) for entry in entries if _readable(entry.is_dir))


def _images(folder: pathlib.Path, ignored: Counter, above: tuple[str, ...] = ()) -> list[pathlib.Path]:
    """The image files in a folder and its subfolders; other files are added to `ignored`.

    Args:
        above: real paths of the folders around it, for which a link to one raises `Misuse`.
    """
    real, images = os.path.realpath(folder), []
    if real in above:
        raise Misuse(f"a link must not point to a folder that contains it: remove it. Received: {folder}")
    for entry in sorted(_readable(_entries, folder), key=lambda one: one.name):
        path, suffix = pathlib.Path(entry.path), pathlib.Path(entry.name).suffix.lower()
        if _hidden(entry.name):
            ignored["hidden files or folders"] += 1
        elif _readable(entry.is_dir):
            images += _images(path, ignored, (*above, real))
        elif suffix in image_suffixes() and (_readable(entry.is_file) or entry.is_symlink()):
            images.append(path)
        else:
            ignored[suffix or NO_SUFFIX] += 1
    return images


def _count_beside(folder: pathlib.Path, ignored: Counter) -> None:
    """Add the images directly in a folder, which belong to no class, to `ignored`."""
    for entry in _readable(_entries, folder):
        if pathlib.Path(entry.name).suffix.lower() in image_suffixes() and not _hidden(entry.name) and _readable(entry.is_file):
            ignored["beside the class folders"] += 1


def _role(name: str) -> str | None:
    """The split that a folder's name stands for, if any."""
    match = SPLIT_NAME.fullmatch(name.lower())
    return next((role for role, names in ROLES.items() if match and match[1] in names), None)


def _parts(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Split -> its folder. Without folders for splits the folder itself is train. Raises `Misuse` for an ambiguous layout."""
    folders = _class_folders(folder)
    roles: dict[str, list[pathlib.Path]] = {}
    for path in folders:
        roles.setdefault(_role(path.name) or "", []).append(path)
    others = roles.pop("", [])
    like = [p for p in folders if SPLIT_LIKE.fullmatch(p.name.lower())]
    layout = len(roles) > 1 or any(len(_class_folders(p)) > 1 for paths in roles.values() for p in paths)
    remedy = "name the folders of the splits train, val and test, each with one subfolder per class"
    if (len(like) < len(folders) and not layout) or not like:
        if pair := _differing_by_split(folders):
            raise Misuse(
                f"folders of classes must not be named after splits: {remedy}. Received: {' and '.join(pair)} in {folder}"
            )
        return {"train": folder}  # a class may be called train
    if others:
        raise Misuse(f"beside train/ only val/ and test/ are allowed: {remedy}. Received: {others[0]}")
    for role, paths in roles.items():
        if len(paths) > 1:
            raise Misuse(f"there must be one folder for {role}: {remedy}. Received: {paths[0]} and {paths[1].name}")
        if not _class_folders(paths[0]):
            raise Misuse(
                "the folder of a split must have one subfolder per class: move its images into such folders, or remove it. "
                f"Received: {paths[0]}"
            )
    if "train" not in roles:
        raise Misuse(f"there must be a folder for train: {remedy}. Received: {', '.join(p.name for p in folders)} in {folder}")
    return {role: roles[role][0] for role in ROLES if role in roles}


def _differing_by_split(folders: list[pathlib.Path]) -> list[str]:
    """Two folder names that differ in the name of a split alone, such as seg_train and seg_test; empty if there are none."""
    seen: dict[str, tuple[str, str]] = {}
    for path in folders:
        for word in SPLIT_WORD.finditer(path.name.lower()):
            rest = f"{path.name[: word.start()]}*{path.name[word.end() :]}".lower()
            role, other = seen.setdefault(rest, (_role(word[0]), path.name))
            if role != _role(word[0]):
                return [other, path.name]
    return []


def _refuse_splits_in_classes(classes: list[pathlib.Path]) -> None:
    """Raises `Misuse` if the splits are subfolders of the classes."""
    for path in classes:
        if len({_role(p.name) for p in _class_folders(path)} - {None}) > 1:
            raise Misuse(
                f"classes must be subfolders of splits, not splits of classes: move them to train/{path.name}/ and "
                f"test/{path.name}/. Received: {path}"
            )


def _too_few_classes(folder: pathlib.Path, class_folders: list[pathlib.Path], split: bool) -> str:
    """The error for a folder with fewer than two classes.

    Args:
        split: whether it is the folder of a split.
    """
    inner, below, images = folder, class_folders, Counter()
    _count_beside(folder, images)
    while len(below) == 1:
        inner, below = below[0], _class_folders(below[0])
    one = class_folders[0].name.lower() if class_folders else ""
    if below and split:
        remedy = f"move those of {inner} up into it"
    elif below:
        remedy = f"the classes are in a subfolder, DATASET={shlex.quote(str(inner))}"
    elif images or one in UNSORTED:
        remedy = "move the images into folders named after their class"
    else:
        remedy = f"it has {len(class_folders)}"
    return f"a dataset folder needs one subfolder per class, at least two: {remedy}. Received: {folder}"
