"""The sections of an `EvaluationResult`, a module each; see `od_eval.evaluation.section`."""
