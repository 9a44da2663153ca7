"""Post-training: quality fine-tuning, preference optimisation, understanding."""
