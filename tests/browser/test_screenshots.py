"""`./hub screenshots` makes a gallery of a running site."""

import struct

import pytest

from tests.running_hub import Hub

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_gallery_shows_a_page_at_three_widths_in_both_themes(hub: Hub, chromium, tmp_path):
    done = hub.call("screenshots", "--address", hub.address, "--out", str(tmp_path), "--only", "sign-in")
    assert done.returncode == 0, done.stdout + done.stderr
    widths = {path.name: width_of(path.read_bytes()) for path in tmp_path.glob("*.png")}
    assert widths == {
        f"sign-in-{width}-{theme}.png": width for width in (390, 768, 1440) for theme in ("light", "dark")
    }
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(f'src="{name}"' in page for name in widths)


def width_of(png: bytes) -> int:
    return struct.unpack(">I", png[16:20])[0]
