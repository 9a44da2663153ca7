"""Fetching: the bytes behind the addresses of a table, politely, within bounds, and from public addresses alone.

`client.Client` brings one address and says what became of it (`outcome.Fetched`). It knows no run folder:
`orchestration/fetch.py` gives it work and keeps what comes.
"""
