"""Questions of more than one comparison: tuning, racing, recommending, probes and maps; what they try and what they find."""
