"""Model definitions: vision tower, motion pathway, decoder and the student that joins them."""
