"""What is measured of a model: statistics of the signal, Jacobians, and the prediction beside them."""
