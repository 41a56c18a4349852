-- Which miners have gone silent is looked up every second: by an index, and not by looking at every miner.
CREATE INDEX miners_online ON miners (offline_at) WHERE online;
