"""Networks on images that people write by hand in plain torch."""

from __future__ import annotations

import torch
from entry import Entry, images, normal
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    """Two levels down and up, with concatenated skips; logits of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.in_, self.down, self.deep = self.double(3, 16), self.double(16, 32), self.double(32, 64)
        self.up1, self.mix1 = nn.ConvTranspose2d(64, 32, 2, stride=2), self.double(64, 32)
        self.up2, self.mix2 = nn.ConvTranspose2d(32, 16, 2, stride=2), self.double(32, 16)
        self.out = nn.Conv2d(16, 5, 1)

    @staticmethod
    def double(inside: int, outside: int) -> nn.Sequential:
        """Two convolutions."""
        first, second = nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        return nn.Sequential(first, nn.BatchNorm2d(outside), nn.ReLU(inplace=True), second, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        a = self.in_(x)
        b = self.down(functional.max_pool2d(a, 2))
        c = self.deep(functional.max_pool2d(b, 2))
        b = self.mix1(torch.cat([self.up1(c), b], dim=1))
        a = self.mix2(torch.cat([self.up2(b), a], dim=1))
        return self.out(a).mean(dim=(2, 3))


def dcgan_generator() -> nn.Module:
    """The generator of Radford et al. with N(0, .02) weights, flattened to logits."""
    layers: list[nn.Module] = [nn.Unflatten(1, (32, 1, 1))]
    for inside, outside, stride, padding in [(32, 64, 1, 0), (64, 32, 2, 1), (32, 16, 2, 1)]:
        layers += [nn.ConvTranspose2d(inside, outside, 4, stride, padding, bias=False), nn.BatchNorm2d(outside), nn.ReLU(True)]
    return gan_start(nn.Sequential(*layers, nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(), nn.Flatten()))


def dcgan_discriminator() -> nn.Module:
    """The discriminator, with two classes."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for width in (16, 32):
        layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, inplace=True)]
    return gan_start(nn.Sequential(*layers, nn.Conv2d(64, 2, 4, bias=False), nn.Flatten()))


def gan_start(model: nn.Module) -> nn.Module:
    """Weights of N(0, .02), scales of norms of N(1, .02)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return model


class VAE(nn.Module):
    """Two heads of an encoder, a sample, a decoder; gives the reconstruction."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.mean, self.log_variance = nn.Linear(64, 48), nn.Linear(48, 8), nn.Linear(48, 8)
        self.decode = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.encode(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        noise = torch.randn_like(mean) if self.training else torch.ones_like(mean)
        return self.decode(mean + noise * torch.exp(0.5 * log_variance))


class Capsules(nn.Module):
    """Primary capsules and one layer of class capsules with three rounds of routing; lengths as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.primary = nn.Conv2d(1, 16, 5, 2), nn.Conv2d(16, 32, 3, 2)
        self.weight = nn.Parameter(0.1 * torch.randn(5, 100, 6, 8))

    @staticmethod
    def squash(x: Tensor) -> Tensor:
        """Length below one."""
        square = x.square().sum(-1, keepdim=True)
        return x * square / ((1 + square) * (square + 1e-8).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(torch.relu(self.conv(x)))
        inside = self.squash(x.reshape(len(x), 4, 8, -1).permute(0, 1, 3, 2).reshape(len(x), -1, 8))
        votes = torch.einsum("cijk,nik->ncij", self.weight, inside)
        logits = torch.zeros(votes.shape[:3], device=x.device)
        for _ in range(3):
            out = self.squash((logits.softmax(1).unsqueeze(-1) * votes).sum(2))
            logits = logits + (votes * out.unsqueeze(2)).sum(-1)
        return out.norm(dim=-1)


class Mixer(nn.Module):
    """MLP-Mixer: tokens and channels by turns."""

    class Block(nn.Module):
        def __init__(self, tokens: int, width: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
            self.channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.norm2(x))

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.blocks, self.norm, self.head = nn.Sequential(*[self.Block(16, 32) for _ in range(4)]), nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.patches(x).flatten(2).transpose(1, 2))).mean(1))


class SqueezeExcite(nn.Module):
    """Residual blocks whose branches are scaled by channel."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
            self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
            self.fc1, self.fc2 = nn.Linear(width, width // 4), nn.Linear(width // 4, width)

        def forward(self, x: Tensor) -> Tensor:
            branch = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
            scale = torch.sigmoid(self.fc2(functional.relu(self.fc1(branch.mean(dim=(2, 3))))))
            return functional.relu(x + branch * scale[:, :, None, None])

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.Sequential(*[self.Block(16) for _ in range(3)]),
            nn.Linear(16, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class FourierOperator(nn.Module):
    """Two Fourier layers: complex weights on the lowest modes, beside a linear layer."""

    class Spectral(nn.Module):
        def __init__(self, width: int, modes: int) -> None:
            super().__init__()
            self.modes, self.weight = modes, nn.Parameter(torch.randn(width, width, modes, dtype=torch.cfloat) / width)

        def forward(self, x: Tensor) -> Tensor:
            spectrum = torch.fft.rfft(x)
            low = torch.einsum("bim,iom->bom", spectrum[..., : self.modes], self.weight)
            return torch.fft.irfft(functional.pad(low, (0, spectrum.shape[-1] - self.modes)), n=x.shape[-1])

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Conv1d(2, 16, 1)
        self.spectral, self.local = (
            nn.ModuleList(self.Spectral(16, 6) for _ in range(2)),
            nn.ModuleList(nn.Conv1d(16, 16, 1) for _ in range(2)),
        )
        self.lower = nn.Conv1d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        for spectral, local in zip(self.spectral, self.local, strict=True):
            x = functional.gelu(spectral(x) + local(x))
        return self.lower(x).squeeze(1)


class LayerScale(nn.Module):
    """ConvNeXt's block with layer scale, by hand."""

    class Block(nn.Module):
        def __init__(self, width: int, scale: float = 1e-6) -> None:
            super().__init__()
            self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
            self.up, self.down, self.gamma = (
                nn.Linear(width, 4 * width),
                nn.Linear(4 * width, width),
                nn.Parameter(scale * torch.ones(width)),
            )

        def forward(self, x: Tensor) -> Tensor:
            branch = self.down(functional.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))))
            return x + (self.gamma * branch).permute(0, 3, 1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 24, 4, 4), nn.Sequential(*[self.Block(24) for _ in range(6)])
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean(dim=(2, 3))))


class Siamese(nn.Module):
    """One encoder on both halves of the channels; the head sees their difference."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        return self.head((self.encoder(first) - self.encoder(second)).abs())


ENTRIES = (
    Entry("unet", UNet, images(16), healthy=True),
    Entry("dcgan-generator", dcgan_generator, normal(4, 32), healthy=True),
    Entry("dcgan-discriminator", dcgan_discriminator, images(32)),
    Entry("vae", VAE, normal(16, 64), healthy=True),
    Entry("capsules", Capsules, images(28, channels=1)),
    Entry("mlp-mixer", Mixer, images(16), healthy=True),
    Entry("squeeze-excite", SqueezeExcite, images(16), healthy=True),
    Entry("fourier-operator", FourierOperator, normal(4, 2, 32)),
    Entry("layer-scale", LayerScale, images(16), healthy=True),
    Entry("siamese", Siamese, images(16, channels=6)),
)
