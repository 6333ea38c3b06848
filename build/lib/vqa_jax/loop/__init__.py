"""An iteration: evaluate a student, choose its anchors, relabel with it."""
