"""The engines: a file here with `execute(jobs, *, ...)` is the engine of its name; the contract is in `initbench.workers.progress`."""
