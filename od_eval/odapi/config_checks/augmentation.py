"""Advice on augmentations: that there are none, and those that turn an object of one category into one of another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from google.protobuf import text_format
from object_detection.protos import pipeline_pb2

from od_eval.errors import ODEvalError
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.finding import Finding
from od_eval.label_map import read_label_map
from od_eval.odapi.config_checks import runs_at
from od_eval.odapi.placeholder import PLACEHOLDER
from od_eval.text import named, some

_FIELD = "train_config.data_augmentation_options"
_SIDES = (("left", "right"), ("lefthand", "righthand"), ("clockwise", "counterclockwise"), ("clockwise", "ccw"))
_ENDS = (("up", "down"), ("upward", "downward"), ("upwards", "downwards"), ("upper", "lower"), ("top", "bottom"))
_MIRRORED = (("clockwise", "counterclockwise"), ("clockwise", "anticlockwise"))
# Augmentation -> words that it exchanges.
_EXCHANGED: dict[str, Sequence[tuple[str, str]]] = {
    "random_horizontal_flip": [*_SIDES, *_MIRRORED, ("east", "west"), ("cw", "ccw")],
    "random_vertical_flip": [*_ENDS, *_MIRRORED, ("north", "south"), ("cw", "ccw")],
    "random_rotation90": [
        *_SIDES[:2],
        *_ENDS,
        *[(side, end) for side in ("left", "right") for end in ("up", "down")],
        ("horizontal", "vertical"),
        ("landscape", "portrait"),
    ],
}
# Fewer categories of one character may be numbers that somebody gave to kinds of things. Ten are all digits.
_FEWEST_CHARACTERS = 10
_LONGEST_SETTING = 600


@runs_at("advice")
def no_augmentation(config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts) -> Iterator[Finding]:
    """There is an augmentation. Every config of the model zoo has one."""
    if not facts.augmentations:
        yield Finding(
            "no_augmentation",
            "warning",
            source,
            f"there are no {_FIELD}",
            "add some, as all configs of the model zoo do: random_horizontal_flip, unless left and right make a"
            " difference, and a random crop",
            cause="so that the model sees the same pixels in every epoch and over-fits sooner",
            field=_FIELD,
            sureness="likely",
            settings=(f"{_FIELD}=[{{random_horizontal_flip {{}}}}]",),
        )


@runs_at("advice")
def augmentation_against_categories(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """No augmentation makes an image of one category look like another one, under the label of the first."""
    exchanging = [name for name in dict.fromkeys(facts.augmentations) if name in _EXCHANGED]
    names = _category_names(config) if exchanging else []
    characters = [name for name in names if len(name.strip()) == 1 and name.strip().isalnum()]
    for augmentation in exchanging:
        pairs = _exchanged(names, _EXCHANGED[augmentation])
        if pairs:
            one, other = pairs[0]
            yield Finding(
                "augmentation_exchanges_categories",
                "warning",
                source,
                f"{_FIELD} has {augmentation}, and there are categories '{named(one)}' and '{named(other)}'"
                + (f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""),
                f"remove {augmentation}",
                cause="so that objects of the one are shown as those of the other, under the wrong label",
                field=_FIELD,
                evidence={"augmentation": augmentation, "pairs": pairs},
                sureness="likely",
                settings=_without(config, augmentation),
            )
        elif len(characters) >= _FEWEST_CHARACTERS:
            yield Finding(
                "augmentation_of_characters",
                "warning",
                source,
                f"{_FIELD} has {augmentation}, and {len(characters)} of {len(names)} categories are single characters"
                f" ({some(characters, 5)})",
                f"remove {augmentation} if the objects are characters to be read",
                cause="which do not look like that, or like others",
                field=_FIELD,
                evidence={"augmentation": augmentation, "characters": characters},
                sureness="possible",
                settings=_without(config, augmentation),
            )


def _category_names(config: pipeline_pb2.TrainEvalPipelineConfig) -> list[str]:
    """The names of the label map of training; none if it cannot be read, which is a finding of another stage."""
    path = config.train_input_reader.label_map_path
    if not path or PLACEHOLDER in path:
        return []
    try:
        categories = read_label_map(path)
    except ODEvalError:
        return []
    return [category.display_name or category.name for category in categories]


def _exchanged(names: Sequence[str], exchanged: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of names that differ in one word only, of which the one becomes the other."""
    by_words = {_words(name): name for name in names}
    found: dict[frozenset[tuple[str, ...]], tuple[str, str]] = {}
    for words, name in by_words.items():
        for one, other in [*exchanged, *((other, one) for one, other in exchanged)]:
            partner = tuple(other if word == one else word for word in words)
            if partner != words and partner in by_words:
                found.setdefault(frozenset((words, partner)), (name, by_words[partner]))
    return list(found.values())


def _words(name: str) -> tuple[str, ...]:
    """`turnLeft_2` -> `turn`, `left`, `2`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return tuple(re.findall(r"[^\W\d_]+|\d+", apart.lower()))


def _without(config: pipeline_pb2.TrainEvalPipelineConfig, augmentation: str) -> tuple[str, ...]:
    """What to pass to `--set` to remove an augmentation; nothing if the rest of them is too long to show."""
    kept = [
        f"{{{text_format.MessageToString(option, as_one_line=True)}}}"
        for option in config.train_config.data_augmentation_options
        if option.WhichOneof("preprocessing_step") != augmentation
    ]
    setting = f"{_FIELD}=[{', '.join(kept)}]"
    return (setting,) if len(setting) <= _LONGEST_SETTING else ()
