"""The diagnoses, a module for each subject; see `od_eval.findings.diagnosis`."""
