"""Looks at a model as it starts and says what is wrong with its initialization: what is looked at, findings, how they are told."""
