"""No-reference video quality by comparing pairs of videos, without human labels."""

__version__ = "0.1.0"
