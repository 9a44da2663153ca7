"""Run folders made from what others tokenized or wrote: codes, conversations."""
