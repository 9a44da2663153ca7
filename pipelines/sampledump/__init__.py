"""The sample dump: a small web crawl rendered with known facts, plus real footage, for a first `make curate` and tests.

`write.write_sample_dump` writes it; `contents.FACTS` says what curation owes for every rendered item.
"""
