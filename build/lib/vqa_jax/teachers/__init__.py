"""Weak teachers: measures, cards, scales, votes, the job that lets them score."""
