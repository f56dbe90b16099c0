"""What is true of any `torch.nn.Module`: the followed signal, its weight layers, fans, residual branches, hooks, seeds."""
