"""Teachers that are networks, under their authors' weight names."""
