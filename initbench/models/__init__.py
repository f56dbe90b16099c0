"""The contract of a model: a file of this folder with `build(shape, classes, *, ...) -> nn.Module`.

`shape` is the shape of one input (C, H, W), or (features,); the model takes float batches (N, *shape) and gives logits
(N, classes). A constant `TASKS` names the tasks that a model is for, where it does not classify: what it takes and gives is then the
task's (`initbench/tasks`). Random numbers that construction draws do not matter: a scheme sets the parameters afterwards.
"""
