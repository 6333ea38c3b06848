"""No-reference video quality by comparing pairs of videos, without human labels.

"method 3.1" in a comment is section 3.1 of README.md in this folder, which states the method of
arXiv 2505.03631 with every constant, and says where the paper, its authors' code and we differ.
"""

__version__ = "0.1.0"
