"""Made-up trainings: curves of loss, rate and AP with the noise that real ones have.

made_run(loss=lambda share: 0.3 + 2 * np.exp(-20 * share), ap=lambda share: 0.6 * share, seed=1)

The noise is that of the quickstart's run and wider: points of the loss (means of 10 to 100 steps) vary by 5% and are
alike to their neighbours, AP by 0.008 from one evaluation to the next; its 95% interval for other images is ± 0.03.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from od_eval.evaluation.result import EvaluationResult
from od_eval.findings.config_facts import ConfigFacts
from od_eval.findings.evidence import Curve, Evidence

Course = Callable[[np.ndarray], np.ndarray]

RATE = "train_config.optimizer.momentum_optimizer.learning_rate.cosine_decay_learning_rate"
FACTS = ConfigFacts(
    source="pipeline.config",
    architecture="ssd_mobilenet_v2_fpn_keras",
    meta_architecture="ssd",
    input_height=320,
    input_width=320,
    num_classes=4,
    batch_size=16,
    num_steps=20000,
    schedule="cosine decay",
    learning_rate=0.08,
    warmup_steps=1000,
    decay_steps=20000,
    gradient_clipping=0.0,
    augmentations=("random_horizontal_flip", "random_crop_image", "random_distort_color"),
    fine_tune_checkpoint="zoo/ckpt-0",
    fine_tune_checkpoint_type="detection",
    freeze_variables=(),
    dropout=False,
    l2_weight=4e-5,
    max_detections_per_class=100,
    max_total_detections=100,
    score_threshold=1e-8,
    nms_iou_threshold=0.6,
    localization_weight=1.0,
    classification_weight=1.0,
    max_number_of_boxes=100,
    fields={
        "num_steps": "train_config.num_steps",
        "learning_rate": f"{RATE}.learning_rate_base",
        "warmup_steps": f"{RATE}.warmup_steps",
        "decay_steps": f"{RATE}.total_steps",
        "gradient_clipping": "train_config.gradient_clipping_by_norm",
    },
    rates={f"{RATE}.warmup_learning_rate": 0.02666, f"{RATE}.learning_rate_base": 0.08},
)
CONSTANT = dataclasses.replace(
    FACTS,
    schedule="constant",
    warmup_steps=0,
    decay_steps=None,
    fields={name: field for name, field in FACTS.fields.items() if name not in ("warmup_steps", "decay_steps")},
    rates={},
)


def noisy(values: np.ndarray, deviation: float, rng: np.random.Generator, alike: float = 0.3) -> np.ndarray:
    """Values with noise, as a share of each, that is alike for neighbours."""
    noise = rng.normal(0, deviation, len(values))
    for at in range(1, len(noise)):
        noise[at] = alike * noise[at - 1] + np.sqrt(1 - alike**2) * noise[at]
    return values * np.exp(noise)


def falling(floor: float = 0.3, above: float = 2.5, pace: float = 0.05) -> Course:
    """A loss that falls as a power law, as those of detectors do, and is level where the rate has gone to zero."""
    return lambda share: floor + above * (1 + share / pace) ** -1.2


def annealed(course: Course) -> Course:
    """A course in a training whose rate decays to zero: nothing changes at the end."""
    return lambda share: course(share * (2 - share))


def rising(top: float = 0.6, pace: float = 4.0) -> Course:
    return lambda share: top * (1 - np.exp(-pace * share))


def cosine(share: np.ndarray) -> np.ndarray:
    return np.where(share < 0.05, 0.0267 + 0.0533 * share / 0.05, 0.04 * (1 + np.cos(np.pi * share)))


def constant(share: np.ndarray) -> np.ndarray:
    return np.full_like(share, 0.08)


def made_run(
    *,
    loss: Course,
    ap: Course | None = None,
    eval_loss: Course | None = None,
    train_ap: Course | None = None,
    rate: Course = cosine,
    gradient_norm: Course = lambda share: 3 + 10 * np.exp(-share / 0.02),
    facts: ConfigFacts | None = FACTS,
    last_step: int = 20000,
    done: float = 1.0,
    every: int = 100,
    evaluations: int = 20,
    noise: float = 0.05,
    ap_noise: float = 0.008,
    half_interval: float | None = 0.03,
    without: Sequence[tuple[int, int]] = (),
    seed: int = 0,
) -> Evidence:
    """A training.

    Args:
      loss, rate, gradient_norm: share of the training -> value of a step.
      ap, eval_loss, train_ap: the same of evaluations; None for none of it.
      facts: of the config.
      last_step: at which the training ends. done: the share of it that is done.
      every: steps between points.
      evaluations: in the whole training.
      noise, ap_noise: standard deviation of losses, as a share, and of AP.
      half_interval: of AP, for other images; None for none.
      without: steps of which there are no points.
    """
    rng = np.random.default_rng(seed)
    steps = np.arange(every, round(done * last_step) + 1, every)
    steps = steps[~np.any([(steps > first) & (steps <= last) for first, last in without] or [steps < 0], axis=0)]
    share = steps / last_step
    curves = {
        "Loss/total_loss": Curve(steps, noisy(loss(share), noise, rng)),
        "learning_rate": Curve(steps, rate(share)),
        "gradient_norm": Curve(steps, noisy(gradient_norm(share), 0.12, rng)),
        "steps_per_sec": Curve(steps, noisy(np.full(len(steps), 11.0), 0.1, rng)),
    }
    at = np.round(np.linspace(0, last_step, evaluations + 1)[1:]).astype(int) if evaluations else np.zeros(0, int)
    at = at[at <= done * last_step]
    shares = at / last_step
    losses = None if eval_loss is None else noisy(eval_loss(shares), 0.02, rng, 0.0)

    def results(course: Course | None) -> list[EvaluationResult]:
        if course is None and losses is None:
            return []
        values = None if course is None else np.clip(course(shares) + rng.normal(0, ap_noise, len(at)), 0, 1)
        return [
            made_result(
                int(step),
                None if values is None else float(values[index]),
                None if losses is None else float(losses[index]),
                half_interval,
            )
            for index, step in enumerate(at)
        ]

    return Evidence(
        curves=curves,
        evaluations=results(ap),
        train_evaluations=results(train_ap) if train_ap is not None else [],
        config=facts,
        last_step=last_step,
        num_train_images=400,
    )


def made_result(
    step: int, ap: float | None, loss: float | None = None, half_interval: float | None = 0.03, num_images: int = 200
) -> EvaluationResult:
    sections: dict[str, object] = {}
    if loss is not None:
        sections["losses"] = {"total_loss": loss}
    if ap is not None:
        sections["bbox"] = {"AP": ap, "AP50": min(1.0, 1.4 * ap)}
        if half_interval is not None:
            sections["intervals"] = {"AP": [max(0.0, ap - half_interval), min(1.0, ap + half_interval)]}
    return EvaluationResult(num_images, step=step, checkpoint=f"/runs/a/ckpt-{step}", **sections)


# ---- Ten kinds of healthy trainings ---------------------------------------------------------------------------------


def bump(share: np.ndarray) -> np.ndarray:
    """What the end of the warm-up does to a loss."""
    return 1.5 * np.exp(-(((share - 0.05) / 0.015) ** 2))


HEALTHY: dict[str, Callable[[int], Evidence]] = {
    "fast convergence": lambda seed: made_run(
        loss=annealed(falling(0.3, 2.5, 0.01)),
        eval_loss=annealed(falling(0.35, 2.0, 0.02)),
        ap=lambda share: 0.7 - 0.15 * (1 - share) ** 2 - 0.5 * np.exp(-share / 0.03),
        seed=seed,
    ),
    "a bump at the end of the warm-up": lambda seed: made_run(
        loss=lambda share: annealed(falling())(share) + bump(share),
        gradient_norm=lambda share: 3 + 160 * np.exp(-(((share - 0.05) / 0.015) ** 2)),
        eval_loss=annealed(falling(0.4)),
        ap=rising(0.5, 3),
        seed=seed,
    ),
    "cosine decay": lambda seed: made_run(
        loss=annealed(falling()),
        eval_loss=annealed(falling(0.35)),
        ap=annealed(rising(0.6, 3)),
        train_ap=annealed(rising(0.66, 3)),
        seed=seed,
    ),
    "noisy small batches": lambda seed: made_run(
        loss=annealed(falling(0.6)), noise=0.2, ap=annealed(rising(0.45, 3)), ap_noise=0.015, seed=seed
    ),
    "resumed, with a gap": lambda seed: made_run(
        loss=annealed(falling()),
        eval_loss=annealed(falling(0.35)),
        ap=annealed(rising(0.6, 3)),
        without=[(8000, 11000)],
        seed=seed,
    ),
    "two evaluations": lambda seed: made_run(loss=annealed(falling()), ap=rising(0.5, 4), evaluations=2, seed=seed),
    "one evaluation": lambda seed: made_run(loss=annealed(falling()), ap=rising(0.5, 4), evaluations=1, seed=seed),
    "no evaluation": lambda seed: made_run(loss=annealed(falling()), seed=seed),
    "AP rises slowly and is level at the end": lambda seed: made_run(
        loss=annealed(falling(0.4, 2.0, 0.15)),
        eval_loss=annealed(falling(0.5, 1.8, 0.15)),
        ap=annealed(lambda share: 0.55 * share**0.7),
        seed=seed,
    ),
    "steps of the rate, two thirds done": lambda seed: made_run(
        loss=lambda share: falling(0.5)(share) - 0.12 * (share > 0.5),
        rate=lambda share: np.where(share < 0.5, 0.08, 0.008),
        eval_loss=lambda share: falling(0.6)(share) - 0.1 * (share > 0.5),
        ap=lambda share: 0.4 * (1 - np.exp(-share / 0.1)) + 0.08 * (share > 0.5),
        facts=dataclasses.replace(FACTS, schedule="steps", decay_steps=16000, warmup_steps=0),
        done=0.66,
        seed=seed,
    ),
    "constant rate, at the end of learning": lambda seed: made_run(
        loss=falling(0.4, 2.5, 0.02),
        rate=constant,
        eval_loss=falling(0.5, 2.5, 0.03),
        ap=lambda share: 0.5 - 0.12 * (1 - share) - 0.3 * np.exp(-share / 0.05),
        facts=CONSTANT,
        seed=seed,
    ),
    "running, a tenth done": lambda seed: made_run(
        loss=falling(), eval_loss=falling(0.35), ap=rising(0.6, 4), done=0.1, seed=seed
    ),
}
