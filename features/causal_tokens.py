"""The tokenizer of a causal language model: its `tokenizer.json`, and what it puts before a text.

A BOS token is context for the first real token; without one, the first token has nothing to be predicted from. As in
transformers, `add_bos_token` in `tokenizer_config.json` decides where it stands; else the tokenizer's template does.
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from ..storage.model_files import model_json

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip


def read_tokenizer(folder: Path) -> tuple[Tokenizer, tuple[int, ...]]:
    """Return the tokenizer, without truncation and padding, and the ids it begins with. Raises ConfigError."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(f'losses: "{folder}" has no tokenizer.json, expected a model with a fast tokenizer')
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ConfigError(f'losses: "{path}" is not a tokenizer.json ({error}); get the model again') from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = model_json(folder / "tokenizer_config.json") or {}
    adds = config.get("add_bos_token")
    prefix = () if adds is False else _template(tokenizer)
    return tokenizer, prefix or (_bos(tokenizer, config) if adds else ())


def begin_tokens(folder: Path) -> tuple[int, ...]:
    """Return what stands before a document in training: what the tokenizer begins with, else the end of text."""
    if prefix := read_tokenizer(folder)[1]:
        return prefix
    end = (model_json(folder / "config.json") or {}).get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    return (end,) if isinstance(end, int) else ()


def _template(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the special tokens before a text; those after it are left out."""
    encoding = tokenizer.encode("a")
    n = next((i for i, special in enumerate(encoding.special_tokens_mask) if not special), 0)
    return tuple(encoding.ids[:n])


def _bos(tokenizer: Tokenizer, config: dict[str, Any]) -> tuple[int, ...]:
    token = config.get("bos_token")
    found = tokenizer.token_to_id(token["content"] if isinstance(token, dict) else str(token))
    return () if found is None else (int(found),)
