"""The web service and its page: videos come by upload, scores and comparisons go back as JSON."""
