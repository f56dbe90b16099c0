"""How the outputs depend on a layer; computed by `measure/jacobians.py`, in passes of its own."""

from initbench.quantities import Figure, Quantity

JACOBIAN = (
    "of a probe: mean, largest and smallest singular value of the derivative of the outputs (ten directions of them, where there are"
    " more) by the layer's pre-activation, for one input, averaged over a few inputs"
)

QUANTITIES = (
    Quantity(
        "jacobian_mean",
        JACOBIAN,
        place=12,
        heading="singular values",
        always=False,
        spread=("jacobian_min", "jacobian_max"),
        backward=True,
        probe_plot=Figure(
            "jacobian",
            "How the outputs depend on each layer",
            "singular value",
            note="Line: mean singular value of the derivative of the outputs by the layer; band: smallest to largest",
        ),
    ),
    Quantity("jacobian_max", JACOBIAN, place=13, backward=True),
    Quantity("jacobian_min", JACOBIAN, place=14, backward=True),
)
