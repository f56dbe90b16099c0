"""A file is a rule of the linter: `check(subject)` gives findings. CODE is its code, FAMILY its group: state, law or signal.

The docstring of `check` is what `initbench lint --explain CODE` prints: what it is in one line, then the paragraphs `Measured:`,
`Expected:`, `Remedy:` (code) and `Source:`. NEEDS names what a rule cannot do without: `inputs`, `factory` (a model that can be built
again), `checkpoint` or `labels`; where it is not given, the rule is listed as not looked at. See `initbench.linting.finding`.
"""
