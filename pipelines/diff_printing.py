"""The diff of two runs for people: in the lines of a run, and as tables."""

from collections.abc import Mapping
from typing import Any

from .printing import print_line, print_table


def diff_sentences(diff: Mapping[str, Any]) -> list[str]:
    """Return what a run's record says of its diff in short."""
    if not diff:
        return []
    if "error" in diff:
        return [f"no diff against run {diff['previous']}: {diff['error']}"]
    if diff["unchanged"]:
        return [f"the same documents of the same files as run {diff['previous']}"]
    documents, tokens, corpus = diff["documents"], diff["tokens"], diff["corpus_documents"]
    changed = f", {documents['changed']:,} with another text" if documents["changed"] else ""
    return [
        f"against run {diff['previous']}: {_moved(documents, 'in')}, {_moved(documents, 'out')}, "
        f"{documents['kept']:,} kept{changed}",
        f"{documents['then']:,} to {documents['now']:,} documents, {tokens['then']:,} to {tokens['now']:,} "
        f"tokens; of the corpus {corpus['new']:,} new, {corpus['gone']:,} gone, {corpus['changed']:,} changed",
    ]


def _moved(documents: Mapping[str, Any], way: str) -> str:
    parts = ", ".join(f"{n:,} {why}" for why, n in documents[way].items() if n)
    return f"{sum(documents[way].values()):,} {way}" + (f" ({parts})" if parts else "")


def print_diff_in_short(diff: Mapping[str, Any]) -> None:
    """Print what a run's record says of its diff."""
    for at, sentence in enumerate(diff_sentences(diff)):
        print_line(f"{'' if at else 'diff':10}{sentence}")


def print_diff(diff: Mapping[str, Any]) -> None:
    """Print a whole diff."""
    print_line(f"run       {diff['run']}   {diff['flow']}")
    print_diff_in_short(diff)
    if not diff["same_tokenizer"]:
        print_line("          the two runs count tokens with different tokenizers")
    if found := diff.get("files"):
        kinds = ("new", "changed", "gone", "touched", "trusted")
        print_line(
            f"files     {', '.join(f'{found[kind]:,} {kind}' for kind in kinds)}; "
            f"{found['bytes_digested']:,} bytes digested, {found['bytes_unchanged']:,} of them as they were"
        )
    rows = [[row["source"], row["documents_then"], row["documents_now"], row["tokens_then"], row["tokens_now"],
             row["tokens_now"] - row["tokens_then"]] for row in diff["sources"]]  # fmt: skip
    print_table(["source", "documents then", "now", "tokens then", "now", "more"], rows)
    if diff["scores"]:
        head = ["step", "scores then", "now", "new", "PSI", "KS", "PSI of new", "KS of new", "NaN then", "NaN now", ""]
        print_table(head, [_drift_row(row) for row in diff["scores"]])


def _drift_row(row: Mapping[str, Any]) -> list[Any]:
    scored, nan = row["scored"], row["nan"]
    measures = [row[which][name] for which in ("all", "new") for name in ("psi", "ks")]
    note = "" if row["comparable"] else "scored otherwise then"
    return [row["step"], scored["then"], scored["now"], scored["new"], *measures, nan["then"], nan["now"], note]
