"""How many row groups of Parquet files a test decodes."""

import pyarrow.parquet as pq


def count_decoded(monkeypatch):
    """A list that gets an entry for each row group that is decoded from now on."""
    decoded = []
    read_row_group = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, *args, **rest: decoded.append(1) or read_row_group(self, *args, **rest),
    )
    return decoded
