"""Pages for people and plain tables for the terminal: one module a page."""
