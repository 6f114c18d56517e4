import io
import struct
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from pipelines.images import ImageError, decode
from sed.photo import to_8_bit
from sed.shortest_edge import resize_shortest_edge
from tests.fakes import encoded, halves, plain_image


def decoded(image, kind="PNG", **options):
    """Decode a file of an image whose size is not changed by that."""
    side = min(image.size)
    return decode(encoded(image, kind, **options), short_side=side, long_side=10 * side)


def gradient(width, height):
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_formats_without_loss_give_the_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = halves("red", "blue")
    np.testing.assert_array_equal(decoded(image, kind, **options).pixels_HW3, np.array(image))


def test_the_image_is_resized_and_its_size_kept():
    photo = decode(encoded(gradient(300, 200)), short_side=50, long_side=200)
    assert photo.pixels_HW3.shape == (50, 75, 3)
    assert (photo.width, photo.height) == (300, 200)
    expected = np.array(resize_shortest_edge(gradient(300, 200), 50, 200))
    np.testing.assert_array_equal(photo.pixels_HW3, expected)


def test_transparent_pixels_become_white():
    image = Image.new("RGBA", (4, 2), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    pixels = decoded(image).pixels_HW3
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1].tolist() == [127, 127, 127]
    assert pixels[1, 3].tolist() == [255, 0, 0]


def test_a_palette_is_looked_up_and_its_transparent_entry_becomes_white():
    image = Image.new("P", (4, 2), 1)
    image.putpalette([9, 9, 9, 0, 0, 255])
    image.putpixel((0, 0), 0)
    assert decoded(image).pixels_HW3[:, :, 2].tolist() == [[9, 255, 255, 255], [255] * 4]
    assert decoded(image, transparency=0).pixels_HW3[0, 0].tolist() == [255, 255, 255]


def test_grey_with_alpha_and_black_and_white_become_rgb():
    assert decoded(Image.new("LA", (2, 2), (100, 255))).pixels_HW3.tolist() == [[[100] * 3] * 2] * 2
    assert decoded(Image.new("1", (2, 2), 1)).pixels_HW3.min() == 255
    assert decoded(Image.new("L", (2, 2), 7)).pixels_HW3.max() == 7


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    values = np.array([[0, 257 * 10], [257 * 128, 65535]], dtype=np.uint16)
    pixels = decoded(Image.fromarray(values), kind).pixels_HW3
    assert pixels[:, :, 0].tolist() == [[0, 10], [128, 255]]
    assert (pixels == pixels[:, :, :1]).all()


def test_32_bit_integers_are_scaled():
    usual = np.array([[0, 65535], [257 * 3, 0]], dtype=np.int32)
    assert decoded(Image.fromarray(usual), "TIFF").pixels_HW3[:, :, 0].tolist() == [
        [0, 255],
        [3, 0],
    ]
    large = np.array([[0, 2**20], [2**19, -5]], dtype=np.int32)
    scaled = decoded(Image.fromarray(large), "TIFF").pixels_HW3[:, :, 0]
    assert scaled.tolist() == [[0, 255], [128, 0]]


