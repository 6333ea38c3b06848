"""From a file to what the student sees of it. Light: imports no JAX."""
