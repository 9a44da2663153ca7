"""From a dump to token shards: `curate`, `sample-dump`, `recipe`, `caption`; the figures behind `stats`."""
