"""Images that two datasets share are found, and photographs that are only like each other are not."""

import time

import numpy as np
import pytest

from made_surveys import random_survey, survey
from od_eval.findings.data_checks import leakage
from od_eval.findings.similar_images import MOST_DIFFERENT_BITS, similar, similar_to_another

BOX = (0.2, 0.2, 0.6, 0.6)
EVAL = "eval_input_reader[0]"


def found(check, *surveys):
    return list(check(*surveys, None))


def made(values, column, **columns):
    return survey([(row, 1, *BOX) for row in range(len(values))], **{column: values}, **columns)


def hashes(seed, number):
    return np.random.default_rng(seed).integers(0, 2**64, number, dtype=np.uint64)


def flipped(values, bits, seed=0):
    """The hashes with exactly so many bits flipped."""
    rng = np.random.default_rng(seed)
    masks = [sum(1 << bit for bit in rng.choice(64, bits, replace=False).tolist()) for _ in values]
    return values ^ np.array(masks, np.uint64)


def texts(values):
    return [f"{value:016x}" for value in values.tolist()]


def test_the_same_files_are_found_with_their_partners():
    train = made([f"t{row}" for row in range(100)], "digest")
    (finding,) = found(leakage.images_in_common, train, made(["a", "t7", "", "t9", "t3"], "digest", name=EVAL))
    assert (finding.severity, finding.sureness) == ("error", "certain")
    assert str(finding).startswith(
        f"{EVAL}: 3 of 5 images (60%) are also in train_input_reader (the same files; 3 of 100 there), for example"
        f" {EVAL} image 1 and train_input_reader image 7, so that the score is too good; remove them"
    )
    assert finding.evidence["pairs"] == [
        ["train_input_reader image 7", f"{EVAL} image 1"],
        ["train_input_reader image 9", f"{EVAL} image 3"],
        ["train_input_reader image 3", f"{EVAL} image 4"],
    ]


@pytest.mark.parametrize(
    ("common", "others", "severity"),
    [(3, 57, "error"), (3, 58, "warning"), (2, 2, "warning"), (1, 39, "warning"), (1, 200, "warning")],
)
def test_common_files_are_an_error_from_three_of_them_that_are_5_percent(common, others, severity):
    train = made([f"t{row}" for row in range(100)], "digest")
    values = [f"t{row}" for row in range(common)] + [f"e{row}" for row in range(others)]
    (finding,) = found(leakage.images_in_common, train, made(values, "digest", name=EVAL))
    assert finding.severity == severity


def test_unknown_files_are_not_in_common():
    assert not found(leakage.images_in_common, made(["a", ""], "digest"), made(["c", "", ""], "digest", name=EVAL))


def test_evaluation_on_what_is_trained_on_is_a_finding_of_its_own():
    train, same = made(["a", "b", "b"], "digest"), made(["b", "a"], "digest", name=EVAL)
    (finding,) = found(leakage.same_files_for_training_and_evaluation, train, same)
    assert str(finding).startswith(
        f"{EVAL}: all 2 images are those of train_input_reader, so that its AP says how well the images are remembered"
    )
    assert (finding.severity, finding.field) == ("warning", f"{EVAL}.tf_record_input_reader.input_path")
    assert not found(leakage.images_in_common, train, same)
    (alone,) = found(leakage.same_files_for_training_and_evaluation, made(["a"], "digest"), made(["a"], "digest"))
    assert "the only image is that of train_input_reader" in str(alone)


@pytest.mark.parametrize("values", [["a"], ["a", "b", "c"], ["a", "b", ""]])
def test_a_part_of_what_is_trained_on_or_more_are_images_in_common(values):
    train, other = made(["a", "b"], "digest"), made(values, "digest", name=EVAL)
    assert not found(leakage.same_files_for_training_and_evaluation, train, other)
    assert len(found(leakage.images_in_common, train, other)) == 1


def test_images_without_any_known_file_are_not_the_same():
    nothing = made(["", ""], "digest")
    assert not found(leakage.same_files_for_training_and_evaluation, nothing, made(["", ""], "digest", name=EVAL))


def test_images_of_deployment_that_are_trained_on_are_a_note():
    other = survey(images=2, digest=["a", "c"], categories={}, name="deployment_images")
    (finding,) = found(leakage.images_in_common, made(["a", "b"], "digest"), other)
    assert finding.severity == "note"
    assert "score" not in str(finding)
    same = survey(images=2, digest=["a", "b"], categories={}, name="deployment_images")
    assert not found(leakage.same_files_for_training_and_evaluation, made(["a", "b"], "digest"), same)
    assert len(found(leakage.images_in_common, made(["a", "b"], "digest"), same)) == 1


