"""Generators: one for each purpose and name, the same everywhere, none of them the global one."""

import torch

from initbench.nn.seeds import derived_seed, generator


def test_the_same_purpose_gives_the_same_numbers():
    first = torch.randn(5, generator=generator(3, "init", "fc.weight"))
    assert torch.equal(first, torch.randn(5, generator=generator(3, "init", "fc.weight")))


def test_seed_purpose_and_name_all_matter():
    seeds = {derived_seed(*key) for key in [(0, "init", "a"), (1, "init", "a"), (0, "order", "a"), (0, "init", "b"), (0, "inita", "")]}
    assert len(seeds) == 5


def test_the_seed_of_a_name_never_changes():
    assert derived_seed(0, "init", "fc.weight") == 5763937107929170125
    assert 0 <= derived_seed(2**40, "x") < 2**63


def test_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.randn(3)
    torch.manual_seed(1)
    torch.randn(9, generator=generator(0, "init"))
    assert torch.equal(torch.randn(3), expected)
