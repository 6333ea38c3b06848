"""Light teachers: small regressions on features of single pictures, fitted on human scores."""
