"""Run folders made from what others tokenized or wrote: `tokens import`, `chat import`."""
