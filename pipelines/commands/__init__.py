"""The command line, a module a group of commands; each imports what it needs when it is called."""
