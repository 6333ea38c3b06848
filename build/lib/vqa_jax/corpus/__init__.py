"""Video, motion and pair records on disk. Light: imports no JAX."""
