"""Five problems that are no image classification, 8 seeds and 4 schemes each: `python benchmarks/problems.py [PROBLEM ...]`.

A GPT and an LSTM on the text, a SIREN on an image, a U-Net on shapes: data inside the package. The deep autoencoder on the full MNIST
(`initbench data get mnist`). Printed: of each scheme the median test loss with its 95 % interval and how many runs trained, and the
command that does the same; after each problem its headline. What is finished is kept in the folder of `--out`.
"""

import argparse
import sys
from pathlib import Path

import initbench
from initbench.statistics.estimates import estimate_text

SEEDS = 8
PROBLEMS = {
    "gpt": ("-c text_gpt", {"config": "text_gpt"}),
    "lstm": ("-c text_lstm", {"config": "text_lstm"}),
    "siren": ("-c siren_image", {"config": "siren_image"}),
    "unet": (
        "torch_default xavier kaiming orthogonal --model unet:width=8 --task segmentation --steps 100 --set train.batch_size=16",
        {
            "schemes": ["torch_default", "xavier", "kaiming", "orthogonal"],
            "model": "unet:width=8",
            "task": "segmentation",
            "steps": 100,
            "settings": ["train.batch_size=16"],
        },
    ),
    "autoencoder": ("-c mnist_autoencoder_deep", {"config": "mnist_autoencoder_deep"}),
}
"""Of each: the words of its command, and what they are in Python."""


def main() -> int:
    """Prints a table of all problems, and a headline of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=f"of {', '.join(PROBLEMS)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("results/problems"), help="where results are kept (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="another number of steps, to see that it works")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds (default: %(default)s)")
    asked = parser.parse_args()
    if unknown := set(asked.problems) - set(PROBLEMS):
        parser.error(f"unknown problem {', '.join(sorted(unknown))}; allowed: {', '.join(PROBLEMS)}")
    headlines = []
    print("| problem | scheme | test loss | trained |\n|---|---|---|---|")
    for name in asked.problems or PROBLEMS:
        words, question = PROBLEMS[name]
        question = {**question, "seeds": asked.seeds, "output": asked.out / name} | ({"steps": asked.steps} if asked.steps else {})
        summary = initbench.compare(**question).summary
        metric = summary.metric_of("final_test_loss")
        for scheme in summary.schemes:
            found = estimate_text(metric, scheme.estimate(metric.name))
            print(f"| {name} | `{scheme.scheme}` | {found} | {scheme.trained} of {len(scheme.seeds)} |", flush=True)
        headlines.append(f"{name}: {summary.headline}.\n    initbench compare {words} --seeds {asked.seeds}")
    print("\n" + "\n".join(headlines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
