"""The floor (d): only the matrix products or convolutions of the same steps: forward, input gradient, weight gradient.

As torch calls them, or with `--onednn` by oneDNN throughout, which is faster on some processors and what initbench then does too.
One single-threaded process a core, as many steps in all as the job has; nothing else: no data, no loss, no update, no files.
The first process does not even import torch. glibc keeps the memory that one product frees for the next.
"""

import os
import subprocess
import sys

KEEP = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


def products() -> None:
    """The products of this process's share of the steps."""
    import torch
    from job import BATCH, SCHEMES, TRAINING_IMAGES, arguments, build, weight_layers

    asked, share, cores = arguments(), int(os.environ["SHARE"]), int(os.environ["CORES"])
    total = len(SCHEMES) * asked.seeds * asked.epochs * (TRAINING_IMAGES // BATCH)
    torch.set_num_threads(1)
    product = lambda a, b: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")  # noqa: E731
    network = build(asked.model)
    sizes: list[torch.Size] = []
    hooks = [layer.register_forward_hook(lambda _layer, inputs, _output: sizes.append(inputs[0].shape)) for layer in weight_layers(network)]
    with torch.no_grad():
        network(torch.randn(BATCH, 1, 28, 28))
        for hook in hooks:
            hook.remove()
        work = []
        for number, (layer, size) in enumerate(zip(weight_layers(network), sizes, strict=True)):
            x = torch.randn(size)
            if x.dim() == 4:
                x = x.contiguous(memory_format=torch.channels_last)
                layer.to(memory_format=torch.channels_last)
            weight, gradient = layer.weight.detach(), torch.randn_like(layer(x))
            if x.dim() == 4 and asked.onednn:
                x = x.to_mkldnn()
                gradient = torch.conv2d(x, weight, padding=1)
            work.append((weight, x, gradient, number > 0))
        for _ in range(total // cores + (share < total % cores)):
            for weight, x, gradient, needs_input_gradient in work:
                if x.dim() == 2 and asked.onednn:
                    product(x, weight)
                    product(gradient.t(), x.t())
                    if needs_input_gradient:
                        product(gradient, weight.t())
                elif x.dim() == 2:
                    x @ weight.t()
                    gradient.t() @ x
                    if needs_input_gradient:
                        gradient @ weight
                else:
                    torch.conv2d(x, weight, padding=1)
                    torch.ops.aten.convolution_backward(
                        gradient, x, weight, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (needs_input_gradient, True, False)
                    )


if __name__ == "__main__":
    if "SHARE" in os.environ:
        products()
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        children = [
            subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, **KEEP, "CORES": str(cores), "SHARE": str(share)})
            for share in range(cores)
        ]
        sys.exit(max(child.wait() for child in children))
