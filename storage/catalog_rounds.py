"""The rounds of refined steps in the catalogue: `rounds`, a row a round and cluster, and the round of each document."""

from pathlib import Path

from .lake import Lake

OF_ITS_ROUND = "parse_path(filename)[-2] as selection, parse_filename(filename, true)::BIGINT as round, "
OF_ITS_CHOICE = "parse_path(filename)[-3] as selection, parse_filename(filename, true) as shard, "

ROUNDS = """
    select s.run, s.position, s.step, r.round, r.cluster, r.weight, r.mean_score, r.scored, r.chosen, r.tokens
    from round_rows r join steps s using (selection)"""
SCORES = """
    select s.run, s.step, s.corpus, s.doc_id, s.score, s.rank, r.round, s.shard, s.row
    from selection_steps s left join chosen_rows r using (selection, shard, row) where s.score is not null"""


def round_files(lake: Lake) -> list[Path]:
    """Return what rounds did with the clusters, a file a round."""
    return sorted(lake.rounds("x").parent.glob("*/*.parquet"))


def choice_files(lake: Lake) -> list[Path]:
    """Return in which round the documents were chosen, a file a selection and shard."""
    return sorted(lake.rounds("x").parent.glob("*/documents/*.parquet"))
