"""The entries of `outputs`: the forms in which the chosen documents are written."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..storage.errors import ConfigError
from .amounts import Size
from .strict import Strict

TOKENS = {"tokens": ("uint16", "uint32"), "megatron": ("uint16", "int32")}
"""The forms that hold tokens, and the types that they can have; the first where the vocabulary fits into it."""
_OF_TOKENS = ("tokenizer", "end", "dtype")


class Output(Strict):
    """One form in which the chosen documents are written."""

    format: Literal["parquet", "jsonl.zst", "mds", "tokens", "megatron", "ids"] = Field(
        "parquet",
        description="mds: for MosaicML's streaming; tokens: memory maps of token ids; megatron: the same with "
        "Megatron-LM's index; ids: no texts",
    )
    shard_bytes: Size = Field(128 << 20, description="most bytes of text in one file")
    tokenizer: str | None = Field(
        None, description="tokens, megatron: path of a tokenizer.json | Hub name; default: the flow's"
    )
    end: int | str | None = Field(
        None, description="tokens, megatron: what follows each document, a token or its id; default: <|endoftext|>"
    )
    dtype: Literal["auto", "uint16", "uint32", "int32"] | None = Field(
        None, description="tokens: uint16 or uint32; megatron: uint16 or int32; default: what the vocabulary needs"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Output":
        given = [name for name in _OF_TOKENS if getattr(self, name) is not None]
        if self.format not in TOKENS and given:
            raise ValueError(f"`{given[0]}` belongs to the formats {' and '.join(TOKENS)}, not to {self.format}")
        types = TOKENS.get(self.format, ())
        if self.dtype not in (None, "auto", *types):
            raise ValueError(f"`format: {self.format}` has no type {self.dtype}, expected auto, {' or '.join(types)}")
        return self


def make_output(given: Mapping[str, Any]) -> Output:
    """Return an output of the keys that are given, not None. Raises ConfigError."""
    try:
        return Output.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        found = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors())
        raise ConfigError("output: " + "; ".join(one.replace("Value error, ", "") for one in found)) from None
