"""Tiny configurations of the models of Hugging Face's transformers; nothing is downloaded."""

from __future__ import annotations

import torch
from entry import Adapted, Entry, images, normal, tokens
from torch import Tensor, nn

WORDS = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
VISION = {"image_size": 16, "patch_size": 4, "num_channels": 3} | SMALL


def causal(config: str, **how):
    """A language model; the logits of the last token."""
    return of(f"{config}Config", f"{config}ForCausalLM", lambda output: output.logits[:, -1], **(WORDS | how))


def of(config: str, model: str, pick, **how):
    """A model from its configuration and its class, with what is picked of the output."""

    def build() -> nn.Module:
        import transformers

        made = getattr(transformers, config)(**how)
        made._attn_implementation = "eager"
        if hasattr(made, "use_cache"):
            made.use_cache = False
        return Adapted(getattr(transformers, model)(made), pick)

    return build


def logits(output: object) -> Tensor:
    """The logits of a classifier."""
    return output.logits  # type: ignore[attr-defined]


def last_token(output: object) -> Tensor:
    """The logits of the last token."""
    return output.logits[:, -1]  # type: ignore[attr-defined]


def mean_state(output: object) -> Tensor:
    """The mean of the last hidden states."""
    return output.last_hidden_state.mean(1)  # type: ignore[attr-defined]


class Seq2Seq(nn.Module):
    """An encoder and a decoder that are given the same tokens."""

    def __init__(self, model: nn.Module, key: str = "input_ids") -> None:
        super().__init__()
        self.model, self.key = model, key

    def forward(self, x: Tensor) -> Tensor:
        ids = x if self.key == "input_ids" else torch.arange(8, device=x.device).repeat(len(x), 1) + 3
        return self.model(**{self.key: x}, decoder_input_ids=ids, use_cache=False).logits[:, -1]


def seq2seq(config: str, model: str, key: str = "input_ids", **how):
    """A sequence to sequence model."""

    def build() -> nn.Module:
        import transformers

        made = getattr(transformers, config)(**how)
        made._attn_implementation = "eager"
        return Seq2Seq(getattr(transformers, model)(made), key)

    return build


IDS = tokens(60, 10)
LLAMA = SMALL | {"num_key_value_heads": 2, "max_position_embeddings": 32}
MAMBA = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 3, "intermediate_size": 64, "time_step_rank": 4, "use_mambapy": False}
OPT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "max_position_embeddings": 32,
    "word_embed_proj_dim": 32,
}
NEOX = SMALL | {"max_position_embeddings": 32, "rotary_pct": 0.25}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 60,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
}
WHISPER = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 32,
    "init_std": 0.07, "decoder_start_token_id": 1, "begin_suppress_tokens": None, "suppress_tokens": None,
} | WORDS  # fmt: skip
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 32, "decoder_start_token_id": 2,
} | WORDS  # fmt: skip
BERT = SMALL | WORDS | {"max_position_embeddings": 32, "num_labels": 5}


def entry(name: str, build, batch, **more) -> Entry:
    """An entry that needs transformers, healthy as its authors start it."""
    return Entry(f"huggingface-{name}", build, batch, needs="transformers", **({"healthy": True} | more))


ENTRIES = (
    entry("gpt2", of("GPT2Config", "GPT2LMHeadModel", last_token, **WORDS, n_embd=32, n_layer=3, n_head=4, n_positions=32), IDS),
    entry(
        "gpt-neo",
        causal("GPTNeo", hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=32, attention_types=[[["global"], 2]]),
        IDS,
    ),
    entry("gpt-neox", causal("GPTNeoX", **NEOX), IDS),
    entry("opt", causal("OPT", **OPT), IDS),
    entry("bloom", causal("Bloom", hidden_size=32, n_layer=3, n_head=4), IDS),
    entry("llama", causal("Llama", **LLAMA), IDS),
    entry("mistral", causal("Mistral", **LLAMA), IDS),
    entry("qwen2", causal("Qwen2", **LLAMA), IDS),
    entry("gemma", causal("Gemma", head_dim=8, **LLAMA), IDS),
    entry("phi", causal("Phi", **LLAMA), IDS),
    entry("mixtral", causal("Mixtral", num_local_experts=4, **LLAMA), IDS),
    entry("mamba", causal("Mamba", **MAMBA), IDS),
    entry("bert", of("BertConfig", "BertForSequenceClassification", logits, **BERT), IDS),
    entry("roberta", of("RobertaConfig", "RobertaForSequenceClassification", logits, **BERT), IDS),
    entry(
        "distilbert",
        of(
            "DistilBertConfig",
            "DistilBertForSequenceClassification",
            logits,
            dim=32,
            n_layers=3,
            n_heads=4,
            hidden_dim=64,
            num_labels=5,
            max_position_embeddings=32,
            **WORDS,
        ),
        IDS,
    ),
    entry("electra", of("ElectraConfig", "ElectraForSequenceClassification", logits, embedding_size=16, **BERT), IDS),
    entry("albert", of("AlbertConfig", "AlbertForSequenceClassification", logits, embedding_size=16, **BERT), IDS),
    entry("t5", seq2seq("T5Config", "T5ForConditionalGeneration", **T5), IDS),
    entry("bart", seq2seq("BartConfig", "BartForConditionalGeneration", **BART), IDS),
    entry("whisper", seq2seq("WhisperConfig", "WhisperForConditionalGeneration", "input_features", **WHISPER), normal(3, 16, 40)),
    entry("vit", of("ViTConfig", "ViTForImageClassification", logits, num_labels=5, **VISION), images(16)),
    entry("deit", of("DeiTConfig", "DeiTForImageClassification", logits, num_labels=5, **VISION), images(16)),
    entry("beit", of("BeitConfig", "BeitForImageClassification", logits, num_labels=5, **VISION), images(16)),
    entry(
        "dinov2",
        of("Dinov2Config", "Dinov2ForImageClassification", logits, num_labels=5, mlp_ratio=2, **(VISION | {"intermediate_size": 64})),
        images(16),
    ),
    entry(
        "convnext",
        of("ConvNextConfig", "ConvNextForImageClassification", logits, num_labels=5, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1]),
        images(64),
    ),
    entry(
        "resnet",
        of(
            "ResNetConfig",
            "ResNetForImageClassification",
            logits,
            num_labels=5,
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
        ),
        images(64),
    ),
    entry(
        "wav2vec2",
        of(
            "Wav2Vec2Config",
            "Wav2Vec2Model",
            mean_state,
            conv_dim=[16, 16],
            conv_stride=[5, 2],
            conv_kernel=[10, 3],
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            **SMALL,
        ),
        normal(2, 400),
    ),
)
