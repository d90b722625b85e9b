from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from od_eval.data.images import ImageFolder, ImageNotFound, ImageUnusable, read_image, read_pixels
from od_eval.errors import ODEvalError


def decoded_by_tensorflow(encoded: bytes) -> np.ndarray:
    import tensorflow as tf

    return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()


def test_sixteen_bits_of_a_pixel_become_eight_as_in_tensorflow(tmp_path) -> None:
    values = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", (64, 48))
    assert image.pixels.dtype == np.uint8
    assert np.ptp(image.pixels) > 200
    np.testing.assert_array_equal(image.pixels, decoded_by_tensorflow(image.encoded))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "LA", "RGBA", "I;16"])
def test_png_files_are_taken_as_they_are(tmp_path, write_image, mode) -> None:
    path = write_image(tmp_path / "a.png", mode="L" if mode == "I;16" else mode)
    if mode == "I;16":
        Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20).save(path)
    image = read_image(path, (64, 48))
    assert image.encoded == path.read_bytes()
    assert (image.format, image.width, image.height, image.changes) == ("png", 64, 48, [])
    seen = Image.open(path)
    if mode == "I;16":
        seen = Image.fromarray((np.asarray(seen) >> 8).astype(np.uint8))
    np.testing.assert_array_equal(decoded_by_tensorflow(image.encoded), np.asarray(seen.convert("RGB")))


@pytest.mark.parametrize(("mode", "options"), [("RGB", {}), ("L", {}), ("RGB", {"progressive": True})])
def test_jpeg_files_are_taken_as_they_are_whatever_they_are_called(tmp_path, write_image, mode, options) -> None:
    path = write_image(tmp_path / "a.jpg", mode=mode, **options).rename(tmp_path / "a.png")
    image = read_image(path, None)
    assert image.encoded == path.read_bytes()
    assert (image.format, image.changes) == ("jpeg", [])


def test_a_jpeg_with_other_pictures_behind_it_is_taken_as_it_is(tmp_path) -> None:
    path = tmp_path / "a.jpg"
    pictures = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    pictures[0].save(path, "MPO", save_all=True, append_images=pictures[1:])
    image = read_image(path, None)
    assert (image.encoded, image.format) == (path.read_bytes(), "jpeg")
    assert decoded_by_tensorflow(image.encoded)[0, 0, 0] > 200


@pytest.mark.parametrize(
    ("name", "mode", "format"),
    [
        ("a.jpg", "CMYK", "jpeg"),
        ("a.webp", "RGB", "jpeg"),
        ("a.bmp", "RGB", "png"),
        ("a.gif", "P", "png"),
        ("a.tif", "RGB", "png"),
        ("a.tif", "CMYK", "png"),
        ("a.tif", "RGBA", "png"),
    ],
)
def test_other_files_are_encoded_anew(tmp_path, write_image, name, mode, format) -> None:
    path = write_image(tmp_path / name, mode=mode)
    image = read_image(path, None)
    assert image.format == format
    assert len(image.changes) == 1
    assert "encoded as" in image.changes[0][0]
    wanted = np.asarray(Image.open(path).convert("RGB")).astype(int)
    difference = np.abs(decoded_by_tensorflow(image.encoded) - wanted)
    assert difference.mean() < (10 if format == "jpeg" else 1e-9)


def test_sixteen_bits_are_scaled_to_eight(tmp_path) -> None:
    pixels = (np.arange(48 * 64) * 20).astype(np.uint16).reshape(48, 64)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    encoded = read_image(tmp_path / "a.tif", None).encoded
    np.testing.assert_array_equal(decoded_by_tensorflow(encoded)[..., 0], pixels >> 8)


def test_pixels_are_read_as_a_model_sees_them(tmp_path) -> None:
    pixels = (np.arange(48 * 64) * 20).astype(np.uint16).reshape(48, 64)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    expected = decoded_by_tensorflow((tmp_path / "deep.png").read_bytes())
    np.testing.assert_array_equal(read_pixels(tmp_path / "deep.png"), expected)
    colors = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(colors).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_pixels(tmp_path / "turned.png"), np.rot90(colors))
    (tmp_path / "text.png").write_bytes(b"no image")
    with pytest.raises(ImageUnusable, match=r"text\.png: no image in a format that is read here$"):
        read_pixels(tmp_path / "text.png")


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_image_that_exif_turns_is_turned_as_it_was_annotated(tmp_path, write_image, orientation) -> None:
    path = write_image(tmp_path / "a.jpg", (64, 48), orientation=orientation, quality=95)
    shown = (48, 64) if orientation >= 5 else (64, 48)
    image = read_image(path, shown)
    assert (image.width, image.height) == shown
    assert "turned upright" in image.changes[0][0]
    wanted = Image.open(path)
    wanted = wanted.transpose(
        {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_270,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90,
        }[orientation]
    )
    decoded = decoded_by_tensorflow(image.encoded).astype(int)
    assert np.abs(decoded - np.asarray(wanted)).mean() < 10
    assert not Image.open(io.BytesIO(image.encoded)).getexif().get(0x0112)


