"""Files that somebody's bucket holds: each is an image that must be read, or must cost one row."""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from tests.fakes import encoded, plain_image


def noise(width=61, height=47, mode="RGB"):
    """A photo that does not compress."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode=None)


def chunk(kind, data):
    """One chunk of a PNG."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png_of_size(width, height):
    """A PNG whose header claims a size that its few bytes do not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


def animation(kind):
    frames = [plain_image(colour) for colour in ("red", "green", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)


def with_exif(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(noise(), kind, exif=exif)


def sound_files():
    """Unusual images that Pillow reads: name -> content."""
    palette = noise().quantize(16)
    transparent = encoded(palette, "PNG", transparency=3)
    wide = np.linspace(0, 65535, 40 * 30, dtype=np.uint16).reshape(30, 40)
    return {
        "plain.png": encoded(noise()),
        "plain.jpg": encoded(noise(), "JPEG"),
        "UPPER.JPG": encoded(noise(), "JPEG"),
        "no_ending": encoded(noise(), "JPEG"),
        "wrong_ending.png": encoded(noise(), "JPEG"),
        "wrong_ending.jpg": encoded(noise(), "PNG"),
        "100% sure #1?.png": encoded(noise()),
        "ünïcode 图.png": encoded(noise()),
        "grey.png": encoded(noise(mode="L")),
        "grey.jpg": encoded(noise(mode="L"), "JPEG"),
        "grey16.png": encoded(Image.fromarray(wide)),
        "grey16.tiff": encoded(Image.fromarray(wide), "TIFF"),
        "grey_alpha.png": encoded(noise().convert("LA")),
        "alpha.png": encoded(noise(mode="RGBA")),
        "palette.png": encoded(palette),
        "palette_transparent.png": transparent,
        "one_bit.png": encoded(noise().convert("1")),
        "int32.tiff": encoded(Image.fromarray(wide.astype(np.int32)), "TIFF"),
        "float.tiff": encoded(Image.fromarray(wide.astype(np.float32)), "TIFF"),
        "cmyk.jpg": encoded(noise().convert("CMYK"), "JPEG"),
        "cmyk.tiff": encoded(noise().convert("CMYK"), "TIFF"),
        "lab.tiff": encoded(Image.new("LAB", (20, 10), (128, 3, 5)), "TIFF"),
        "ycbcr.tiff": encoded(noise().convert("YCbCr"), "TIFF"),
        "progressive.jpg": encoded(noise(), "JPEG", progressive=True),
        "sideways.jpg": with_exif("JPEG", 6),
        "mirrored.png": with_exif("PNG", 5),
        "nonsense_orientation.jpg": with_exif("JPEG", 77),
        "broken_exif.jpg": encoded(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "broken_profile.png": encoded(noise(), icc_profile=b"no profile"),
        "trailing.jpg": encoded(noise(), "JPEG") + b"\0" * 500,
        "animation.gif": animation("GIF"),
        "animation.webp": animation("WEBP"),
        "animation.png": animation("PNG"),
        "pages.tiff": animation("TIFF"),
        "lossless.webp": encoded(noise(), "WEBP", lossless=True),
        "photo.bmp": encoded(noise(), "BMP"),
        "photo.ppm": encoded(noise(), "PPM"),
        "photo.tga": encoded(noise(), "TGA"),
        "photo.pcx": encoded(noise(), "PCX"),
        "photo.ico": encoded(noise(), "ICO"),
        "dot.png": encoded(plain_image("red", 1, 1)),
        "line.png": encoded(plain_image("red", 5000, 1)),
        "column.png": encoded(plain_image("red", 1, 5000)),
        "panorama.jpg": encoded(plain_image("red", 30_000, 400), "JPEG"),
    }


def unsound_files():
    """Files that are no image or a damaged one: name -> (content, type of the error)."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "a")
    bad_checksum = bytearray(encoded(noise()))
    bad_checksum[40] ^= 0xFF
    return {
        "empty.png": (b"", "EmptyFile"),
        "page.jpg": (b"<html>not found</html>", "NotAnImage"),
        "text.png": (b"lorem ipsum\n" * 50, "NotAnImage"),
        "zeros.jpg": (bytes(1000), "NotAnImage"),
        "archive.png": (archive.getvalue(), "NotAnImage"),
        "signature.png": (b"\x89PNG\r\n\x1a\n", "NotAnImage"),
        "vector.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "NotAnImage"),
        "cut.jpg": (encoded(noise(), "JPEG")[:700], "DamagedImage"),
        "cut.png": (encoded(noise())[:700], "DamagedImage"),
        "cut.tiff": (encoded(noise(), "TIFF")[:700], None),
        "cut.webp": (encoded(noise(), "WEBP")[:300], None),
        "cut.gif": (encoded(noise(), "GIF")[:900], "DamagedImage"),
        "cut.bmp": (encoded(noise(), "BMP")[:700], "DamagedImage"),
        "checksum.png": (bytes(bad_checksum), None),
        "hollow.png": (png_of_size(100, 100), "DamagedImage"),
        "bomb.png": (png_of_size(60_000, 60_000), "TooLarge"),
        "large.png": (png_of_size(13_000, 13_000), "TooLarge"),
    }
