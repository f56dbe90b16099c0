"""The correlation of two inputs behind each layer; computed by `measure/jacobians.py`, in a pass of its own."""

from initbench.quantities import Figure, Quantity

QUANTITIES = (
    Quantity(
        "correlation",
        "of a probe: mean over pairs of inputs of the cosine of their pre-activations; 1: the layer cannot tell them apart",
        place=11,
        unit="cosine",
        heading="correlation",
        probe_plot=Figure("correlation", "Correlation of two inputs, before the first step", "correlation of two inputs"),
    ),
)
