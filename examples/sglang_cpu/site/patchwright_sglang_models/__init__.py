"""The models that SGLang imports at its start (SGLANG_EXTERNAL_MODEL_PACKAGE), instead of all two hundred."""
