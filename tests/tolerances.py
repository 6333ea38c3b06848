"""Every numeric tolerance of the suite, in one table: {quantity: dict(rtol=, atol=)}."""

TOLERANCES = {
    "scores_and_losses": {"rtol": 1e-5, "atol": 1e-7},
    "level_logits": {"rtol": 0.0, "atol": 1e-4},
    "motion": {"rtol": 0.0, "atol": 1e-4},
}
