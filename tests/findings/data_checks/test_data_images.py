"""Images that are empty, repeated, of another kind or of an unsuitable size are found; what is usual is not."""

import numpy as np
import pytest

from made_surveys import facts, survey
from od_eval.findings.data_checks import images

BOX = (0.2, 0.2, 0.6, 0.6)


def found(check, of, config=None):
    return list(check(of, config))


def with_objects(number, of=None, **columns):
    """The first ones of so many images have an object."""
    return survey([(row, 1, *BOX) for row in range(number)], images=of or number, **columns)


def test_many_images_without_objects_are_found_in_training_data_only():
    (finding,) = found(images.images_without_objects, with_objects(4, of=10))
    assert "6 of 10 images (60%) have no objects" in str(finding)
    assert finding.images[0] == "train_input_reader image 4"
    assert not found(images.images_without_objects, with_objects(5, of=10))
    assert not found(images.images_without_objects, with_objects(4, of=10, name="eval_input_reader[0]"))


def test_training_data_without_background_images_are_a_note():
    (finding,) = found(images.no_background_images, with_objects(100))
    assert finding.severity == "note"
    assert str(finding).startswith("train_input_reader: all 100 images have objects")
    assert not found(images.no_background_images, with_objects(100, of=101))
    assert not found(images.no_background_images, with_objects(99))
    assert not found(images.no_background_images, with_objects(100, name="eval_input_reader[0]"))


def test_images_of_16_bits_are_found():
    (finding,) = found(images.images_of_more_than_8_bits, with_objects(3, mode=["RGB", "I;16", "L"]))
    assert "1 of 3 images (33.3%) has more than 8 bits for a value (mode I;16)" in str(finding)
    assert finding.images == ["train_input_reader image 1"]
    assert not found(images.images_of_more_than_8_bits, with_objects(3, mode=["RGB", "", "L"]))


def test_gray_images_among_color_are_found_with_an_augmentation():
    mixed = with_objects(100, mode=["L"] * 5 + ["RGB"] * 95)
    (finding,) = found(images.mixed_image_modes, mixed, facts())
    assert "5 of 100 images (5%) are gray" in str(finding)
    assert finding.settings == ("train_config { data_augmentation_options { random_rgb_to_gray {} } }",)
    (finding,) = found(images.mixed_image_modes, mixed, facts(augmentations=("random_rgb_to_gray",)))
    assert not finding.settings


@pytest.mark.parametrize("mode", [["L"] * 200, ["RGB"] * 200, ["L"] + ["RGB"] * 199, [""] * 200])
def test_images_of_one_mode_and_a_single_gray_one_are_not_mixed(mode):
    assert not found(images.mixed_image_modes, with_objects(200, mode=mode))


def test_transparent_images_and_those_for_printing_are_a_note():
    (finding,) = found(images.unusual_image_modes, with_objects(4, mode=["RGBA", "CMYK", "RGB", "RGBA"]))
    assert finding.severity == "note"
    assert finding.evidence == {"RGBA": 2, "CMYK": 1}
    assert not found(images.unusual_image_modes, with_objects(2, mode=["P", "L"]))


def test_the_same_file_several_times_does_no_harm_without_labels():
    twice = survey(images=20, digest=["a"] * 20, categories={}, name="deployment_images")
    assert not list(images.same_image_several_times(twice, None))


def test_the_same_file_several_times_is_found():
    (finding,) = found(images.same_image_several_times, with_objects(5, digest=["a", "b", "a", "", "a"]))
    assert finding.evidence == {"images": 2, "of": 5}
    assert finding.images == ["train_input_reader image 2", "train_input_reader image 4"]
    assert not found(images.same_image_several_times, with_objects(4, digest=["a", "b", "", ""]))


def hashes(scenes, frames, flipped=2, seed=0):
    """Hexadecimal hashes of frames of scenes; in each frame some bits are flipped."""
    rng = np.random.default_rng(seed)
    made = []
    for scene in rng.integers(0, 2**63, scenes).tolist():
        for _ in range(frames):
            made.append(f"{scene ^ sum(1 << bit for bit in rng.choice(64, flipped, replace=False).tolist()):016x}")
    return made


