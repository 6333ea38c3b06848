"""Levels, and pairs labelled by simulators, by teachers and by gMAD. Light: imports no JAX."""
