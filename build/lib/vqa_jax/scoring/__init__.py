"""A score: encode the videos, ask the student, solve for quality."""