def test_images_that_were_encoded_anew_are_found():
    values = hashes(0, 300)
    other = np.concatenate([flipped(values[:10], MOST_DIFFERENT_BITS), hashes(1, 90)])
    (finding,) = found(
        leakage.similar_images_in_common,
        made(texts(values), "perceptual_hash"),
        made(texts(other), "perceptual_hash", name=EVAL),
    )
    assert (finding.kind, finding.severity, finding.sureness) == ("similar_images_in_common", "warning", "likely")
    assert finding.evidence["images"] == 10
    assert finding.images == [f"{EVAL} image {row}" for row in range(10)]


def test_different_photographs_are_not_found():
    values = hashes(0, 300)
    near = flipped(values[:100], MOST_DIFFERENT_BITS + 1)
    train = made(texts(values), "perceptual_hash")
    assert not found(leakage.similar_images_in_common, train, made(texts(near), "perceptual_hash", name=EVAL))


def test_plain_images_are_not_compared():
    train = made(["ff00ff00ff00ff00"] * 3, "perceptual_hash", contrast=0.01)
    assert not found(leakage.similar_images_in_common, train, made(["ff00ff00ff00ff00"], "perceptual_hash", name=EVAL))


def test_the_same_files_are_not_named_twice():
    values = texts(hashes(0, 50))
    digests = [str(row) for row in range(50)]
    train = made(values, "perceptual_hash", digest=digests)
    assert not found(
        leakage.similar_images_in_common, train, made(values, "perceptual_hash", digest=digests, name=EVAL)
    )


def test_where_some_images_were_decoded_the_share_is_extrapolated():
    values = texts(hashes(0, 100))
    train = made(values[:50] + [""] * 50, "perceptual_hash")
    (finding,) = found(leakage.similar_images_in_common, train, made(values, "perceptual_hash", name=EVAL))
    assert finding.evidence["estimated_share"] == pytest.approx(1)
    assert "50 of 100 images that were decoded (50%)" in str(finding)


def test_a_video_that_was_split_by_frames_is_named_so():
    scenes = np.repeat(hashes(0, 20), 10)
    frames = flipped(scenes, 2)
    is_eval = np.random.default_rng(0).random(200) < 0.2
    (finding,) = found(
        leakage.similar_images_in_common,
        made(texts(frames[~is_eval]), "perceptual_hash"),
        made(texts(frames[is_eval]), "perceptual_hash", name=EVAL),
    )
    assert finding.kind == "neighboring_frames_in_common"
    assert "split by video, place or day" in str(finding)


def test_a_video_that_was_split_by_scenes_is_not_found():
    frames = texts(flipped(np.repeat(hashes(0, 20), 10), 2))
    train, other = made(frames[:150], "perceptual_hash"), made(frames[150:], "perceptual_hash", name=EVAL)
    assert not found(leakage.similar_images_in_common, train, other)


def different_bits(first, second):
    return np.array([[bin(int(one) ^ int(two)).count("1") for two in second] for one in first])


@pytest.mark.parametrize("bits", [0, 3, 6])
def test_similar_hashes_are_those_that_comparing_all_with_all_finds(bits):
    # Few bits that vary, so that many distances are near the bound, and many hashes are the same.
    first, second = (hashes(seed, 150) & np.uint64(0x0F0F00000000FFFF) for seed in (0, 1))
    distances = different_bits(first, second)
    partners = similar(first, second, bits)
    np.testing.assert_array_equal(partners >= 0, (distances <= bits).any(axis=1))
    has_one = partners >= 0
    assert (distances[has_one, partners[has_one]] <= bits).all()
    within = different_bits(first, first) + 64 * np.eye(150, dtype=int)
    np.testing.assert_array_equal(similar_to_another(first, bits), (within <= bits).any(axis=1))


def test_nothing_is_similar_to_nothing():
    none = np.zeros(0, np.uint64)
    assert similar(hashes(0, 3), none).tolist() == [-1, -1, -1]
    assert similar(none, hashes(0, 3)).tolist() == []
    assert similar_to_another(none).tolist() == []
    assert similar_to_another(hashes(0, 1)).tolist() == [False]


def test_a_camera_that_stands_still_is_compared_in_no_time():
    scene = np.uint64(0x123456789ABCDEF0)
    first, second = (flipped(np.full(20_000, scene), 2, seed) for seed in (0, 1))
    start = time.process_time()
    assert (similar(first, second) >= 0).all()
    assert time.process_time() - start < 5  # 400 million pairs


def test_healthy_pairs_share_nothing():
    for seed in range(3):
        pair = random_survey(seed, 400), random_survey(seed + 50, 200, name=EVAL)
        assert not found(leakage.images_in_common, *pair)
        assert not found(leakage.similar_images_in_common, *pair)
