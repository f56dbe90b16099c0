"""The contract of a model: a file of this folder with `build(shape, classes, *, ...) -> nn.Module`.

`shape` is the shape of one input (C, H, W), or (features,); the model takes float batches (N, *shape) and gives logits
(N, classes). Random numbers that construction draws do not matter: a scheme sets the parameters afterwards.
"""
