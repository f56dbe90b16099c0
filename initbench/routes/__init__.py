"""From a question to its answer, a file a kind: runs, probes, maps, merged folders, published figures."""
