"""All entries of the zoo."""

from __future__ import annotations

import of_huggingface
import of_timm
import of_torchvision
import plain_sequences
import plain_vectors
import plain_vision

ENTRIES = (
    *plain_vectors.ENTRIES,
    *plain_sequences.ENTRIES,
    *plain_vision.ENTRIES,
    *of_torchvision.ENTRIES,
    *of_huggingface.ENTRIES,
    *of_timm.ENTRIES,
)
