"""What lies in a folder of images: its splits, classes and files, and what of it is no image."""

import functools
import hashlib
import os
import pathlib
import re
import shlex
import unicodedata
from collections import Counter
from dataclasses import dataclass

from common.data.arrays import examples
from common.errors import Misuse

FOLDER_RULES = 3
"""Number of the way in which a folder is read: caches of another are made again."""
ROLES = {"train": ("train", "training", "trn"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing", "tst")}
"""What people call the folders of a split, in any case, also with `_set` or `_images` behind it."""
BEHIND = "([-_ ]?(set|data|images|split))?"
UNDERSTOOD = re.compile(f"([a-z]+?){BEHIND}")
WORDS = "|".join(name for names in ROLES.values() for name in names)
SPLIT_LIKE = re.compile(rf"({WORDS}){BEHIND}[-_ ]?\d*")
SPLIT_WORD = re.compile(rf"(?<![a-z])({WORDS})(?![a-z])")
UNDECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF", "WMF"}
"""Formats that Pillow writes alone, knows by name alone, or needs another program for."""
SYSTEMS_OWN = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
NO_SUFFIX = "without suffix"
GATHERING = ("images", "image", "imgs", "img", "photos", "pictures", "data", "jpegimages")
"""Names of a folder that holds the images of all classes, with a table of labels beside it."""
LEAST_IMAGES = 5
"""Of a class: three to train on, one to validate on and one to test on."""


@dataclass(frozen=True)
class Folder:
    """An image folder as it was understood.

    Attributes:
        names: of the classes, sorted.
        files: per split (`train`, and `val` and `test` where they are folders of their own) and class, in the order of names.
        ignored: how many files were passed over, by what they are.
    """

    path: pathlib.Path
    names: tuple[str, ...]
    files: dict[str, list[list[pathlib.Path]]]
    ignored: Counter

    def digest(self) -> str:
        """Of all names, sizes and times: when it changes, the folder is read again. Raises `Misuse`: see `listed`."""
        lines = [f"rules {FOLDER_RULES}", *self.names, repr(sorted(self.ignored.items()))]
        for part, classes in self.files.items():
            for number, own in enumerate(classes):
                for path in own:
                    status = _tried(path.stat)
                    lines.append(f"{part} {number} {path.relative_to(self.path)} {status.st_size} {status.st_mtime_ns}")
        return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()

    def name_of(self, path: pathlib.Path) -> str:
        """A file's path in the folder, as text."""
        return os.fsencode(path.relative_to(self.path)).decode(errors="backslashreplace")


def listed(path: pathlib.Path) -> Folder:
    """Find the splits, classes and images of a folder.

    One subfolder per class, below folders for train, val and test where they are there; a class' own subfolders belong to it.
    Links are followed. Hidden files and folders, and those of a system, are passed over.

    Raises:
        Misuse: no such classes, too few images, links in a circle, something that cannot be read.
    """
    ignored = Counter()
    parts = _parts(path)
    classes = {part: _class_folders(place) for part, place in parts.items()}
    names = sorted({_name(p) for p in classes["train"]})
    if len(names) < 2:
        raise Misuse(_too_few_classes(parts["train"], classes["train"], len(parts) > 1))
    if len(parts) == 1:
        _refuse_splits_in_classes(classes["train"])
    for part, own in classes.items():
        unknown = [p.name for p in own if _name(p) not in names]
        if unknown:
            raise Misuse(
                f"{part}/ may have the classes of train/ alone ({examples(names)}): rename or remove the others. "
                f"Received: {examples(unknown)}, in {parts[part]}"
            )
    files = {
        part: [sorted(f for p in own if _name(p) == name for f in _images(p, ignored)) for name in names]
        for part, own in classes.items()
    }
    for place in {path, *parts.values()}:
        _count_beside(place, ignored)
    for part, least in (("train", LEAST_IMAGES), ("test", 1)):
        for name, own in zip(names, files.get(part, ()), strict=False):
            if len(own) < least:
                passed = f" ({described(ignored)} ignored)" if ignored else ""
                raise Misuse(
                    f"each class needs at least {LEAST_IMAGES} images to train and 1 to test: add some, or take its folder away. "
                    f"Received: {len(own)} in {parts[part] / name}{passed}"
                )
    return Folder(path, tuple(names), files, ignored)


def described(ignored: Counter) -> str:
    """What was passed over and why, the most frequent first."""
    ordered = sorted(ignored.items(), key=lambda pair: (-pair[1], pair[0]))
    unread = [f"{count} {what}" for what, count in ordered if what.startswith(".") or what == NO_SUFFIX]
    others = [f"{count} {what}" for what, count in ordered if f"{count} {what}" not in unread]
    return ", ".join([*([f"{', '.join(unread)} (not read by Pillow)"] if unread else []), *others])


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Of all files that Pillow decodes here."""
    from PIL import Image

    Image.init()
    return frozenset(s for s, kind in Image.registered_extensions().items() if kind not in UNDECODED)


def _tried(call, *arguments):
    """What a call returns that looks at files. Raises `Misuse` where it may not, or they are gone."""
    try:
        return call(*arguments)
    except OSError as error:
        raise Misuse(f"dataset folder cannot be read ({error.strerror}): mend that. Received: {error.filename}") from error


def _entries(folder: pathlib.Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return list(entries)


def _name(path: pathlib.Path) -> str:
    """A class' name: letters and their marks are joined, as macOS has them apart."""
    return unicodedata.normalize("NFC", path.name)


def _hidden(name: str) -> bool:
    """Whether a file or folder is a system's own: `.DS_Store`, `._cat.jpg`, what macOS adds to archives, thumbnails."""
    return name.startswith(".") or name in SYSTEMS_OWN


def _class_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    entries = [entry for entry in _tried(_entries, folder) if not _hidden(entry.name)]
    return sorted(pathlib.Path(entry.path) for entry in entries if _tried(entry.is_dir))


def _images(folder: pathlib.Path, ignored: Counter, above: tuple[str, ...] = ()) -> list[pathlib.Path]:
    """The images at any depth; what else is there is counted. Raises `Misuse` for a link to a folder that holds it."""
    real, found = os.path.realpath(folder), []
    if real in above:
        raise Misuse(f"a link leads back to a folder that it lies in: remove it. Received: {folder}")
    for entry in sorted(_tried(_entries, folder), key=lambda one: one.name):
        path, suffix = pathlib.Path(entry.path), pathlib.Path(entry.name).suffix.lower()
        if _hidden(entry.name):
            ignored["hidden files or folders"] += 1
        elif _tried(entry.is_dir):
            found += _images(path, ignored, (*above, real))
        elif suffix in image_suffixes() and (_tried(entry.is_file) or entry.is_symlink()):
            found.append(path)
        else:
            ignored[suffix or NO_SUFFIX] += 1
    return found


def _count_beside(folder: pathlib.Path, ignored: Counter) -> None:
    """Count the images that lie beside class folders, and have no class."""
    for entry in _tried(_entries, folder):
        if pathlib.Path(entry.name).suffix.lower() in image_suffixes() and not _hidden(entry.name) and _tried(entry.is_file):
            ignored["beside the class folders"] += 1


def _role(name: str) -> str | None:
    """The split that a folder is of, by its name."""
    own = UNDERSTOOD.fullmatch(name.lower())
    return next((role for role, names in ROLES.items() if own and own[1] in names), None)


def _parts(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folders of the splits; where there are none, the folder itself is that of train."""
    folders = _class_folders(folder)
    roles: dict[str, list[pathlib.Path]] = {}
    for place in folders:
        roles.setdefault(_role(place.name) or "", []).append(place)
    others = roles.pop("", [])
    like = [p for p in folders if SPLIT_LIKE.fullmatch(p.name.lower())]
    layout = len(roles) > 1 or any(len(_class_folders(p)) > 1 for own in roles.values() for p in own)
    remedy = "call the folders of the splits train, val and test, each with one subfolder per class"
    if (len(like) < len(folders) and not layout) or not like:
        if twins := _twins(folders):
            raise Misuse(
                f"two folders are named after splits, not after classes: {remedy}. Received: {' and '.join(twins)} in {folder}"
            )
        return {"train": folder}  # a class may be called train
    if others:
        raise Misuse(f"beside train/ there may be val/ and test/, nothing else: {remedy}. Received: {others[0]}")
    for role, own in roles.items():
        if len(own) > 1:
            raise Misuse(f"two folders are of {role}: {remedy}. Received: {own[0]} and {own[1].name}")
        if not _class_folders(own[0]):
            raise Misuse(
                "the folders of a split hold one subfolder per class: move its images into some, or take it away. "
                f"Received: {own[0]}"
            )
    if "train" not in roles:
        raise Misuse(f"there is no folder of train: {remedy}. Received: {', '.join(p.name for p in folders)} in {folder}")
    return {role: roles[role][0] for role in ROLES if role in roles}


def _twins(folders: list[pathlib.Path]) -> list[str]:
    """Two names that are the same but for their split, as in seg_train and seg_test; none where there are no two."""
    seen: dict[str, tuple[str, str]] = {}
    for place in folders:
        for word in SPLIT_WORD.finditer(place.name.lower()):
            rest = f"{place.name[: word.start()]}*{place.name[word.end() :]}".lower()
            role, other = seen.setdefault(rest, (_role(word[0]), place.name))
            if role != _role(word[0]):
                return [other, place.name]
    return []


def _refuse_splits_in_classes(classes: list[pathlib.Path]) -> None:
    """Raises `Misuse` where a class is split for itself."""
    for place in classes:
        if len({_role(p.name) for p in _class_folders(place)} - {None}) > 1:
            raise Misuse(
                f"a class holds folders of splits: turn them round, train/{place.name}/ and test/{place.name}/. Received: {place}"
            )


def _too_few_classes(folder: pathlib.Path, class_folders: list[pathlib.Path], split: bool) -> str:
    """What is wrong with a folder of fewer than two classes, which may be that of a split; and what would be right."""
    inner, below, images = folder, class_folders, Counter()
    _count_beside(folder, images)
    while len(below) == 1:
        inner, below = below[0], _class_folders(below[0])
    one = class_folders[0].name.lower() if class_folders else ""
    if below and split:
        said = f"move those of {inner} up into it"
    elif below:
        said = f"the classes lie deeper, DATASET={shlex.quote(str(inner))}"
    elif images or one in GATHERING:
        said = "move the images into folders named after their class"
    else:
        said = f"it has {len(class_folders)}"
    return f"a dataset folder needs one subfolder per class, at least two: {said}. Received: {folder}"
