"""The smallest model of each family (module) of timm, with fewer blocks where its builder takes that; no weights are downloaded."""

from __future__ import annotations

from entry import Entry, images
from torch import nn

FAMILIES = (
    ("beit", "beit_base_patch16_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("byoanet", "lambda_resnet26t", 64, {}),
    ("byobnet", "test_byobnet", 64, {"img_size": 64}),
    ("cait", "cait_xxs24_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("coat", "coat_tiny", 64, {"img_size": 64, "serial_depths": (1, 1, 1, 1), "parallel_depth": 1, "embed_dims": (16, 16, 16, 16)}),
    ("convit", "convit_tiny", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("convmixer", "convmixer_768_32", 64, {}),
    ("convnext", "test_convnext", 64, {"depths": (1, 1, 1, 1)}),
    ("cpubone", "cpubone_nano", 64, {}),
    ("crossvit", "crossvit_tiny_240", 64, {"depth": ((1, 1, 0), (1, 1, 0))}),
    ("csatv2", "csatv2", 64, {}),
    ("cspnet", "cs3darknet_focus_s", 64, {}),
    ("cspnext", "cspnext_tiny", 64, {"depths": (1, 1, 1, 1)}),
    ("davit", "davit_tiny", 64, {"depths": (1, 1, 1, 1), "embed_dims": (16, 32, 48, 64), "num_heads": (1, 2, 2, 2)}),
    ("deepseek_vit", "deepseek_vit_412m", 224, {"img_size": 224, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("deit", "deit_tiny_patch16_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("densenet", "densenet121", 64, {"block_config": (2, 2, 2, 2)}),
    ("dla", "dla46x_c", 64, {}),
    ("dpn", "dpn48b", 64, {}),
    ("edgenext", "edgenext_xx_small", 64, {"depths": (1, 1, 1, 1)}),
    ("efficientformer", "efficientformer_l1", 224, {"img_size": 224, "depths": (1, 1, 1, 1)}),
    ("efficientformer_v2", "efficientformerv2_s0", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    ("efficientnet", "test_efficientnet", 64, {}),
    ("efficientvim", "efficientvim_m1", 64, {}),
    ("efficientvit_mit", "efficientvit_b0", 64, {"depths": (1, 1, 1, 1)}),
    ("efficientvit_msra", "efficientvit_m0", 64, {"img_size": 64}),
    ("eva", "vit_tiny_patch16_dinov3_qkvb", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("fasternet", "fasternet_t0", 64, {"depths": (1, 1, 1, 1)}),
    ("fastvit", "fastvit_t8", 64, {}),
    ("focalnet", "focalnet_tiny_srf", 64, {}),
    ("gcvit", "gcvit_xxtiny", 64, {"img_size": 64}),
    ("gemma4_vit", "gemma4_vit_167m", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("ghostnet", "ghostnet_050", 64, {}),
    ("hardcorenas", "hardcorenas_b", 64, {}),
    ("hgnet", "hgnetv2_b0", 64, {}),
    ("hiera", "hiera_tiny_224", 64, {"img_size": 64, "embed_dim": 24, "stages": (1, 1, 2, 1)}),
    ("hieradet_sam2", "sam2_hiera_tiny", 64, {"embed_dim": 24, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)}),
    ("hrnet", "hrnet_w18_small", 64, {}),
    ("iformer", "iformer_t", 64, {}),
    ("inception_next", "inception_next_atto", 64, {"depths": (1, 1, 1, 1)}),
    ("inception_v3", "inception_v3", 80, {}),
    ("lcnetv2", "lcnetv2_small", 64, {"depths": (1, 1, 1, 1)}),
    ("levit", "levit_128s", 64, {"img_size": 64, "depth": (1, 1, 1)}),
    ("lowformer", "lowformer_b0", 64, {}),
    ("mambaout", "test_mambaout", 64, {"depths": (1, 1, 1, 1)}),
    ("maxxvit", "test_coatnet", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    ("metaformer", "poolformerv2_s12", 64, {}),
    ("mlp_mixer", "gmlp_ti16_224", 64, {"img_size": 64}),
    ("mobilenetv3", "mobilenetv3_small_050", 64, {}),
    ("mobilenetv5", "mobilenetv5_base", 64, {"channel_multiplier": 0.1}),
    ("mobilevit", "mobilevit_xxs", 64, {"img_size": 64}),
    ("mvitv2", "mvitv2_tiny", 64, {"img_size": 64}),
    ("naflexvit", "naflexvit_base_patch16_parfac_gap", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("nasnet", "nasnetalarge", 64, {"num_features": 192, "stem_size": 16}),
    ("nest", "nest_tiny", 64, {"img_size": 64}),
    ("nextvit", "nextvit_small", 64, {}),
    ("nfnet", "test_nfnet", 64, {"depths": (1, 1, 1, 1)}),
    ("pit", "pit_ti_224", 64, {"img_size": 64}),
    ("pvt_v2", "pvt_v2_b0", 64, {"depths": (1, 1, 1, 1)}),
    ("qwen3_vit", "qwen3_vit_88m", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("rdnet", "rdnet_tiny", 64, {"num_init_features": 16, "growth_rates": (8, 8, 8, 8, 8, 8, 8)}),
    ("regnet", "regnetx_002", 64, {}),
    ("repghost", "repghostnet_050", 64, {}),
    ("repvit", "repvit_m1", 64, {"img_size": 64}),
    ("res2net", "res2next50", 64, {"layers": (1, 1, 1, 1)}),
    ("resnest", "resnest14d", 64, {}),
    ("resnet", "test_resnet", 64, {}),
    ("resnetv2", "resnetv2_18", 64, {"layers": (1, 1, 1, 1), "channels": (32, 64, 96, 128)}),
    ("rexnet", "rexnet_100", 64, {}),
    ("selecsls", "selecsls42", 64, {}),
    ("senet", "legacy_seresnet18", 64, {"layers": (1, 1, 1, 1)}),
    (
        "sequencer",
        "sequencer2d_s",
        64,
        {"img_size": 64, "layers": (1, 1, 1, 1), "embed_dims": (16, 32, 32, 32), "hidden_sizes": (4, 8, 8, 8)},
    ),
    ("shvit", "shvit_s1", 64, {}),
    ("sknet", "skresnet18", 64, {"layers": (1, 1, 1, 1)}),
    ("starnet", "starnet_s050", 64, {"depths": (1, 1, 1, 1)}),
    ("swiftformer", "swiftformer_xs", 64, {"img_size": 64}),
    ("swin_transformer", "swin_tiny_patch4_window7_224", 64, {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1)}),
    (
        "swin_transformer_v2",
        "swinv2_tiny_window16_256",
        64,
        {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
    ),
    (
        "swin_transformer_v2_cr",
        "swinv2_cr_tiny_224",
        64,
        {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
    ),
    ("tiny_vit", "tiny_vit_5m_224", 64, {"depths": (1, 1, 1, 1)}),
    ("tnt", "tnt_s_legacy_patch16_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "inner_dim": 12, "num_heads_outer": 2}),
    ("tresnet", "tresnet_m", 64, {"layers": (1, 1, 1, 1), "width_factor": 0.25}),
    ("twins", "twins_svt_small", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    ("visformer", "visformer_tiny", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("vision_transformer", "vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    ("vision_transformer_relpos", "vit_relpos_small_patch16_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2}),
    (
        "vision_transformer_sam",
        "samvit_base_patch16",
        64,
        {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2, "global_attn_indexes": (1,), "neck_chans": 32},
    ),
    ("vitamin", "vitamin_small_224", 64, {"img_size": 64}),
    ("volo", "volo_d1_224", 64, {"img_size": 64}),
    ("vovnet", "ese_vovnet19b_slim_dw", 64, {}),
    ("xception", "legacy_xception", 64, {}),
    ("xception_aligned", "xception41", 64, {}),
    ("xcit", "xcit_nano_12_p16_224", 64, {"img_size": 64, "depth": 2}),
)
"""Family, name of the model, size of the images, what the builder is given."""
VERSION = "1.0.31"
"""The release whose families these are, all of them."""
LEFT_OUT = {
    "inception_resnet_v2": "54 million weights, of fixed width",
    "inception_v4": "41 million weights, of fixed width",
    "pnasnet": "82 million weights, of fixed width",
    "vgg": "129 million weights, of fixed width; torchvision's is in the zoo",
}
HEALTHY = frozenset([
    "beit", "cait", "convnext", "deit", "densenet", "efficientnet", "eva", "mixer", "mobilenetv3", "nfnet", "regnet", "resnet",
    "resnetv2", "rexnet", "senet", "swin_transformer", "swin_transformer_v2", "visformer", "vision_transformer", "xcit", "hrnet", "dla",
])  # fmt: skip
"""Families whose published start is known to pass the signal."""

FAULTS = {
    "cait": {
        "verdict": "the class token reads the patches through branches of layer scale 1e-5 alone, and a gradient that is small by this "
        "factor is said not to reach the first layers",
    },
}
"""What is still wrong, by property."""


def entry(family: str, name: str, size: int, how: dict[str, object]) -> Entry:
    """The entry of a family."""

    def build() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10, **how)

    faults = FAULTS.get(family, {})
    return Entry(f"timm-{family}", build, images(size), healthy=family in HEALTHY, needs="timm", quick=True, faults=faults)


ENTRIES = tuple(entry(*row) for row in FAMILIES)
