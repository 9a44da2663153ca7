"""Vision tokenizers: `tokenizer list`, `show`, `train`, `encode`, `decode`, and `eval reconstruction`."""
