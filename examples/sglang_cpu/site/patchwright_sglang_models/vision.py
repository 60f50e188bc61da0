"""The same with a vision tower, as the published checkpoints name their architecture."""

from sglang.srt.models.qwen3_5 import EntryClass

__all__ = ["EntryClass"]
