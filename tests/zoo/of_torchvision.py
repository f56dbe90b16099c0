"""The smallest model of each family of torchvision; transformers with fewer blocks. No weights are downloaded."""

from __future__ import annotations

import torch
from entry import Adapted, Entry, images, normal
from torch import Tensor, nn


def named(name: str, **how):
    """A builder of a model by its name."""

    def build() -> nn.Module:
        from torchvision import models

        return models.get_model(name, weights=None, num_classes=10, **how)

    return build


def of_class(path: str, **how):
    """A builder of a model from its class."""

    def build() -> nn.Module:
        from importlib import import_module

        module, _, name = path.rpartition(".")
        return getattr(import_module(f"torchvision.models.{module}"), name)(**how)

    return build


def segmentation(name: str):
    """A segmentation network, one class a pixel, as logits of the mean."""

    def build() -> nn.Module:
        from torchvision.models import segmentation as models

        return Adapted(getattr(models, name)(weights=None, weights_backbone=None, num_classes=6), mean_of_pixels)

    return build


def mean_of_pixels(output: dict[str, Tensor]) -> Tensor:
    """(N, classes)."""
    return output["out"].mean(dim=(2, 3))


def convnext() -> nn.Module:
    """Two stages of two blocks, layer scale 1e-6."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 2)], num_classes=10)


def resnext() -> nn.Module:
    """Grouped convolutions in bottlenecks."""
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10, groups=8, width_per_group=8)


def alexnet() -> nn.Module:
    """The convolutions of AlexNet with a head for small images."""
    from torchvision.models import alexnet

    model = alexnet(weights=None)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(256, 128), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(128, 10))
    return model


def fcn() -> nn.Module:
    """A fully convolutional head on a small residual network."""
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    return Adapted(FCN(IntermediateLayerGetter(resnet18(weights=None), {"layer4": "out"}), FCNHead(512, 6)), mean_of_pixels)


def vgg() -> nn.Module:
    """The convolutions of VGG-11 with a head for small images."""
    from torchvision.models.vgg import VGG, cfgs, make_layers

    model = VGG(make_layers(cfgs["A"], batch_norm=False), num_classes=10)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Linear(512, 128), nn.ReLU(True), nn.Dropout(), nn.Linear(128, 10))
    return model


def r3d() -> nn.Module:
    """Factorized three-dimensional convolutions."""
    from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

    return VideoResNet(BasicBlock, [Conv2Plus1D] * 4, [1, 1, 1, 1], R2Plus1dStem, num_classes=10)


def s3d() -> nn.Module:
    """Inception with separable convolutions over time."""
    from torchvision.models.video.s3d import S3D

    model = S3D(num_classes=10)
    model.avgpool = nn.AdaptiveAvgPool3d(1)
    return model


def mvit() -> nn.Module:
    """Three blocks of a multiscale vision transformer."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    block = {"kernel_q": [3, 3, 3], "kernel_kv": [3, 3, 3], "stride_kv": [1, 2, 2]}
    blocks = [
        MSBlockConfig(num_heads=1, input_channels=16, output_channels=16, stride_q=[1, 1, 1], **block),
        MSBlockConfig(num_heads=2, input_channels=16, output_channels=32, stride_q=[1, 2, 2], **block),
        MSBlockConfig(num_heads=2, input_channels=32, output_channels=32, stride_q=[1, 1, 1], **block),
    ]
    how = {"residual_pool": True, "residual_with_cls_embed": False, "rel_pos_embed": True, "proj_after_attn": True}
    return MViT((32, 32), 4, blocks, num_classes=10, **how)


def detection() -> nn.Module:
    """The backbone and pyramid of a detector."""
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    return Adapted(resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5), pyramid)


def pyramid(output: dict[str, Tensor]) -> Tensor:
    """(N, channels) of all levels together."""
    return torch.stack([level.mean(dim=(2, 3)) for level in output.values()]).sum(0)


def retina_head() -> nn.Module:
    """The head of RetinaNet on one level."""
    from torchvision.models.detection.retinanet import RetinaNetHead

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 32, 3, padding=1), RetinaNetHead(32, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            found = self.head([self.stem(x).relu()])
            return torch.cat([found["cls_logits"].mean(1), found["bbox_regression"].mean(1)], dim=1)

    return Head()


VIT = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 64, "mlp_dim": 128, "num_classes": 10}
SWIN = {"patch_size": [2, 2], "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4], "num_classes": 10}


def swin_v2() -> nn.Module:
    """Swin with cosine attention and norms after the branches."""
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    return SwinTransformer(**SWIN, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)


ENTRIES = (
    Entry("torchvision-alexnet", alexnet, images(64)),
    Entry("torchvision-convnext", convnext, images(32), healthy=True),
    Entry("torchvision-densenet", of_class("densenet.DenseNet", block_config=(2, 3, 2), num_classes=10), images(32), healthy=True),
    Entry("torchvision-efficientnet", named("efficientnet_b0"), images(64), healthy=True, quick=True),
    Entry("torchvision-googlenet", named("googlenet", init_weights=True), images(64), healthy=True, quick=True),
    Entry("torchvision-inception", named("inception_v3", init_weights=True, aux_logits=False), images(80, 2), quick=True),
    Entry(
        "torchvision-maxvit",
        of_class(
            "maxvit.MaxVit",
            input_size=(32, 32),
            stem_channels=16,
            partition_size=2,
            block_channels=[16, 32],
            block_layers=[1, 1],
            head_dim=8,
            stochastic_depth_prob=0.1,
            num_classes=10,
        ),
        images(32),
        healthy=True,
    ),
    Entry("torchvision-mnasnet", named("mnasnet0_5"), images(64), healthy=True, quick=True),
    Entry("torchvision-mobilenet-v2", named("mobilenet_v2", width_mult=0.5), images(64), healthy=True, quick=True),
    Entry("torchvision-mobilenet-v3", named("mobilenet_v3_small"), images(64), healthy=True),
    Entry("torchvision-regnet", named("regnet_y_400mf"), images(64), healthy=True, quick=True),
    Entry("torchvision-resnet", named("resnet18"), images(64), healthy=True),
    Entry("torchvision-resnext", resnext, images(64), quick=True),
    Entry("torchvision-shufflenet", named("shufflenet_v2_x0_5"), images(64), healthy=True, quick=True),
    Entry("torchvision-squeezenet", named("squeezenet1_1"), images(64), healthy=True),
    Entry("torchvision-swin", of_class("swin_transformer.SwinTransformer", **SWIN), images(16), healthy=True),
    Entry("torchvision-swin-v2", swin_v2, images(16), healthy=True),
    Entry("torchvision-vgg", vgg, images(32), healthy=True),
    Entry("torchvision-vit", of_class("vision_transformer.VisionTransformer", **VIT), images(32), healthy=True),
    Entry("torchvision-fcn", fcn, images(32, 2), quick=True),
    Entry("torchvision-deeplab", segmentation("deeplabv3_mobilenet_v3_large"), images(64, 2), quick=True),
    Entry("torchvision-lraspp", segmentation("lraspp_mobilenet_v3_large"), images(64, 2), quick=True),
    Entry("torchvision-detection-fpn", detection, images(64), healthy=True, quick=True),
    Entry("torchvision-detection-retina-head", retina_head, images(16)),
    Entry("torchvision-video-r3d", r3d, normal(2, 3, 4, 32, 32), healthy=True, quick=True),
    Entry("torchvision-video-s3d", s3d, normal(2, 3, 16, 32, 32), quick=True),
    Entry("torchvision-video-mvit", mvit, normal(2, 3, 4, 32, 32), healthy=True),
)
