"""Read a run folder's tables with plain pyarrow, DuckDB and pandas: python read_tables.py OUT"""

import sys

import duckdb
import pandas as pd
import pyarrow.dataset as ds

out = sys.argv[1]  # a run folder, such as out/sample

samples = ds.dataset(f"{out}/samples").to_table(columns=["sample_id", "kind", "quality_score"])
print(samples.group_by("kind").aggregate([("quality_score", "mean")]).to_pylist())

print(duckdb.sql(f"SELECT kind, count(*), sum(n_tokens) FROM '{out}/tokens/*/unit-*.parquet' GROUP BY kind"))

verdicts = pd.read_parquet(f"{out}/verdicts/default.parquet")
print(verdicts.groupby(["status", "rule"], dropna=False).size())
