"""Qwen3.5's and Qwen3.6's text models, from SGLang."""

from sglang.srt.models.qwen3_5_text import EntryClass

__all__ = ["EntryClass"]
