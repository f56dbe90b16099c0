"""What mean-field theory says of a network at initialization: moments, recursions, critical lines, bands."""
