"""Where a token of an exported mixture came from: its document, and why that was chosen."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..storage.errors import ConfigError
from ..storage.exported_tokens import ExportedTokens
from ..storage.lake import Lake
from .explaining import explain
from .runs import load_runs

TOKENS_AROUND = 24


def explain_token(lake: Lake | None, folder: Path, position: int) -> dict[str, Any]:
    """Return the token at a position of an exported mixture, what stands around it, and its document's explanation.

    Without a lake, or where the lake does not know the document, `explanation` is None: the raw file and line are the
    export's own. Raises ConfigError where the folder has no tokens, or not so many.
    """
    tokens = ExportedTokens(folder)
    (span,) = tokens.locate([position]).to_pylist()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    offset, last = span["offset"], span["length"] - 1  # the last is the end token
    n_before, n_after = min(offset, TOKENS_AROUND), max(0, min(TOKENS_AROUND, last - offset - 1))
    before = tokens.read(position - n_before, n_before).tolist() if n_before else []
    after = tokens.read(position + 1, n_after).tolist() if n_after else []
    number = int(tokens.read(position, 1)[0])
    said = {
        "export": str(folder), "mixture": tokens.manifest["mixture"], "run": tokens.manifest["run"],
        "token": {"id": number, "text": tokenizer.decode([number], skip_special_tokens=False), "end": offset == last},
        "before": tokenizer.decode(before, skip_special_tokens=False),
        "after": tokenizer.decode(after, skip_special_tokens=False), **span,
    }  # fmt: skip
    return {**said, "explanation": lake and _explained(lake, tokens.manifest["run"], span)}


def _explained(lake: Lake, run: str, span: dict[str, Any]) -> dict[str, Any] | None:
    """Return the explanation of a document in the run that an export was written by; of a mixture, in its flows'."""
    record = next((r for r in load_runs(lake) if r.run == run), None)
    if record is None:
        return None
    runs = record.mixture["runs"].values() if record.mixture else [run]
    try:
        return explain(lake, span["doc_id"], corpus=span["corpus"], runs=[*runs])
    except ConfigError:
        return None
