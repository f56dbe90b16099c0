"""From a job to its result: initialize, train, probe, evaluate, alone or stacked with others."""
