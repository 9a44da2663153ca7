"""Attacks on everything that is to be trusted, by chance, repeatable: `make torture` runs them, bounded by minutes.

A campaign makes its material once and then tries: each try is a function of its seed alone, and says what went wrong.
`python -m torture --help` with tests/helpers on PYTHONPATH.
"""