def test_floats_are_scaled_by_their_range():
    unit = np.array([[0, 0.5], [1, np.nan]], dtype=np.float32)
    assert decoded(Image.fromarray(unit), "TIFF").pixels_HW3[:, :, 0].tolist() == [
        [0, 128],
        [255, 0],
    ]
    bytes_like = np.array([[0, 10], [200, 7]], dtype=np.float32)
    pixels = decoded(Image.fromarray(bytes_like), "TIFF").pixels_HW3[:, :, 0]
    assert pixels.tolist() == [[0, 10], [200, 7]]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_scaling_a_large_grey_image_takes_little_more_than_its_pixels(dtype):
    ramp_HW = np.arange(2000 * 1000).reshape(2000, 1000) % 60_000
    grey_HW = ramp_HW.astype(dtype)
    tracemalloc.start()
    eight_bit_HW = to_8_bit(grey_HW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * eight_bit_HW.nbytes
    white = 65535 if dtype is np.uint16 else 59_999
    np.testing.assert_array_equal(eight_bit_HW, (ramp_HW * (255 / white) + 0.5).astype(np.uint8))


def test_a_tall_transparent_photo_is_laid_on_white_everywhere():
    pixels_HW4 = np.random.default_rng(0).integers(0, 256, (150, 40, 4), dtype=np.uint8)
    alpha_HW1 = pixels_HW4[:, :, 3:] / 255
    expected_HW3 = pixels_HW4[:, :, :3] * alpha_HW1 + 255 * (1 - alpha_HW1)
    found_HW3 = decoded(Image.fromarray(pixels_HW4)).pixels_HW3
    assert found_HW3.shape == (150, 40, 3)
    assert abs(found_HW3 - expected_HW3).max() <= 1


def test_cmyk_jpegs_have_their_colours():
    image = plain_image((200, 30, 40)).convert("CMYK")
    pixels = decoded(image, "JPEG", quality=95).pixels_HW3.astype(int)
    assert abs(pixels - np.array([200, 30, 40])).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_photos_are_turned_upright(kind, orientation):
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste((255, 255, 255), (0, 0, 16, 16))  # white marks the upper left corner
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decoded(stored, kind, exif=exif)
    assert (photo.width, photo.height) == (48, 32)
    assert photo.pixels_HW3.shape == (32, 48, 3)
    difference = abs(photo.pixels_HW3.astype(int) - np.array(upright))
    assert difference[2:14, 2:14].max() < 30
    assert difference[20:, 20:].max() < 30


def test_broken_exif_does_not_lose_the_photo():
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\xff\xff\xff\xff"
    assert decoded(plain_image("red"), "JPEG", exif=exif).width == 40


def test_a_large_jpeg_is_reduced_while_it_is_decoded_and_looks_the_same(monkeypatch):
    image = gradient(1600, 1200)
    data = encoded(image, "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as plain:
        expected = np.array(resize_shortest_edge(plain.convert("RGB"), 100, 1000)).astype(int)
    sizes = []
    monkeypatch.setattr(
        "pipelines.images.to_rgb", lambda image: sizes.append(image.size) or image.convert("RGB")
    )
    photo = decode(data, short_side=100, long_side=1000)
    assert sizes == [(400, 300)]  # a quarter: an eighth would be less than twice what is needed
    assert (photo.width, photo.height) == (1600, 1200)
    assert abs(photo.pixels_HW3 - expected).mean() < 2


def test_of_an_animation_the_first_frame_counts():
    frames = [plain_image("red"), plain_image("blue")]
    photo = decoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert photo.pixels_HW3[0, 0].tolist() == [255, 0, 0]


def test_a_line_of_one_pixel_is_no_error():
    photo = decode(encoded(plain_image("red", 3000, 1)), short_side=64, long_side=256)
    assert photo.pixels_HW3.shape == (1, 256, 3)
    assert (photo.width, photo.height) == (3000, 1)


def error_of(data, **limits):
    with pytest.raises(ImageError) as caught:
        decode(data, short_side=32, long_side=64, **limits)
    return caught.value


def test_an_empty_file_is_named():
    assert error_of(b"").kind == "EmptyFile"


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_files_that_only_claim_to_be_images_are_named(data):
    assert error_of(data).kind in ("NotAnImage", "DamagedImage")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_truncated_files_are_errors(kind):
    data = encoded(gradient(200, 150), kind)
    error = error_of(data[: len(data) // 2])
    assert error.kind in ("DamagedImage", "NotAnImage")
    assert str(error)


def test_a_flipped_byte_never_raises_anything_else():
    generator = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP"):
        data = encoded(gradient(40, 30), kind)
        for _ in range(60):
            broken = bytearray(data)
            for position in generator.integers(0, len(data), 4):
                broken[position] = generator.integers(256)
            with suppress(ImageError):
                decode(bytes(broken), short_side=32, long_side=64)


def test_too_many_pixels_are_refused_before_they_are_decoded():
    error = error_of(encoded(plain_image("red", 200, 100)), max_pixels=10_000)
    assert error.kind == "TooLarge"
    assert "200 x 100" in str(error)


def test_a_decompression_bomb_is_refused():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = encoded(plain_image("red"))
    start = data.index(b"IHDR")
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = data[: start + 4] + header + crc + data[start + 4 + len(header) + 4 :]
    assert error_of(bomb).kind == "TooLarge"
