"""How a scheme is applied to a model: its contract, what sets each parameter, the laws that schemes draw from, and checks."""
