"""What a person does with a run folder: `sql`, `select`, `forget`, `verify`."""
