"""The Arrow schemas of everything that lies in the lake.

They are declared, never guessed: a null in the first record of a file cannot drop or retype a column later. What is not
`text`, `id` or `source` in a raw record is kept as `meta`, one JSON text, because its shape is the user's and differs
from record to record.
"""

import pyarrow as pa

#: What a reader yields: one row a document, ids still missing where the file has none.
RECORD = pa.schema(
    [
        pa.field("doc_id", pa.string()),  # null: the file gives none
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("meta", pa.string()),  # JSON object, verbatim; null where there is none
        pa.field(
            "line", pa.int64()
        ),  # counted from 1: line of a text format, row of Parquet; null: the file is the document
        pa.field("repaired", pa.bool_(), nullable=False),  # lone surrogates were replaced by U+FFFD
    ]
)

#: One row a document in a shard.
DOCUMENT = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("doc_key", pa.uint64(), nullable=False),  # xxh3_64 of doc_id
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("meta", pa.string()),
        pa.field("file", pa.string(), nullable=False),  # as the corpus's glob names it
        pa.field("line", pa.int64()),
        pa.field("n_bytes", pa.int64(), nullable=False),  # of the UTF-8 text
        pa.field("text_hash", pa.binary(16), nullable=False),  # first 16 bytes of SHA-256 of the UTF-8 text
        pa.field("repaired", pa.bool_(), nullable=False),
    ]
)

#: What could not be read.
QUARANTINE = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64()),  # null: the file as a whole, or what follows the damage
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),  # first 4 KB
    ]
)

#: Rows of a snapshot's shards that are not documents of the snapshot.
EXCLUDED = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # repeated id | superseded file
        pa.field("ref", pa.string()),  # file:line of the record that stays
    ]
)

#: One row a document that entered a step.
SELECTION = pa.schema(
    [
        pa.field("selection", pa.string(), nullable=False),  # key of the selection
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("doc_key", pa.uint64(), nullable=False),
        pa.field("n_tokens", pa.int64(), nullable=False),  # of the run's tokenizer
        pa.field("score", pa.float64()),
        pa.field("rank", pa.int64()),  # counted from 1 in the order of the cut, within its group
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),  # why it was dropped, or flagged by a step that keeps it; else null
        pa.field("ref", pa.string()),  # the document that stands for it, or the evaluation document that it repeats
        pa.field("step", pa.string(), nullable=False),
        pa.field("multiplicity", pa.int32(), nullable=False),
    ]
)

#: One row a cluster: what a round of a refined step did with it, clusters in their order.
ROUND = pa.schema(
    [
        pa.field("cluster", pa.int64(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),  # its share of the round's budget
        pa.field("mean_score", pa.float64()),  # null: nothing of it was scored
        pa.field("scored", pa.int64(), nullable=False),  # documents whose numbers make the mean
        pa.field("chosen", pa.int64(), nullable=False),  # documents that this round chose
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("asked", pa.int64(), nullable=False),  # from here on in the unit of the budget: its share
        pa.field("quota", pa.int64(), nullable=False),  # after redistribution
        pa.field("achieved", pa.int64(), nullable=False),
        pa.field("shortfall", pa.int64(), nullable=False),
        pa.field("unmet", pa.int64(), nullable=False),  # of the whole round's budget: what no cluster could take
        pa.field("edge_rank", pa.uint64(), nullable=False),  # the first of its documents that is out
        pa.field("edge_doc_id", pa.string()),
    ]
)

#: One row a document that a refined step chose.
CHOSEN_IN_ROUND = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("round", pa.int64(), nullable=False),  # counted from 1
    ]
)
