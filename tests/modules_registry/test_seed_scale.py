"""The large library that the site is measured with: the rows are those that the site itself would write."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from modules_registry.catalog import ModuleFilters, find_modules
from modules_registry.indexing import describe_for_search
from modules_registry.models import BaseModel, DownloadDay, Like, Lineage, Module
from modules_registry.selectors import card_of, file_download

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def seeded():
    call_command("seed_scale", "--here", "--modules", "300", "--owners", "40", stdout=StringIO())


def test_the_seeded_rows_are_what_the_site_writes(seeded):
    assert Module.objects.count() == 300
    assert BaseModel.objects.count() == 12
    assert Like.objects.exists()
    assert DownloadDay.objects.exists()
    assert Lineage.objects.filter(child=300).count() == 45
    for module in Module.objects.order_by("pk")[::37]:
        written = (module.search_text, module.card_text, set(module.facets), module.key)
        describe_for_search(module)
        assert (module.search_text, module.card_text, set(module.facets), module.key) == written
        for path in ("README.md", "adapter_config.json", "adapter_model.safetensors"):
            download = file_download(module.current, path)
            with download.open() as file:
                assert len(file.read()) == download.size_bytes
        assert card_of(module.current).front_matter["library_name"] == "peft"
        assert module.trending > 0


def test_the_seeded_library_is_searched_with_its_indexes(seeded):
    found = find_modules(ModuleFilters(q="examples"), size=24)
    assert found.count == 300
    assert find_modules(ModuleFilters(q="frensh"), size=24).taken_for[0][1] == "french"
    evidence = [facet for facet in found.facets if facet.name == "evidence"]
    assert (
        sum(value.count for facet in evidence for value in facet.values)
        == Module.objects.filter(has_evidence=True).count()
    )


def test_a_library_that_has_modules_is_left_alone(seeded):
    with pytest.raises(CommandError, match="not one to be filled"):
        call_command("seed_scale", "--here")