def test_an_image_annotated_as_it_is_stored_is_not_turned(tmp_path, write_image) -> None:
    path = write_image(tmp_path / "a.jpg", (64, 48), orientation=6)
    image = read_image(path, (64, 48))
    assert (image.encoded, image.width, image.height, image.changes) == (path.read_bytes(), 64, 48, [])


def test_boxes_of_a_resized_image_are_scaled(tmp_path, write_image) -> None:
    image = read_image(write_image(tmp_path / "a.jpg", (100, 75)), (333, 250))
    assert image.scale == (100 / 333, 75 / 250)
    assert [reason for reason, _ in image.changes] == ["image of another size than annotated, boxes scaled"]


def test_a_turned_and_resized_image_is_both(tmp_path, write_image) -> None:
    image = read_image(write_image(tmp_path / "a.jpg", (100, 75), orientation=6), (150, 200))
    assert (image.width, image.height, image.scale) == (75, 100, (0.5, 0.5))
    assert len(image.changes) == 2


@pytest.mark.parametrize("annotated", [(48, 64), (64, 64), (500, 333)])
def test_an_image_of_another_shape_is_unusable(tmp_path, write_image, annotated) -> None:
    with pytest.raises(ImageUnusable, match=f"64×48 pixels, annotated {annotated[0]}×{annotated[1]}"):
        read_image(write_image(tmp_path / "a.jpg", (64, 48)), annotated)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.webp", "a.tif"])
def test_a_truncated_image_is_unusable(tmp_path, write_image, name) -> None:
    path = write_image(tmp_path / name, (200, 150))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageUnusable, match=str(path)) as error:
        read_image(path, None)
    assert error.value.reason == "image unreadable"


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"])
def test_what_is_no_image_is_unusable(tmp_path, content) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageUnusable):
        read_image(tmp_path / "a.jpg", None)


def test_a_file_that_is_not_there_is_missing(tmp_path) -> None:
    with pytest.raises(ImageUnusable) as error:
        read_image(tmp_path / "a.jpg", None)
    assert error.value.reason == "image file missing"


@pytest.fixture
def folder(tmp_path) -> ImageFolder:
    for name in ("1.jpg", "Big.JPEG", "a/2.jpg", "a/3.png", "b/3.jpg", "b/3.png", "photo.v2.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "secret.jpg").touch()
    return ImageFolder(tmp_path / "images")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1.jpg", "1.jpg"),
        ("1", "1.jpg"),
        ("big.jpeg", "Big.JPEG"),
        ("BIG", "Big.JPEG"),
        ("a/2.jpg", "a/2.jpg"),
        ("a\\2.jpg", "a/2.jpg"),
        ("2.jpg", "a/2.jpg"),
        ("b/3.png", "b/3.png"),
        ("a/3", "a/3.png"),
        ("3.jpg", "b/3.jpg"),
        ("photo.v2", "photo.v2.jpg"),
        ("/home/somebody/images/1.jpg", "1.jpg"),
        ("C:\\Users\\somebody\\a\\3.png", "a/3.png"),
        ("../images/1.jpg", "1.jpg"),
    ],
)
def test_an_image_is_found_by_the_name_an_annotation_gives_it(folder, name, found) -> None:
    assert folder.find(name) == found


@pytest.mark.parametrize("name", ["", "4.jpg", "3.png", "3", "../secret.jpg", "/etc/passwd", "..", "2.png"])
def test_an_image_is_not_guessed(folder, name) -> None:
    with pytest.raises(ImageNotFound):
        folder.find(name)


def test_links_are_followed_but_not_in_circles(tmp_path) -> None:
    for path in ("elsewhere/1.jpg", "images/2.jpg"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "circle").symlink_to(tmp_path / "images")
    folder = ImageFolder(tmp_path / "images")
    assert [folder.find("1"), folder.find("2"), len(folder)] == ["linked/1.jpg", "2.jpg", 2]


def test_a_folder_without_images_is_said_so(tmp_path) -> None:
    with pytest.raises(ODEvalError, match="no image in it"):
        ImageFolder(tmp_path)
    with pytest.raises(ODEvalError, match="does not exist"):
        ImageFolder(tmp_path / "nowhere")
