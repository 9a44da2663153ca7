"""Archives: files that hold items packed, and their members in order. Runs in the untrusted child (`jobs.py`).

A format is a class of `contract.Archive`, which `formats.py` finds by a file's bytes. Members have numbers that only
rise, so that whoever wants bytes can begin near them and go forward from there.
"""
