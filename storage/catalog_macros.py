"""What people ask of two choices, as table macros: `chosen`, `overlap`, `only_in`, `composition`.

A choice is named by the id of its run, or by its flow: then its newest finished run is meant. An unknown name has no
documents.
"""

from typing import Any

_MACROS = (
    "newest_run(name) as (select max(run) from runs where run = name or (flow = name and status = 'done'))",
    # the documents that a run kept in the end, with their score and place
    """chosen(of_run) as table
       select corpus, doc_id, score, rank, multiplicity, n_tokens, shard, row
       from selection_steps where run = newest_run(of_run) and deciding and kept""",
    # how much two choices share, in documents and in tokens
    """overlap(a, b) as table
       select count(x.doc_id) as documents_a, count(y.doc_id) as documents_b,
              count(*) filter (where x.doc_id is not null and y.doc_id is not null) as documents_both,
              documents_both / nullif(count(*), 0) as jaccard,
              coalesce(sum(x.n_tokens), 0)::bigint as tokens_a, coalesce(sum(y.n_tokens), 0)::bigint as tokens_b,
              coalesce(sum(x.n_tokens) filter (where y.doc_id is not null), 0)::bigint as tokens_both,
              tokens_both / nullif(tokens_a + tokens_b - tokens_both, 0) as jaccard_tokens
       from chosen(a) x full join chosen(b) y on x.corpus = y.corpus and x.doc_id = y.doc_id""",
    # what only the first of two choices has, with its documents' origin, best scores first
    """only_in(a, b) as table
       select x.corpus, x.doc_id, d.source, x.n_tokens, x.score, x.rank, d.file, d.line
       from chosen(a) x left join documents d using (corpus, shard, row)
       anti join chosen(b) y on x.corpus = y.corpus and x.doc_id = y.doc_id
       order by x.score desc nulls last, x.doc_id""",
    # a choice by any expression over `documents`, beside the corpus that it was made from
    """composition(of_run, value_of) as table
       with corpus_of as (select corpus from runs where run = newest_run(of_run)),
       counted as (
           select value_of as value, count(*) as there, sum(d.n_tokens) as tokens_there,
                  count(*) filter (where its_row is not null) as documents,
                  coalesce(sum(d.n_tokens) filter (where its_row is not null), 0)::bigint as tokens
           from documents d left join (
               select corpus as its_corpus, shard as its_shard, row as its_row from chosen(of_run)
           ) on d.corpus = its_corpus and d.shard = its_shard and d.row = its_row
           where d.corpus in (from corpus_of) group by 1)
       select value, documents, tokens, tokens / nullif(sum(tokens) over (), 0) as share,
              tokens_there / nullif(sum(tokens_there) over (), 0) as share_of_corpus, there as documents_of_corpus
       from counted order by tokens desc, value""",
)


def macros(connection: Any) -> None:
    """Create them; the views and tables of the catalogue are there."""
    for macro in _MACROS:
        connection.execute(f"create macro {macro}")
