"""What a probe says of an entry of the zoo beside what is true of it; computed once an entry and process."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import naive
import numpy as np
import torch
import zoo
from entry import Entry
from torch import Tensor, nn

import initbench
from initbench.nn.inputs import as_inputs
from initbench.nn.layers import explain
from initbench.probing import run as probing


@dataclass(frozen=True)
class LookedAt:
    """A probe of a model as it is, the naive pass, the notes on its layers, and what the probe changed in it."""

    probe: initbench.Probe
    naive: naive.Pass
    notes: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def said(self) -> str:
        """Every sentence of the probe and the notes."""
        return "\n".join([str(self.probe), *self.notes])


def look(entry: Entry) -> LookedAt:
    """Raises: whatever the probe raises, each time."""
    found = _look(entry.name)
    if isinstance(found, Exception):
        raise found
    return found


@functools.cache
def _look(name: str) -> LookedAt | Exception:
    entry = next(entry for entry in zoo.ENTRIES if entry.name == name)
    inputs, labels = entry.inputs(), labels_of(entry)
    expected = naive.passed(entry.model(), inputs, labels)
    model = entry.model()
    some_state(model)
    before, remedies = State(model, inputs), probing.REMEDIES
    probing.REMEDIES = ()  # that another scheme would do better is not asked here
    try:
        said = initbench.probe(model, as_is=True, inputs=inputs, labels=labels)
        changed = before.differences(model, inputs)
        return LookedAt(said, expected, explain(model, as_inputs(inputs)).notes, changed)
    except Exception as error:  # noqa: BLE001 - every test of the entry shows it
        return error
    finally:
        probing.REMEDIES = remedies


def labels_of(entry: Entry) -> Tensor | None:
    """A label for each input of a model that gives logits."""
    if not entry.logits:
        return None
    model = entry.model().eval()
    with torch.no_grad():
        output = next(naive.tensors(naive.run(model, entry.inputs())))
    return torch.arange(len(output)) * 7 % min(10, output.shape[1])


def some_state(model: nn.Module) -> None:
    """A model in the middle of somebody's work: gradients, a module in evaluation mode, a frozen bias."""
    model.train()
    parameters = list(model.parameters())
    parameters[0].grad = torch.full_like(parameters[0], 0.5)
    next(iter(module for module in model.modules() if not list(module.children()))).eval()


class State:
    """All that a probe must leave as it is."""

    def __init__(self, model: nn.Module, inputs: object) -> None:
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict(keep_vars=True).items()}
        self.identities = {name: id(value) for name, value in model.named_parameters()}
        self.attributes = {name: sorted(vars(module)) for name, module in model.named_modules()}
        self.flags = [module.training for module in model.modules()]
        self.gradients = {name: None if value.grad is None else value.grad.clone() for name, value in model.named_parameters()}
        self.trained = {name: value.requires_grad for name, value in model.named_parameters()}
        self.hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]
        self.outputs = _outputs(model, inputs)
        self._restore(model)
        self.given = [tensor.clone() for tensor in naive.tensors(inputs)]
        self.random = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()

    def _restore(self, model: nn.Module) -> None:
        """Puts back what the passes of this class have changed themselves."""
        for name, value in model.state_dict(keep_vars=True).items():
            value.data.copy_(self.tensors[name])

    def differences(self, model: nn.Module, inputs: object) -> tuple[str, ...]:
        """What is no longer as it was."""
        wrong = []
        state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
        if not torch.equal(state[0], self.random[0]) or state[1] != self.random[1] or not (state[2] == self.random[2]).all():
            wrong.append("random state")
        for name, value in model.state_dict().items():
            if not torch.equal(value, self.tensors[name]) and not bool((value.isnan() & self.tensors[name].isnan()).all()):
                wrong.append(f"tensor {name}")
        if {name: id(value) for name, value in model.named_parameters()} != self.identities:
            wrong.append("identity of parameters")
        if [module.training for module in model.modules()] != self.flags:
            wrong.append("training flags")
        if [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()] != self.hooks:
            wrong.append("hooks")
        if {name: sorted(vars(module)) for name, module in model.named_modules()} != self.attributes:
            wrong.append("attributes of modules")
        for name, value in model.named_parameters():
            kept = self.gradients[name]
            if (kept is None) != (value.grad is None) or (kept is not None and not torch.equal(kept, value.grad)):
                wrong.append(f"gradient of {name}")
            if value.requires_grad != self.trained[name]:
                wrong.append(f"requires_grad of {name}")
        if any(not torch.equal(one, other) for one, other in zip(naive.tensors(inputs), self.given, strict=True)):
            wrong.append("inputs")
        after = _outputs(model, inputs)
        if any(not torch.equal(one, other) for one, other in zip(after, self.outputs, strict=True)):
            wrong.append("outputs")
        return tuple(wrong)


def _outputs(model: nn.Module, inputs: object) -> list[Tensor]:
    """What the model gives in the modes that it is in and in evaluation mode, with the same noise."""
    flags, outputs = [module.training for module in model.modules()], []
    for training in (None, False):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            before = np.random.get_state()
            np.random.seed(5)
            if training is not None:
                model.eval()
            outputs += [tensor.clone() for tensor in naive.tensors(naive.run(model, inputs))]
            np.random.set_state(before)
    for module, flag in zip(model.modules(), flags, strict=True):
        module.training = flag
    return outputs
