"""From a dump to token shards: `curate`, `caption`; the figures behind `stats`."""
