"""The preparation job: from source files to records."""
