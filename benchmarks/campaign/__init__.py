"""Parts of the pre-training campaign: recordings, sizes, audio chunks, weight shards."""
