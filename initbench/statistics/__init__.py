"""What may be said about a handful of seeds: outcomes, intervals, tests, verdicts; no torch, pandas or scipy."""
