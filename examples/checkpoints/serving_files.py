"""What a server wants beside weights, config and `tokenizer.json`: the tokenizer's settings and a chat template.

python examples/checkpoints/serving_files.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.checkpoints.chat_template import chat_template
from runtime import chat


def save(folder: Path) -> None:
    """Into a checkpoint's folder, next to its `config.json`."""
    config = json.loads((folder / "config.json").read_text())
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "eos_token": chat.IM_END,
        "pad_token": "<|endoftext|>",
        "model_max_length": config["max_position_embeddings"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(chat_template())


if __name__ == "__main__":
    save(Path(sys.argv[1]))
