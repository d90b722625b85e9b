"""The sections of an `EvaluationResult`, one module each; see `od_eval.evaluation.section`."""
