"""How addresses stand on a page."""

import pytest

from hub_site.common.site_address import with_breaks


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("/api/v1/imports/{import_id}", "/<wbr>api/<wbr>v1/<wbr>imports/<wbr>{import_<wbr>id}"),
        ("/api/", "/<wbr>api/"),
        ("plain", "plain"),
        ("/a<b>/c", "/<wbr>a&lt;b&gt;/<wbr>c"),
        ("", ""),
    ],
)
def test_an_address_breaks_after_its_slashes_and_low_lines(address, shown):
    assert with_breaks(address) == shown
