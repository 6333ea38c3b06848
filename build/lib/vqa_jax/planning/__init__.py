"""What a step will take on chips that are not at hand."""
