"""The path of a token from shards to a batch.

`config` (what a recipe says) → `corpus` (all documents) → `epochs` (which of them, in which order; `synthetic` adds
some) → `caption_dropout` → `split` (pieces that a row can hold) → `packing` and `binpacking` (rows) → `schedule` (whose
rows in which step) → `batches` (arrays) → `loader` (all of it, for the trainer).
"""
