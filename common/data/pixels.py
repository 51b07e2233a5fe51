"""Conversion of decoded images to 8 bits, grey or rgb, upright, opaque and of one size."""

import numpy as np

MODES = {"grey": "L", "rgb": "RGB"}
ORIENTATION, PHOTOMETRIC = 0x0112, 0x0106
"""Tags of EXIF and TIFF."""
WHITES = {"b": 1, "u1": 255, "u2": 65535}
"""NumPy type (kind, and bytes per value) -> value of white, for the types with a standard range."""
GREYS = {"L;2": 3, "L;4": 15}
"""Pillow's name of the pixels of a PNG -> value of white, for those that it scales to 8 bits."""
BACKGROUND = "white"
"""Colour on which transparent images are composited, in messages."""


def eight_bits(pixels: np.ndarray, white: float | None = None) -> np.ndarray:
    """A decoded image as uint8 [height, width, 1 or 3]: scaled to 0 … 255, transparent pixels composited on white.

    Args:
        pixels: [height, width] or [height, width, channels]: grey, grey and alpha, rgb, or rgb and alpha.
        white: value of white for types without a standard range, see `white_of`.

    Raises:
        ValueError: another number of channels, or no value of white.
    """
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(f"pixels of shape {'×'.join(map(str, pixels.shape))} are neither grey nor rgb")
    if needs_white(pixels):
        if white is None:
            raise ValueError(f"{pixels.dtype} pixels have no standard range; save it with 8 or 16 bits")
    else:
        white = WHITES.get(pixels.dtype.kind) or WHITES[f"{pixels.dtype.kind}{pixels.dtype.itemsize}"]
    if pixels.shape[-1] in (1, 3) and pixels.dtype == np.uint8:
        return pixels
    scaled = pixels * (255 / white) if white != 65535 else pixels / 257
    if pixels.shape[-1] in (2, 4):
        opacity = scaled[..., -1:] / 255
        scaled = scaled[..., :-1] * opacity + 255 * (1 - opacity)
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def needs_white(pixels: np.ndarray) -> bool:
    """Whether the pixels' type has no standard range: floats, signed and 32-bit integers."""
    return pixels.dtype.kind != "b" and f"{pixels.dtype.kind}{pixels.dtype.itemsize}" not in WHITES


def white_of(least: float, most: float, whole: bool) -> int:
    """Value of white for types without a standard range, from the extremes of a dataset's pixels.

    1 for floats up to 1; 255 for integers and other floats up to 255; 65535 for integers up to that.

    Args:
        least, most: smallest and largest pixel value of the dataset.
        whole: whether the pixels are integers.

    Raises:
        ValueError: another range, or values that are not finite.
    """
    limits = (255, 65535) if whole else (1, 255)
    white = next((limit for limit in limits if most <= limit), None)
    if not least >= 0 or white is None:  # NaN fails both comparisons
        raise ValueError(
            f"pixels from {least:g} to {most:g} have no known black and white (ranges are 0 to 1 or 255 for floats, 0 to 255 or "
            "65535 for integers); save it with 8 or 16 bits"
        )
    return white


def is_transparent(pixels: np.ndarray) -> bool:
    """Whether any pixel of a decoded image has an alpha below the maximum."""
    if pixels.ndim != 3 or pixels.shape[-1] not in (2, 4):
        return False
    return not needs_white(pixels) and bool((pixels[..., -1] < np.iinfo(pixels.dtype).max).any())


def decoded(picture) -> np.ndarray:
    """The pixels of a Pillow image, rotated according to its EXIF orientation, as `eight_bits` expects them.

    Raises:
        ValueError: a TIFF of 32-bit pixels with white at 0.
    """
    from PIL import ImageOps

    _scale_key(picture)
    sixteen, inverted = is_deep(picture), _white_is_zero(picture)
    if inverted and picture.mode in ("I", "F"):
        raise ValueError("white is 0, in pixels without a standard range; save it with 8 or 16 bits")
    picture = ImageOps.exif_transpose(picture)
    if sixteen:
        pixels, key = np.asarray(picture).astype(np.uint16), picture.info.get("transparency")
        pixels = 65535 - pixels if inverted else pixels
        if not isinstance(key, int):
            return pixels
        return np.stack([pixels, np.where(pixels == key, 0, 65535).astype(np.uint16)], axis=-1)
    if picture.mode in ("I", "F"):
        return np.asarray(picture)
    if picture.has_transparency_data:
        return np.asarray(picture.convert("LA" if picture.mode in ("1", "L", "LA", "La") else "RGBA"))
    return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def _scale_key(picture) -> None:
    """Scale the transparent colour of a PNG with 2, 4 or (rgb) 16 bits to 8 bits, as Pillow does with its pixels alone."""
    key, mode = picture.info.get("transparency"), picture.tile[0][3] if picture.format == "PNG" and picture.tile else ""
    if isinstance(key, int) and mode in GREYS:
        picture.info["transparency"] = key * 255 // GREYS[mode]
    elif isinstance(key, tuple) and mode == "RGB;16B":
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def _white_is_zero(picture) -> bool:
    """Whether white is 0 in a TIFF (PhotometricInterpretation 0), which Pillow only handles for 8 bits and fewer."""
    return picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == 0


def is_deep(picture) -> bool:
    """Whether a Pillow image has 16 bits per pixel. Pillow reads PGM files of 16 bits in the 32-bit mode I."""
    return picture.mode.startswith("I;16") or (picture.mode, picture.format) == ("I", "PPM")


def is_grey(picture) -> bool:
    """Whether the mode of a Pillow image is a grey one."""
    return picture.mode in ("1", "L", "LA", "La", "I", "F") or picture.mode.startswith("I;16")


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [height, width, …] rotated and mirrored according to an EXIF orientation, 1 … 8."""
    turns = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p),
    }
    return np.ascontiguousarray(turns[orientation](pixels)) if orientation in turns else pixels


def upright_size(picture) -> tuple[int, int]:
    """Width and height of a Pillow image after rotation according to its EXIF orientation."""
    width, height = picture.size
    # Of a TIFF, Pillow's size is that after rotation already.
    transposed = picture.format != "TIFF" and picture.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    return (height, width) if transposed else (width, height)


def resized(image: np.ndarray, image_size: int | None, colour: str | None) -> np.ndarray:
    """A uint8 image [height, width, channels], resized to a square (bilinear) and converted to a colour mode.

    Args:
        image_size: side in pixels; None for no resizing.
        colour: "grey" or "rgb"; None for no conversion.
    """
    from PIL import Image

    if image_size is None and (colour is None or (image.shape[-1] == 1) == (colour == "grey")):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if colour is not None:
        picture = picture.convert(MODES[colour])
    if image_size is not None:
        picture = picture.resize((image_size, image_size), Image.Resampling.BILINEAR)
    array = np.asarray(picture, np.uint8)
    return array[..., None] if array.ndim == 2 else array
