"""From a hospital's files to batches: ingest, manifest, splits, subsets, and the stream."""
