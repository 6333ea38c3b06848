"""The page of `ladder`."""

from tests.fixtures.made_pages import EVIL_FILE, ladder_of
from tests.fixtures.page_reader import EVIL, inert


def test_curves_tables_and_reasons_are_told(tmp_path):
    with open(ladder_of(tmp_path), encoding="utf-8") as f:
        parsed = inert(f.read())
    assert EVIL_FILE in parsed.text and f"Not compared: {EVIL}: {EVIL}" in parsed.text
    assert "1 in order, 1 ties" in parsed.text and "1 reversed" in parsed.text
    assert "(knee: x264 32)" in parsed.text and "in 9 passages" in parsed.text
    assert "−40.0%" in parsed.text and "+66.7%" in parsed.text
    assert "PSNR 0.987, SSIM 0.950, VMAF –" in parsed.text
    assert "no common quality" in parsed.text and "5% below 50.0" in parsed.text
    # Quality wide and narrow; PSNR, SSIM and VMAF.
    assert sum(u.startswith("data:image/svg") for u in parsed.urls) == 5
