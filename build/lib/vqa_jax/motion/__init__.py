"""Motion features: SlowFast's fast pathway, its weights, the job that applies it."""
