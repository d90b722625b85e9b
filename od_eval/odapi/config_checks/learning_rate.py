"""Advice on the learning rate: its schedule against `num_steps`, its height against batch size and optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from object_detection.protos import optimizer_pb2, pipeline_pb2
from object_detection.utils import config_util

from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.finding import Finding
from od_eval.odapi.config_checks import runs_at
from od_eval.odapi.hyperparameters import as_written

# Beyond half of the training, the model learns below its rate for longer than at it. The zoo warms up for 1 to 10% of
# its steps.
_LONGEST_WARMUP = 0.5
_USUAL_WARMUP = 0.1
# A cosine that ends with num_steps ends near 0; schedules of steps end at 1/100 of their highest rate (the zoo's, and
# Detectron's). With a tenth left, the model has not settled when the training ends.
_HIGHEST_LAST_RATE = 0.1
# Shares of the training without any effect that are no more than rounding.
_SHORTEST_STANDSTILL = 0.01
# Where the zoo's and Detectron's schedules of steps have their last one: at 86 and 89% of num_steps.
_LAST_STEP = 0.9
# Linear scaling (Goyal et al. 2017, arXiv:1706.02677): the rate of SGD with momentum is proportional to the batch size.
# The zoo trains with 0.000625 per image (0.04 for 64, 0.08 for 128, 0.01 for 16), its highest is SSD MobileNet v2 with
# 0.8 for 512. Small batches often still train with a few times as much.
_RATE_PER_IMAGE = 0.08 / 128
_HIGHEST_RATE_PER_IMAGE = 0.8 / 512
_TOO_HIGH = 4.0
_HIGH_WITHOUT_CLIPPING = 2.0
_USUAL_CLIPPING = 10.0  # of the zoo's Faster R-CNN
# Each step of Adam changes a weight by about the rate (Kingma & Ba 2015, section 2.1), whatever the batch. The zoo's
# CenterNets train with 0.001; at ten times that, weights of the usual size, a few hundredths, are gone in a few steps.
# Below 1e-6, 10,000 steps in one direction change them by less than 0.01.
_HIGHEST_OF_ADAM = 0.01
_LOWEST_OF_ADAM = 1e-6
_USUAL_OF_ADAM = 0.001


@runs_at("advice")
def warmup(config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts) -> Iterator[Finding]:
    """The warm-up is a small part of the training."""
    field = facts.fields.get("warmup_steps")
    if not facts.num_steps or field is None or facts.warmup_steps <= _LONGEST_WARMUP * facts.num_steps:
        return
    longer = facts.warmup_steps >= facts.num_steps
    yield Finding(
        "long_warmup",
        "warning",
        source,
        f"the warm-up takes {facts.warmup_steps} steps and the training {facts.num_steps}",
        f"lower {field} to about a tenth of num_steps, {_short_warmup(facts)}",
        cause=f"so that the rate of {facts.learning_rate:g} is never reached"
        if longer
        else f"so that {facts.warmup_steps / facts.num_steps:.0%} of it is below the rate of {facts.learning_rate:g}",
        field=field,
        evidence={"warmup_steps": facts.warmup_steps, "num_steps": facts.num_steps},
        settings=facts.setting(
            warmup_steps=_short_warmup(facts),
            **({"decay_steps": facts.num_steps} if facts.schedule == "cosine decay" else {}),
        ),
    )


def _short_warmup(facts: ConfigFacts) -> int:
    return max(1, round(_USUAL_WARMUP * facts.num_steps))


@runs_at("advice")
def impossible_cosine(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """The Object Detection API can compute a cosine: it begins after the warm-up, below the highest rate."""
    schedule = _cosine(config)
    if schedule is None:
        return
    field = facts.fields["decay_steps"]
    if schedule.total_steps <= schedule.warmup_steps:
        longer = max(facts.num_steps, schedule.warmup_steps + 1)
        yield Finding(
            "decay_within_warmup",
            "error",
            source,
            f"total_steps of the cosine decay is {schedule.total_steps}, and its warm-up takes"
            f" {schedule.warmup_steps} steps",
            f"set {field} to num_steps, and warmup_steps to about a tenth of it",
            cause="so that there is no step left for the decay and the rate becomes NaN"
            if schedule.total_steps == schedule.warmup_steps
            else "which the Object Detection API refuses",
            field=field,
            evidence={"total_steps": schedule.total_steps, "warmup_steps": schedule.warmup_steps},
            settings=facts.setting(decay_steps=longer, warmup_steps=max(1, round(_USUAL_WARMUP * longer))),
        )
    first = as_written(schedule.warmup_learning_rate)
    if schedule.warmup_steps and first > facts.learning_rate:
        field = next(iter(facts.rates))
        yield Finding(
            "warmup_above_highest_rate",
            "error",
            source,
            f"the warm-up begins with a rate of {first:g}, above learning_rate_base, {facts.learning_rate:g}",
            f"lower {field}",
            cause="which the Object Detection API refuses",
            field=field,
            evidence={"warmup_learning_rate": first, "learning_rate_base": facts.learning_rate},
            settings=(f"{field}={facts.learning_rate / 3:.4g}",),
        )


@runs_at("advice")
def cosine_against_num_steps(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """A cosine decay ends when the training does."""
    schedule = _cosine(config)
    if schedule is None or not facts.num_steps or schedule.total_steps <= schedule.warmup_steps:
        return
    field, total = facts.fields["decay_steps"], schedule.total_steps
    symptom = f"total_steps of the cosine decay is {total} and num_steps {facts.num_steps}"
    remedy = f"set {field} to num_steps, {facts.num_steps}"
    standstill = facts.num_steps - total
    if standstill > _SHORTEST_STANDSTILL * facts.num_steps:
        yield Finding(
            "decay_ends_early",
            "warning",
            source,
            symptom,
            remedy,
            cause=f"so that the rate is 0 in the last {standstill} steps, which change nothing",
            evidence={"total_steps": total, "num_steps": facts.num_steps, "standstill": standstill},
            field=field,
            settings=facts.setting(decay_steps=facts.num_steps),
        )
    last = _cosine_at(schedule, facts.num_steps)
    if total > facts.num_steps > schedule.warmup_steps and last > _HIGHEST_LAST_RATE:
        yield Finding(
            "decay_not_finished",
            "warning",
            source,
            symptom,
            remedy,
            cause=f"so that the training ends while the rate is still at {last:.0%} of its highest",
            evidence={"total_steps": total, "num_steps": facts.num_steps, "last_rate_of_highest": round(last, 3)},
            sureness="likely",
            field=field,
            settings=facts.setting(decay_steps=facts.num_steps),
        )


@runs_at("advice")
def exponential_against_num_steps(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """An exponential decay has decayed when the training ends."""
    schedule = _schedule(config).exponential_decay_learning_rate
    steps = facts.num_steps - schedule.burnin_steps
    if facts.schedule != "exponential decay" or steps <= 0 or schedule.decay_steps <= 0:
        return
    exponent = steps / schedule.decay_steps
    last = schedule.decay_factor ** (math.floor(exponent) if schedule.staircase else exponent)
    if last <= 0.5:
        return
    # A note: many configs of TF1 have a decay that never comes.
    yield Finding(
        "decay_not_finished",
        "note",
        source,
        f"the exponential decay takes {schedule.decay_steps} steps to lower the rate to"
        f" {schedule.decay_factor:.0%}, and num_steps is {facts.num_steps}",
        "lower its decay_steps, or use a cosine decay",
        cause=f"so that the training ends at {last:.0%} of its first rate",
        field=f"{facts.fields['learning_rate'].rpartition('.')[0]}.decay_steps",
        evidence={"decay_steps": schedule.decay_steps, "num_steps": facts.num_steps, "last_rate_of_first": last},
    )


@runs_at("advice")
def steps_after_the_end(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """All steps of a schedule of steps are reached."""
    steps = [step.step for step in _schedule(config).manual_step_learning_rate.schedule]
    late = sum(step >= facts.num_steps for step in steps)
    if facts.schedule != "steps" or not facts.num_steps or not late:
        return
    yield Finding(
        "decay_not_finished",
        "warning",
        source,
        f"{late} of {len(steps)} steps of the learning rate come after the end of the training (the last at"
        f" {steps[-1]}, num_steps is {facts.num_steps})",
        f"move them before it, the last to about {_LAST_STEP:.0%}",
        cause="so that the rate is never lowered as far as it should be",
        field=facts.fields["decay_steps"],
        evidence={"steps": steps, "num_steps": facts.num_steps},
        settings=steps_within(config, facts, facts.num_steps),
    )


def steps_within(config: pipeline_pb2.TrainEvalPipelineConfig, facts: ConfigFacts, num_steps: int) -> tuple[str, ...]:
    """What to pass to `--set` so that a schedule of steps fits into a number of steps; nothing for other schedules."""
    steps = [step.step for step in _schedule(config).manual_step_learning_rate.schedule]
    if not steps:
        return ()
    # The later of two steps that would fall on one is moved on: the Object Detection API wants them to increase.
    scaled: list[int] = []
    for step in steps:
        scaled.append(max(round(step / steps[-1] * _LAST_STEP * num_steps), scaled[-1] + 1 if scaled else 1))
    where = facts.fields["decay_steps"].rpartition("schedule[")[0]
    return tuple(f"{where}schedule[{index}].step={step}" for index, step in enumerate(scaled))


@runs_at("advice")
def no_rate(config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts) -> Iterator[Finding]:
    """The rate is not 0."""
    if facts.schedule != "none" and facts.learning_rate <= 0:
        yield Finding(
            "no_learning_rate",
            "error",
            source,
            f"the highest learning rate is {facts.learning_rate:g}",
            f"raise {facts.fields['learning_rate']}",
            cause="so that nothing is learned",
            field=facts.fields["learning_rate"],
        )


@runs_at("advice")
def rate_of_momentum(
    config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts
) -> Iterator[Finding]:
    """The rate of SGD with momentum fits the batch size, or gradients are clipped."""
    if config_util.get_optimizer_type(config.train_config) != "momentum_optimizer" or not facts.batch_size:
        return
    highest_of_zoo = _HIGHEST_RATE_PER_IMAGE * facts.batch_size
    times = facts.learning_rate / highest_of_zoo
    usual = _HIGHEST_RATE_PER_IMAGE if facts.architecture == "ssd_mobilenet_v2_keras" else _RATE_PER_IMAGE
    suggested = float(f"{usual * facts.batch_size:.2g}")
    field = facts.fields.get("learning_rate", "")
    evidence = {"learning_rate": facts.learning_rate, "batch_size": facts.batch_size, "suggested": suggested}
    if times > _TOO_HIGH:
        yield Finding(
            "learning_rate_of_larger_batch",
            "warning",
            source,
            f"the learning rate is {facts.learning_rate:g} with a batch_size of {facts.batch_size}",
            f"lower {field} to about {suggested:g}" + ("" if facts.gradient_clipping else ", and clip gradients"),
            cause=f"{times:.3g} times the highest that the model zoo trains with for that many images, so that the"
            " loss may grow or become NaN",
            field=field,
            evidence=evidence,
            sureness="likely",
            settings=(
                *facts.setting(learning_rate=suggested),
                *(() if facts.gradient_clipping else facts.setting(gradient_clipping=_USUAL_CLIPPING)),
            ),
        )
    elif times > _HIGH_WITHOUT_CLIPPING and not facts.gradient_clipping:
        yield Finding(
            "high_learning_rate_without_clipping",
            "note",
            source,
            f"the learning rate is {facts.learning_rate:g} with a batch_size of {facts.batch_size}, and gradients are"
            " not clipped",
            f"set {facts.fields['gradient_clipping']} to {_USUAL_CLIPPING:g}, or lower {field} to about {suggested:g}"
            " if the loss grows",
            cause=f"{times:.3g} times the highest that the model zoo trains with for that many images",
            field=facts.fields["gradient_clipping"],
            evidence=evidence,
            sureness="possible",
            settings=facts.setting(gradient_clipping=_USUAL_CLIPPING),
        )


@runs_at("advice")
def rate_of_adam(config: pipeline_pb2.TrainEvalPipelineConfig, source: str, facts: ConfigFacts) -> Iterator[Finding]:
    """The rate of Adam is of the usual order of magnitude."""
    if config_util.get_optimizer_type(config.train_config) != "adam_optimizer" or facts.learning_rate <= 0:
        return
    too_high = facts.learning_rate >= _HIGHEST_OF_ADAM
    if not too_high and facts.learning_rate >= _LOWEST_OF_ADAM:
        return
    field = facts.fields["learning_rate"]
    yield Finding(
        "high_learning_rate_of_adam" if too_high else "low_learning_rate_of_adam",
        "warning",
        source,
        f"the learning rate of Adam is {facts.learning_rate:g}",
        f"set {field} to about {_USUAL_OF_ADAM:g}, the rate of the model zoo's CenterNets",
        cause="and as each of its steps changes a weight by about that much, what was learned before is soon lost"
        if too_high
        else "and as each of its steps changes a weight by about that much, next to nothing is learned",
        field=field,
        evidence={"learning_rate": facts.learning_rate},
        sureness="likely",
        settings=facts.setting(learning_rate=_USUAL_OF_ADAM),
    )


def _schedule(config: pipeline_pb2.TrainEvalPipelineConfig) -> optimizer_pb2.LearningRate:
    optimizer = config_util.get_optimizer_type(config.train_config)
    return (
        getattr(config.train_config.optimizer, optimizer).learning_rate if optimizer else optimizer_pb2.LearningRate()
    )


def _cosine(config: pipeline_pb2.TrainEvalPipelineConfig) -> optimizer_pb2.CosineDecayLearningRate | None:
    schedule = _schedule(config)
    return schedule.cosine_decay_learning_rate if schedule.HasField("cosine_decay_learning_rate") else None


def _cosine_at(schedule: optimizer_pb2.CosineDecayLearningRate, step: int) -> float:
    """The rate at a step after the warm-up as a part of the highest, as `learning_schedules` computes it."""
    begin = schedule.warmup_steps + schedule.hold_base_rate_steps
    if step <= begin:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - begin) / max(1, schedule.total_steps - begin))))
