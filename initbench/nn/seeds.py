"""A random generator for a purpose: the same (seed, purpose, name) gives the same numbers, whatever else is drawn."""

import hashlib

import torch


def derived_seed(seed: int, purpose: str, name: str = "") -> int:
    """A 63-bit seed that depends on all three, and on nothing else (machine, version, order of calls)."""
    digest = hashlib.blake2b(f"{seed}\x1f{purpose}\x1f{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, purpose: str, name: str = "") -> torch.Generator:
    """A CPU generator of its own; the global generator is neither read nor advanced."""
    return torch.Generator(device="cpu").manual_seed(derived_seed(seed, purpose, name))
