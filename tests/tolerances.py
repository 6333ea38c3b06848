"""Every numeric tolerance of the suite, in one table: {quantity: dict(rtol=, atol=)}."""

TOLERANCES = {
    "scores_and_losses": {"rtol": 1e-5, "atol": 1e-7},
    "level_logits": {"rtol": 0.0, "atol": 1e-4},
    "sharded_loss": {"rtol": 1e-5, "atol": 1e-6},
    "motion": {"rtol": 0.0, "atol": 1e-4},
    "teacher_maps": {"rtol": 0.0, "atol": 1e-4},
    # Levels of 255. 4:2:0 at CRF 1 rounds twice; a one-level shift of a mean would be a bug.
    "encoded_flat_colour": {"rtol": 0.0, "atol": 3.0},
    "encoded_mean_colour": {"rtol": 0.0, "atol": 0.5},
    "encoded_ramp": {"rtol": 0.0, "atol": 4.0},
    "pinned_random": {"rtol": 0.0, "atol": 1e-8},
    "hsv_on_8_bits": {"rtol": 0.0, "atol": 0.005},
    "centre_of_mass": {"rtol": 0.0, "atol": 0.03},  # pixels
    "resized_levels": {"rtol": 0.0, "atol": 1.01},  # levels of 255: rounded after each axis
    # swscale's fast 4:2:0 conversion is one to two levels of 255 dark; a wrong matrix is worse.
    "fast_yuv_mean_levels": {"rtol": 0.0, "atol": 2.0},
    "rendered_pixel": {"rtol": 0.0, "atol": 1.0},  # levels of 255
    "printed_preference": {"rel": 0.0, "abs": 5.1e-4},  # three digits
    "jpeg_strip": {"rtol": 0.0, "atol": 4.0},  # mean levels of 255
    # The reference rounds source coordinates to float32; ours are exact.
    "bilinear_pool": {"rtol": 0.0, "atol": 1e-5},
    "cached_logits": {"rtol": 0.0, "atol": 2e-5},
    # Another order of sums over the same float32 numbers.
    "attention_kernel": {"rtol": 1e-4, "atol": 3e-5},
    "student_gradient": {"rtol": 1e-4, "atol": 1e-6},
    # Curves by table of 65,536 entries; one rounding to 8 bits, doubled where a curve is steep.
    "tone_mapped": {"rtol": 0.0, "atol": 1e-3},
    "tone_mapped_levels": {"rtol": 0.0, "atol": 1.0},
    "ten_bit_rounding_levels": {"rtol": 0.0, "atol": 3.0},
    "rgb_from_rounded_levels": {"rtol": 0.0, "atol": 2e-3},
    # Sums of a group's pairs in another order.
    "grouped_loss": {"rtol": 1e-5, "atol": 1e-7},
    "grouped_gradient": {"rtol": 1e-5},
    "exact_metric": {"rtol": 0.0, "atol": 1e-10},
    "four_digits": {"rel": 0.0, "abs": 5e-5},
    # A logistic fitted to a resample can stop in a shallow valley; the typical one does not.
    "resampled_fit": {"rtol": 1e-3, "atol": 0.0},
}
