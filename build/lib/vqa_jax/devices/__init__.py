"""Meshes, shardings, execution on them, hosts and chips."""
