"""Measures of images, against Pillow and numpy at full size, and of photographs before and after changes."""

from __future__ import annotations

import colorsys
import hashlib
import io
import itertools
import math
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from od_eval.findings.image_measures import UnreadableImage, box_iou, in_threads, measure_image
from od_eval.findings.survey import SurveyedObject, SurveyTables, reported

# Of the photographs of tests/data/raccoon, and of all 200 in the data folder, but for the 8 pairs below.
MOST_BITS_OF_THE_SAME, LEAST_BITS_OF_OTHERS = 6, 13
TWICE_IN_THE_DATASET = [(11, 116), (83, 120), (21, 45), (50, 52), (50, 74), (51, 85), (52, 74), (65, 98)]


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    image.save(content, file_format, **options)
    return content.getvalue()


def distance(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()


def hash_of(content: bytes) -> str:
    return measure_image(content, decode=True).perceptual_hash


def photographs(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted((folder / "raccoon" / "images").iterdir())}


def anew(content: bytes) -> bytes:
    """Half as wide and high, as a JPEG of quality 50."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return encoded(image.resize((image.width // 2, image.height // 2)), "JPEG", quality=50)


def assert_hashes_tell_photographs_apart(contents: dict[str, bytes], known_pairs=()) -> None:
    hashes = {name: hash_of(content) for name, content in contents.items()}
    assert max(distance(hashes[name], hash_of(anew(content))) for name, content in contents.items()) <= (
        MOST_BITS_OF_THE_SAME
    )
    others = {frozenset(pair): distance(hashes[pair[0]], hashes[pair[1]]) for pair in itertools.combinations(hashes, 2)}
    known = {frozenset(f"raccoon-{number}" for number in pair) for pair in known_pairs}
    assert {pair for pair, bits in others.items() if bits < LEAST_BITS_OF_OTHERS} == known


def test_a_photograph_made_smaller_and_encoded_anew_keeps_its_hash_and_others_have_another(excerpt):
    assert_hashes_tell_photographs_apart(photographs(excerpt))


def test_so_it_is_with_all_photographs_but_for_those_that_are_twice_in_the_dataset(shared_data):
    assert_hashes_tell_photographs_apart(photographs(shared_data), TWICE_IN_THE_DATASET)


def test_a_photograph_made_smaller_keeps_its_brightness_and_contrast(excerpt):
    for content in photographs(excerpt).values():
        first, second = (measure_image(one, decode=True) for one in (content, anew(content)))
        assert first.brightness == pytest.approx(second.brightness, abs=0.01)
        assert first.contrast == pytest.approx(second.contrast, abs=0.01)


def test_measures_are_those_of_the_pixels():
    # Blocks of 4×4 pixels, which reducing it to 64×64 does not mix.
    blocks = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = encoded(Image.fromarray(np.kron(blocks, np.ones((4, 4, 1), np.uint8))))
    measures = measure_image(content, decode=True)
    luma = np.asarray(Image.fromarray(blocks).convert("L")) / 255
    saturation = [colorsys.rgb_to_hsv(*(pixel / 255))[1] for pixel in blocks.reshape(-1, 3)]
    assert measures[:4] == (256, 256, "RGB", hashlib.sha256(content).hexdigest()[:32])
    assert measures.brightness == pytest.approx(luma.mean(), abs=0.002)  # Pillow rounds luma to 8 bits
    assert measures.contrast == pytest.approx(luma.std(), abs=0.002)
    assert measures.saturation == pytest.approx(np.mean(saturation))


def test_the_hash_is_of_the_lowest_frequencies():
    dctn = pytest.importorskip("scipy.fft").dctn
    blocks = np.random.default_rng(1).integers(0, 256, (32, 32), np.uint8)
    lowest = dctn(blocks.astype(float))[:8, :8]
    bits = "".join("1" if value > np.median(lowest) else "0" for value in lowest.ravel())
    assert hash_of(encoded(Image.fromarray(np.kron(blocks, np.ones((2, 2), np.uint8))))) == f"{int(bits, 2):016x}"


def test_without_decoding_only_the_header_is_read():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    measures = measure_image(encoded(image, "JPEG")[:700])
    assert measures[:3] == (60, 40, "RGB")
    assert measures.perceptual_hash == ""
    assert math.isnan(measures.brightness)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "CMYK", "I;16"])
def test_images_of_all_modes_are_measured_alike(mode):
    gray = np.full((20, 30), 255, np.uint8)
    gray[:, :15] = 0
    image = Image.fromarray(gray.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(gray).convert(mode)
    measures = measure_image(encoded(image, "JPEG" if mode == "CMYK" else "PNG"), decode=True)
    assert measures.mode == mode
    assert measures.brightness == pytest.approx(0.5, abs=0.05)
    assert measures.contrast == pytest.approx(0.5, abs=0.05)
    assert measures.saturation == pytest.approx(0, abs=0.01)


def test_an_image_whose_range_is_unknown_has_no_brightness():
    measures = measure_image(encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"), decode=True)
    assert measures.mode == "F"
    assert math.isnan(measures.brightness)
    assert measures.perceptual_hash == ""


def test_an_image_is_turned_upright_where_asked_for():
    pixels = np.kron(np.random.default_rng(3).integers(0, 256, (4, 6, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    content = encoded(Image.fromarray(pixels), exif=exif)
    upright = encoded(Image.fromarray(np.rot90(pixels, -1)))
    assert measure_image(content)[:2] == (60, 40)
    assert measure_image(content, upright=True)[:2] == (40, 60)
    turned = measure_image(content, decode=True, upright=True).perceptual_hash
    assert turned == hash_of(upright) != hash_of(content)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_is_said_so(content, decode):
    with pytest.raises(UnreadableImage):
        measure_image(content, decode=decode)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_a_file_that_ends_early_is_found_when_it_is_decoded(file_format):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    content = encoded(image, file_format)[:-2000]
    measure_image(content)
    with pytest.raises(UnreadableImage):
        measure_image(content, decode=True)


@pytest.mark.parametrize(
    ("second", "iou"), [((0, 0, 1, 1), 0.25), ((0.5, 0.5, 1, 1), 1), ((0, 0, 0.5, 0.5), 0), ((0.2, 0.2, 0.2, 0.2), 0)]
)
def test_the_iou_of_two_boxes(second, iou):
    assert box_iou((0.5, 0.5, 1, 1), second) == pytest.approx(iou)


def test_two_boxes_without_area_have_nothing_in_common():
    assert box_iou((0.1, 0.1, 0.1, 0.1), (0.1, 0.1, 0.1, 0.1)) == 0


def test_results_of_threads_are_in_order_and_items_are_read_only_a_little_ahead():
    taken = []
    threads = set()

    def slow_at_first(item: int) -> int:
        threads.add(threading.get_ident())
        time.sleep(0.02 if item < 20 else 0)
        return item

    results = in_threads(slow_at_first, (taken.append(item) or item for item in range(2000)), 3)
    assert next(results) == 0
    assert len(taken) < 300
    assert list(results) == list(range(1, 2000))
    assert len(threads) > 1


def test_an_error_in_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda item: 1 // item, [2, 1, 0]))


def test_tables_have_their_columns_and_types_with_and_without_rows():
    empty, full = SurveyTables(), SurveyTables()
    content = encoded(Image.new("RGB", (8, 8)))
    full.add("a", "a.png", measure_image(content), [])
    full.add("b", "b.png", measure_image(content, decode=True), [SurveyedObject(2, 0, 0, 1, 1, True, False, math.nan)])
    pd.testing.assert_series_equal(empty.images().dtypes, full.images().dtypes)
    pd.testing.assert_series_equal(empty.objects().dtypes, full.objects().dtypes)
    assert full.objects()["image"].tolist() == [1]
    assert full.images()["name"].tolist() == ["a.png", "b.png"]


def test_progress_is_told_twice_a_second_and_at_the_end(monkeypatch):
    now = iter(0.1 * number for number in itertools.count())
    monkeypatch.setattr("od_eval.findings.survey.time.monotonic", lambda: next(now))
    told = []
    assert list(reported(range(20), lambda done, total: told.append((done, total)), 20)) == list(range(20))
    assert 2 <= len(told) <= 5
    assert told[-1] == (20, 20)
