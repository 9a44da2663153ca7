"""Token shards: Parquet files of documents, one row each, that training reads directly and DuckDB can query."""

from reelmill.tokenize.shards.format import KINDS, TOKENS_SCHEMA, Footer, document_row, read_footer
from reelmill.tokenize.shards.index import Selection, ShardIndex
from reelmill.tokenize.shards.rowgroups import RowGroups
from reelmill.tokenize.shards.writing import verify_shard, write_shard

__all__ = [
    "KINDS",
    "TOKENS_SCHEMA",
    "Footer",
    "RowGroups",
    "Selection",
    "ShardIndex",
    "document_row",
    "read_footer",
    "verify_shard",
    "write_shard",
]
