"""From a job to its result: batches, steps, evaluations, devices."""
