"""Built-in scenes, for a corpus without videos of one's own."""
