"""Write a causal language model as a Hugging Face folder that transformers, vLLM and `losses` read.

The tokenizer of a new model puts `<|endoftext|>` before every text, which is what it was trained with.
"""

import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..storage.model_files import write_model_json
from .byte_bpe import END, END_ID
from .causal_tokens import TOKENIZER_FILES
from .transformers_loading import no_bar


def save_causal_model(model: Any, folder: Path) -> None:
    """Write configuration and weights in fp32, tied ones once, into a folder that exists."""
    model.config.use_cache = True
    with no_bar():
        model.to("cpu").float().save_pretrained(str(folder))


def save_tokenizer(tokenizer: Tokenizer, context: int, folder: Path) -> None:
    """Write the tokenizer of a new model; `context` is the most tokens that the model reads."""
    from tokenizers import processors

    begun = Tokenizer.from_str(tokenizer.to_str())
    begun.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, END_ID)])
    begun.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END, "add_bos_token": True,
        "model_max_length": context, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    write_model_json(folder / "tokenizer_config.json", config)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Write the files of another model's tokenizer."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
