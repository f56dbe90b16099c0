"""Batches on the device: normalization, order, augmentation, the fixed probe batch."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from initbench.datasets import synthetic
from initbench.errors import ConfigError, DataError
from initbench.question.config import Ref
from initbench.training import batches
from initbench.training.job import build_task

CPU = torch.device("cpu")
PLAIN = torch.contiguous_format
SPLITS = synthetic.load(Path(), n=50, test=20, shape=[3, 6, 5], classes=4)
CLASSIFICATION = build_task(Ref(name="classification"))
DATA = batches.to_device(SPLITS, CLASSIFICATION, CPU)


def feed(count, *, seed=0, layout=PLAIN, augment=False, batch_size=16):
    source = DATA.batches(seed=seed, batch_size=batch_size, layout=layout, augment=augment)
    return [(inputs.clone(), labels.clone()) for inputs, labels in islice(source, count)]


@pytest.mark.parametrize("layout", [PLAIN, torch.channels_last])
def test_images_are_normalized_with_mean_and_deviation_of_each_channel(layout):
    mean, std = (torch.tensor(values)[:, None, None] for values in (SPLITS.mean, SPLITS.std))
    expected = (SPLITS.x_train.double() / 255 - mean) / std
    normalized = batches.normalize(DATA.x_train, DATA.pixels, layout)
    assert torch.allclose(normalized.double(), expected, atol=1e-5)
    assert normalized.is_contiguous(memory_format=layout)
    assert normalized.mean((0, 2, 3)).abs().max() < 1e-5


def test_a_channel_that_never_changes_stays_finite():
    constant = synthetic.load(Path(), n=50, test=20, classes=4)
    constant.x_train.fill_(7)
    data = batches.to_device(replace(constant, mean=(7 / 255,), std=(0.0,)), CLASSIFICATION, CPU)
    assert batches.normalize(data.x_train, data.pixels, PLAIN).abs().max() < 1


def test_an_epoch_shows_each_image_once_and_drops_the_incomplete_batch():
    order = batches.epoch_order(3, 0, 50)
    assert sorted(order.tolist()) == list(range(50))
    labels = torch.cat([labels for _, labels in feed(3, seed=3)])
    assert torch.equal(labels, SPLITS.y_train[order[:48]])


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    torch.manual_seed(1)
    first = batches.epoch_order(0, 0, 50)
    torch.manual_seed(2)
    assert torch.equal(batches.epoch_order(0, 0, 50), first)
    assert not torch.equal(batches.epoch_order(0, 1, 50), first)
    assert not torch.equal(batches.epoch_order(1, 0, 50), first)


def test_inputs_and_labels_stay_together_in_every_epoch():
    known = {SPLITS.x_train[index].numpy().tobytes(): int(SPLITS.y_train[index]) for index in range(50)}
    raw = (torch.tensor(SPLITS.std)[:, None, None] * 255, torch.tensor(SPLITS.mean)[:, None, None] * 255)
    for inputs, labels in feed(7):
        images = (inputs * raw[0] + raw[1]).round().to(torch.uint8)
        assert [known[image.numpy().tobytes()] for image in images] == labels.tolist()


@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 6, 6)])
def test_augmentation_crops_from_black_padding_and_flips(shape):
    channels, height, width = shape
    images = torch.randint(1, 256, (6, height, width, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    moves = torch.tensor([[4, 4, 0], [4, 4, 1], [0, 0, 0], [8, 8, 0], [2, 5, 1], [7, 1, 0]])
    moved = batches.augmented(images, moves)
    for image, (down, right, flip), result in zip(images, moves.tolist(), moved, strict=True):
        padded = torch.zeros(height + 8, width + 8, channels, dtype=torch.uint8)
        padded[4 : 4 + height, 4 : 4 + width] = image.flip(1) if flip else image
        assert torch.equal(result, padded[down : down + height, right : right + width])


def test_augmentation_is_the_same_for_the_same_seed_and_moves_every_way():
    first, again, other = (feed(4, seed=seed, augment=True) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    moves = batches.epoch_moves(0, 0, 2000)
    assert [sorted(set(moves[:, column].tolist())) for column in range(3)] == [list(range(9)), list(range(9)), [0, 1]]


def test_augmentation_changes_neither_order_nor_labels():
    plain, moved = feed(4), feed(4, augment=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(plain, moved, strict=True))


def test_the_probe_batch_is_fixed_and_no_larger_than_the_data():
    inputs, labels = DATA.probe_batch(10, PLAIN)
    again, _ = DATA.probe_batch(10, PLAIN)
    assert torch.equal(inputs, again)
    assert (inputs.shape, labels.shape) == ((10, 3, 6, 5), (10,))
    assert len(DATA.probe_batch(500, PLAIN)[0]) == 50


def test_a_schemes_batches_differ_by_index_and_are_the_same_for_a_seed():
    first, again = DATA.scheme_batches(0, PLAIN), DATA.scheme_batches(0, PLAIN)
    assert torch.equal(first(8, 0)[0], again(8, 0)[0])
    assert not torch.equal(first(8, 0)[0], first(8, 1)[0])
    assert not torch.equal(first(8, 0)[0], DATA.scheme_batches(1, PLAIN)(8, 0)[0])
    assert first(40, 3)[0].shape == (40, 3, 6, 5)


def test_networks_with_convolutions_are_channels_last_on_the_cpu():
    assert batches.memory_format(nn.Sequential(nn.Conv2d(3, 4, 3)), CPU) is torch.channels_last
    assert batches.memory_format(nn.Sequential(nn.Linear(3, 4)), CPU) is PLAIN
    assert batches.memory_format(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.device("cuda")) is PLAIN


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x_test": torch.zeros(20, 3, 6, 5)}, r"gives x_test as torch.float32 \(20, 3, 6, 5\). Images are uint8"),
        ({"x_train": torch.zeros(50, 6, 5, dtype=torch.uint8)}, r"gives x_train as torch.uint8 \(50, 6, 5\)"),
        ({"y_train": torch.zeros(50)}, "gives y_train as torch.float32"),
        ({"y_test": torch.zeros(19, dtype=torch.int64)}, r"gives y_test as torch.int64 \(19,\). Labels are int64"),
    ],
    ids=["float images", "no channels", "float labels", "too few labels"],
)
def test_a_data_set_of_other_types_is_refused(change, says):
    with pytest.raises(DataError, match=says):
        batches.to_device(replace(SPLITS, **change), CLASSIFICATION, CPU)


def test_a_batch_larger_than_the_data_is_refused():
    DATA.check_batch_size(50)
    with pytest.raises(ConfigError, match=r"train.batch_size is 51, but synthetic has 50 training examples"):
        DATA.check_batch_size(51)
