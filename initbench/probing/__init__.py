"""The signal through an untrained network: what a probe asks, its verdicts, trainability maps, its tables and pages."""
