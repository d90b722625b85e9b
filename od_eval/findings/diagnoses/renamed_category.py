"""Categories that have another name in the evaluation data than in the training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from od_eval.findings.chance import is_higher
from od_eval.findings.diagnosis import diagnosis
from od_eval.findings.evidence import Evidence
from od_eval.findings.finding import Finding
from od_eval.findings.outcomes import Outcomes, clearest_first, cost, percent
from od_eval.text import named

# Of fewer objects all may have been taken for the same category by chance.
_MIN_OBJECTS = 5
# Nearly all that is found at all is found as the other category, …
_SHARE_AS_OTHER = 0.9
# … and hardly anything as its own: a detector that confuses two categories is right more often.
_MAX_SHARE_AS_OWN = 0.05
# And most is found: a detector that sees little may see all of it wrongly.
_MIN_SHARE_FOUND = 0.4
# What is called by the name of a category without objects is right as often as others if its labels have another name,
# so it scores like what is right (`label_errors`); a category that is taken for another sometimes scores lower.
_ALIKE = 0.65
# And it is a good part of the other category.
_MIN_SHARE_OF_OTHER = 0.1
# Two may be shifted by chance.
_MIN_SHIFTED = 3
# With so many detections of one category, and so many objects of others, a detector does not tell categories apart. Of
# fewer detections, that is chance.
_ONE_CATEGORY = 0.98
_OTHER_OBJECTS = 0.2
_MIN_DETECTIONS = 20
# A category with so few training objects beside the other is not renamed, but was not learned.
_FEW_BESIDE_OTHER = 0.1
_FIELD = "eval_input_reader[0].label_map_path"
_REMEDY = (
    f"compare the label maps and the labels of both data sets (train_input_reader.label_map_path, {_FIELD}),"
    " correct the"
    " wrong one, and convert its data again"
)


def taken_for(judged: Outcomes) -> pd.DataFrame:
    """The used detections of a wrong category that cover an object (IoU 0.50) which is not found as what it is.

    One for each object: that with the highest score. Columns besides those of detections: `actual`, the category of the
    object; its row is in `iou_other_row`.
    """
    wrong = judged.wrong
    wrong = wrong[(wrong["iou_other"] >= 0.5)].sort_values("score", ascending=False, kind="stable")
    unfound = judged.objects.index[~judged.objects["found"]]
    wrong = wrong[wrong["iou_other_row"].isin(unfound)].drop_duplicates("iou_other_row")
    return wrong.assign(actual=judged.objects["category"].loc[wrong["iou_other_row"]].to_numpy())


def renamed_categories(judged: Outcomes, train_objects: Mapping[str, int] | None = None) -> dict[str, str]:
    """Category -> the one as which nearly all of its objects are found.

    Args:
      judged: the outcomes.
      train_objects: name -> number of objects in the training data, if known.
    """
    taken = taken_for(judged)
    pairs = taken.groupby(["actual", "category"]).size()
    num = judged.objects.groupby("category").size()
    own = judged.objects.groupby("category")["found"].sum()
    renamed = {}
    for (actual, predicted), count in pairs.items():
        found_at_all = int(own[actual]) + int(pairs[actual].sum())
        if (
            num[actual] >= _MIN_OBJECTS
            and own[actual] <= _MAX_SHARE_AS_OWN * num[actual]
            and count >= max(_SHARE_AS_OTHER * found_at_all, _MIN_SHARE_FOUND * num[actual])
            and not _was_not_learned(str(actual), str(predicted), train_objects)
        ):
            renamed[str(actual)] = str(predicted)
    return renamed


def absorbed_categories(judged: Outcomes) -> dict[str, str]:
    """Category without objects -> the one under which its objects probably are: nearly all its detections are there."""
    taken = taken_for(judged)
    num = judged.objects.groupby("category").size()
    absorbed = {}
    for (actual, predicted), of_pair in taken.groupby(["actual", "category"]):
        covering = (taken["category"] == predicted).sum()
        if (
            predicted not in num
            and len(of_pair) >= max(_MIN_OBJECTS, _MIN_SHARE_OF_OTHER * num[actual], _SHARE_AS_OTHER * covering)
            and len(judged.right)
            and is_higher(judged.right["score"], of_pair["score"]) <= _ALIKE
        ):
            absorbed[str(predicted)] = str(actual)
    return absorbed


def renamed_pairs(judged: Outcomes, train_objects: Mapping[str, int] | None = None) -> set[tuple[str, str]]:
    """The pairs of the category of labels and that of detections which differ because one has another name."""
    pairs = set(renamed_categories(judged, train_objects).items())
    return pairs | {(actual, predicted) for predicted, actual in absorbed_categories(judged).items()}


def the_only_category(judged: Outcomes) -> str | None:
    """The category of nearly all used detections, if it has objects, and others have many, too; or None."""
    shares = judged.used["category"].value_counts(normalize=True)
    if len(judged.used) < _MIN_DETECTIONS or shares.iloc[0] < _ONE_CATEGORY:
        return None
    is_other = judged.objects["category"] != shares.index[0]
    return None if is_other.all() or is_other.mean() < _OTHER_OBJECTS else str(shares.index[0])


@diagnosis
def absorbed_category(evidence: Evidence) -> Iterator[Finding]:
    """A category has no objects, but the detector finds it where objects of one certain other category are."""
    judged = evidence.outcomes
    if judged is None:
        return
    renamed = renamed_categories(judged, evidence.train_objects)
    taken = taken_for(judged)
    for predicted, actual in absorbed_categories(judged).items():
        if renamed.get(actual) == predicted:
            continue
        of_pair = taken[(taken["actual"] == actual) & (taken["category"] == predicted)]
        num = int((judged.objects["category"] == actual).sum())
        yield Finding(
            "absorbed_category",
            "error",
            "",
            f"no object is labelled '{named(predicted)}', but {len(of_pair)} of {num} objects of '{named(actual)}'"
            f" ({percent(len(of_pair) / num)}) are found as '{named(predicted)}', as confidently as what is right",
            _REMEDY,
            cause=f"so objects of '{named(predicted)}' have the name or id of '{named(actual)}' in the evaluation data",
            field=_FIELD,
            evidence={"actual": actual, "predicted": predicted, "count": len(of_pair), "objects": num},
            sureness="likely",
            images=clearest_first(of_pair),
            impact=len(of_pair) / len(judged.objects),
        )


@diagnosis
def renamed_category(evidence: Evidence) -> Iterator[Finding]:
    """Nearly all objects of a category are found, and as one and the same other category."""
    judged = evidence.outcomes
    if judged is None:
        return
    renamed = renamed_categories(judged, evidence.train_objects)
    if not renamed or the_only_category(judged):
        return
    taken = taken_for(judged)
    offset = _offset(renamed, judged)
    if offset:
        yield _label_map_shifted(evidence, judged, renamed, taken, offset)
        return
    for actual, predicted in renamed.items():
        swapped = renamed.get(predicted) == actual
        if swapped and actual > predicted:
            continue  # it is told of the other one
        yield _renamed(evidence, judged, taken, actual, predicted, swapped)


def _renamed(
    evidence: Evidence, judged: Outcomes, taken: pd.DataFrame, actual: str, predicted: str, swapped: bool
) -> Finding:
    of_pair = taken[(taken["actual"] == actual) & (taken["category"] == predicted)]
    num, count = int((judged.objects["category"] == actual).sum()), len(of_pair)
    others = int((judged.objects["category"] == predicted).sum())
    symptom = f"{percent(count / num)} of {num} objects of '{named(actual)}' are found as '{named(predicted)}'"
    if swapped:
        symptom += ", and the other way round"
        cause = "so the two names are swapped in the training data or in the evaluation data"
        images = clearest_first(
            taken[taken["actual"].isin((actual, predicted)) & taken["category"].isin((actual, predicted))]
        )
    else:
        symptom += ", and hardly any as what they are"
        cause = "so the category has another name or id in the training data"
        images = clearest_first(of_pair)
    categories = (actual, predicted) if swapped else (actual,)
    return Finding(
        "swapped_categories" if swapped else "renamed_category",
        "error" if swapped or not others else "warning",
        "",
        symptom,
        _REMEDY,
        cause=cause,
        field=_FIELD,
        evidence={"actual": actual, "predicted": predicted, "count": count, "objects": num},
        sureness="likely",
        images=images,
        impact=_lost(evidence, judged, categories),
    )


def _label_map_shifted(
    evidence: Evidence, judged: Outcomes, renamed: Mapping[str, str], taken: pd.DataFrame, offset: int
) -> Finding:
    ids = _ids(judged)
    first = next(name for name in renamed if ids[renamed[name]] - ids[name] == offset)
    return Finding(
        "label_map_shifted",
        "error",
        "",
        f"objects of {len(renamed)} categories are found as the category whose id is {abs(offset)}"
        f" {'higher' if offset > 0 else 'lower'}: '{named(first)}' as '{named(renamed[first])}'",
        "compare the ids of the label maps and of the labels in the records of both data sets"
        " (train_input_reader.label_map_path, eval_input_reader[0].label_map_path); ids begin with 1",
        cause="so ids of the training data and of the evaluation data are shifted against each other",
        field=_FIELD,
        evidence={"offset": offset, "renamed": dict(renamed)},
        sureness="likely",
        images=clearest_first(taken),
        impact=_lost(evidence, judged, tuple(renamed)),
    )


def _offset(renamed: Mapping[str, str], judged: Outcomes) -> int:
    """By how much the id is higher of what categories are found as; 0 if that is not the same."""
    ids = _ids(judged)
    offsets = pd.Series([ids[predicted] - ids[actual] for actual, predicted in renamed.items()]).value_counts()
    # One may be another: the last is found as the first.
    return int(offsets.index[0]) if offsets.iloc[0] >= max(_MIN_SHIFTED, len(renamed) - 1) else 0


def _ids(judged: Outcomes) -> dict[str, int]:
    """The id of each category by its name."""
    return {
        name: id
        for rows in (judged.objects, judged.detections)
        for name, id in rows.groupby("category")["category_id"].first().items()
    }


def _lost(evidence: Evidence, judged: Outcomes, categories: tuple[str, ...]) -> float:
    """AP that these categories lack: what the others have on average, in the mean over all; or what `class` costs."""
    per_category = evidence.newest.per_category if evidence.newest else {}
    ap = {name: of["AP50"] for name, of in per_category.items() if of["AP50"] is not None}
    others = [value for name, value in ap.items() if name not in categories]
    if not others:
        return max(cost(evidence, "class"), judged.objects["category"].isin(categories).mean() * judged.precision)
    mean = sum(others) / len(others)
    return sum(max(mean - ap.get(name, 0.0), 0.0) for name in categories) / max(len(ap), 1)


def _was_not_learned(actual: str, predicted: str, train_objects: Mapping[str, int] | None) -> bool:
    if train_objects is None:
        return False
    return 0 < train_objects.get(actual, 0) < _FEW_BESIDE_OTHER * train_objects.get(predicted, 0)
