"""What initbench knows about any `torch.nn.Module`: its weight layers, fans, random numbers, captured signals."""
