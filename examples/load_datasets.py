"""Load a run folder with Hugging Face datasets: python load_datasets.py OUT"""

import sys

import datasets

out = sys.argv[1]  # a run folder, such as out/sample

print(datasets.get_dataset_config_names(out))
samples = datasets.load_dataset(out, "samples", split="train")
print(samples.filter(lambda row: row["kind"] == "video").select_columns(["sample_id", "motion_score"])[0])

tokens = datasets.load_dataset(out, split="train")
print(tokens)
print(tokens.filter(lambda row: row["kind"] == "image")[0]["tokens"][:8])