def test_frames_of_videos_are_found_as_similar_images():
    (finding,) = found(images.similar_images, with_objects(200, perceptual_hash=hashes(20, 10)))
    assert finding.severity == "note"
    assert finding.evidence["images"] == 200
    assert "look like another one" in str(finding)


def test_different_photographs_plain_images_and_copies_of_files_are_not_similar_images():
    assert not found(images.similar_images, with_objects(200, perceptual_hash=hashes(200, 1)))
    assert not found(images.similar_images, with_objects(200, perceptual_hash=hashes(20, 10), contrast=0.0))
    copies = with_objects(200, perceptual_hash=hashes(100, 1) * 2, digest=[str(row % 100) for row in range(200)])
    assert not found(images.similar_images, copies)


def test_images_of_very_different_sizes_are_found():
    (finding,) = found(
        images.image_sizes_differ_strongly,
        with_objects(20, width=[200] * 10 + [1600] * 10, height=[100] * 10 + [800] * 10),
    )
    assert "200x100 to 1600x800 pixels" in str(finding)
    assert finding.evidence["factor"] == pytest.approx(8)


def test_usual_sizes_and_one_outlier_are_not_found():
    widths = [640] * 10 + [1920] * 89 + [10]
    assert not found(images.image_sizes_differ_strongly, with_objects(100, width=widths, height=widths))
    assert not found(images.image_sizes_differ_strongly, with_objects(3, width=0, height=0))


def test_images_that_are_enlarged_a_lot_are_found():
    small = with_objects(4, width=[100, 100, 150, 640], height=[100, 100, 160, 480])
    (finding,) = found(images.images_smaller_than_the_input, small, facts())
    assert finding.evidence == {"images": 3, "of": 4, "median_factor": pytest.approx((3.2 + 2) / 2)}
    assert not found(images.images_smaller_than_the_input, with_objects(4, width=200, height=170), facts())
    assert not found(images.images_smaller_than_the_input, small)


def test_images_that_a_fixed_shape_stretches_are_found_with_a_resizer_that_does_not():
    wide = with_objects(4, width=[1000, 1000, 1000, 640], height=[400, 400, 400, 480])
    (finding,) = found(images.stretched_images, wide, facts())
    assert finding.severity == "warning"
    assert "3 of 4 images (75%) are stretched 2 times or more by resizing them to 320x320" in str(finding)
    assert finding.settings == (
        "model.ssd.image_resizer={keep_aspect_ratio_resizer {min_dimension: 320 max_dimension: 320"
        " pad_to_max_dimension: true}}",
    )
    assert finding.images == [f"train_input_reader image {row}" for row in range(3)]


def test_the_usual_formats_and_resizers_that_keep_the_aspect_ratio_stretch_nothing():
    assert not found(images.stretched_images, with_objects(4, width=1920, height=1080), facts())
    assert not found(images.stretched_images, with_objects(4, width=480, height=640), facts())
    wide = with_objects(4, width=1000, height=400)
    assert not found(images.stretched_images, wide, facts(resize_range=(320, 320)))
    assert not found(images.stretched_images, wide, facts(input_width=800, input_height=320))


def test_labels_without_any_object_are_an_error_and_images_without_labels_are_not():
    (finding,) = found(images.no_objects, survey(images=7))
    assert finding.severity == "error"
    assert "none of the 7 images has an object" in str(finding)
    assert not found(images.no_objects, survey(images=7, categories={}, name="deployment_images"))
    assert not found(images.no_objects, with_objects(1, of=7))


def test_images_without_labels_and_without_rows_pass_all_checks():
    for check in (value for value in vars(images).values() if hasattr(value, "looks_at")):
        assert not found(check, survey(images=5, categories={}, name="deployment_images"), facts())
        assert not found(check, survey(images=0), facts())
