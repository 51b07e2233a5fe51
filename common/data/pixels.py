"""What a decoded image becomes, from whatever source: 8 bits, grey or rgb, upright, opaque, and of one size."""

import numpy as np

MODES = {"grey": "L", "rgb": "RGB"}
ORIENTATION, PHOTOMETRIC = 0x0112, 0x0106
"""Tags of EXIF and TIFF."""
WHITES = {"b": 1, "u1": 255, "u2": 65535}
"""The value of white in pixels whose type says it, by kind and bytes."""
GROUND = "white"
"""What transparent images are laid on."""


def eight_bits(pixels: np.ndarray, white: float | None = None) -> np.ndarray:
    """A decoded image as uint8 [height, width, 1 or 3]: scaled by its range, and laid on white where it is transparent.

    Args:
        pixels: [height, width] or [height, width, channels]: grey, grey and alpha, rgb, or rgb and alpha.
        white: what white is in numbers whose type does not say it: see `white_of`.

    Raises:
        ValueError: pixels that cannot be mapped, and why.
    """
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(f"pixels of shape {'×'.join(map(str, pixels.shape))} are neither grey nor rgb")
    if needs_white(pixels):
        if white is None:
            raise ValueError(f"{pixels.dtype} pixels have no range of their own; save it with 8 or 16 bits")
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
    """Whether the type of some pixels does not say what white is: floats, signed or 32-bit numbers."""
    return pixels.dtype.kind != "b" and f"{pixels.dtype.kind}{pixels.dtype.itemsize}" not in WHITES


def white_of(least: float, most: float, whole: bool) -> int:
    """What white is in numbers without a range of their own, from the least and the most of all images of a dataset.

    Floats up to 1 have white at 1; whole numbers, and floats above 1, up to 255 at 255; whole numbers up to 65535 there.

    Raises:
        ValueError: numbers of any other range.
    """
    limits = (255, 65535) if whole else (1, 255)
    white = next((limit for limit in limits if most <= limit), None)
    if not least >= 0 or white is None:  # also where one of them is no number
        raise ValueError(
            f"pixels from {least:g} to {most:g} have no known black and white (floats reach from 0 to 1 or to 255, whole numbers "
            "to 255 or 65535); save it with 8 or 16 bits"
        )
    return white


def is_transparent(pixels: np.ndarray) -> bool:
    """Whether a decoded image lets its ground through anywhere."""
    if pixels.ndim != 3 or pixels.shape[-1] not in (2, 4):
        return False
    return not needs_white(pixels) and bool((pixels[..., -1] < np.iinfo(pixels.dtype).max).any())


def decoded(picture) -> np.ndarray:
    """The pixels of a Pillow image, upright as its EXIF data say, in a form that `eight_bits` takes. Raises `ValueError`."""
    from PIL import ImageOps

    sixteen, inverted = is_deep(picture), _white_is_zero(picture)
    if inverted and picture.mode in ("I", "F"):
        raise ValueError("white is 0, in pixels without a range of their own; save it with 8 or 16 bits")
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


def _white_is_zero(picture) -> bool:
    """Whether a TIFF says that its white is 0, which Pillow knows of 8 bits and fewer alone."""
    return picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == 0


def is_deep(picture) -> bool:
    """Whether a Pillow image has 16 bits a pixel; it reads those of a PGM into 32."""
    return picture.mode.startswith("I;16") or (picture.mode, picture.format) == ("I", "PPM")


def is_grey(picture) -> bool:
    """Whether a Pillow image has no colours, as its mode says."""
    return picture.mode in ("1", "L", "LA", "La", "I", "F") or picture.mode.startswith("I;16")


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [height, width, …] turned as an EXIF orientation says."""
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
    """Width and height of a Pillow image once it is turned as its EXIF data say."""
    width, height = picture.size
    across = picture.format != "TIFF" and picture.getexif().get(ORIENTATION) in (
        5,
        6,
        7,
        8,
    )  # of a TIFF Pillow says the turned one
    return (height, width) if across else (width, height)


def fit(image: np.ndarray, image_size: int | None, colour: str | None) -> np.ndarray:
    """One uint8 image [h, w, c], resized (bilinear) to a square and recoloured where asked."""
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
