"""Load token shards with Hugging Face datasets: python load_datasets.py OUT"""

import sys

import datasets

out = sys.argv[1]  # a run folder, such as out/sample

tokens = datasets.load_dataset("parquet", data_files=f"{out}/tokens/*/unit-*.parquet", split="train")
print(tokens)
print(tokens.filter(lambda row: row["kind"] == "image")[0]["tokens"][:8])
