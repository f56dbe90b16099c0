"""A random generator for a purpose: the same (seed, purpose, name) gives the same numbers, whatever else is drawn."""

import hashlib
import random
from typing import Any

import numpy as np
import torch


def derived_seed(seed: int, purpose: str, name: str = "") -> int:
    """A 63-bit seed that depends on all three, and on nothing else (machine, version, order of calls)."""
    digest = hashlib.blake2b(f"{seed}\x1f{purpose}\x1f{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, purpose: str, name: str = "") -> torch.Generator:
    """A CPU generator of its own; the global generator is neither read nor advanced."""
    return torch.Generator(device="cpu").manual_seed(derived_seed(seed, purpose, name))


def seed_generators(python: int, numpy: int, torchs: int) -> None:
    """Begins the generators that anybody's code may draw from on the CPU, each with its own seed."""
    random.seed(python)
    np.random.seed(numpy % 2**32)
    torch.default_generator.manual_seed(torchs)


def random_states() -> dict[str, Any]:
    """The states of the generators that anybody's code may draw from: Python's, numpy's and torch's; CUDA's only where it is in use.

    Numbers, lists and tensors alone, so that they can be written to a file and read without running code.
    """
    version, numbers, gauss = random.getstate()
    states = {"python": [version, list(numbers), gauss], "numpy": _plain(np.random.get_state(legacy=False)), "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Puts back what `random_states` gave."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])


def same_random_states(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether nothing was drawn between the two, on the CPU."""
    return all(one[name] == other[name] for name in ("python", "numpy")) and torch.equal(one["torch"], other["torch"])


def _plain(value: Any) -> Any:
    """Arrays as lists, within dicts too."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
