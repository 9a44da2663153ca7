"""The sample dump: a small web crawl rendered with known facts, plus real footage, for a first `make curate` and tests.

`write_sample_dump` writes it; `FACTS` says what curation owes for every rendered item.
"""

from reelmill.pipelines.sampledump.contents import FACTS
from reelmill.pipelines.sampledump.facts import ItemFact, SampleFact
from reelmill.pipelines.sampledump.write import Manifest, write_sample_dump

__all__ = ["FACTS", "ItemFact", "Manifest", "SampleFact", "write_sample_dump"]
