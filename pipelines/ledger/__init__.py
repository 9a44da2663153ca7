"""What a user does with a run folder: `sql`, `select`, `forget`, `verify`."""
