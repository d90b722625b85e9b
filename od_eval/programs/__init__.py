"""The programs: one module each, with its flags and a `main()` that returns the exit status (see `od_eval.cli`)."""
