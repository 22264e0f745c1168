"""An owner stores and uploads as much as the site lets them: then a clear refusal, and nothing stays."""

import pytest

from hub_site.accounts.services import organization_create
from hub_site.common.errors import Refusal
from modules_registry.blobs import store
from modules_registry.models import Module, VersionFile
from modules_registry.quotas import quotas_of, storage_quota
from modules_registry.repositories import repository_create, repository_move
from modules_registry.services import module_delete, module_edit, module_publish, version_add
from tests.factories import adapter_files, make_base, make_module, weights_file
from tests.modules_registry.hub_api.test_refusals import Uploader, file_line

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def base(db, tmp_path):
    return make_base(tmp_path / "base")


def used(namespace):
    return {quota.name: quota.used for quota in quotas_of(namespace)}


def test_what_is_used_is_counted_and_shared_files_once(alice):
    french = make_module(alice, "french")
    make_module(alice, "again", weights_file=weights_file(seed=0))  # the same bytes
    counted = used(alice.namespace)
    stored = set(VersionFile.objects.values_list("sha256", "size_bytes"))
    assert counted == {"storage": sum(size for _, size in stored), "repositories": 2, "uploads": 2}
    module_delete(editor=alice, module=french)
    assert used(alice.namespace)["repositories"] == 1
    assert used(alice.namespace)["uploads"] == 2  # deleting gives no upload back


def test_storage_that_is_full_refuses_and_keeps_nothing(alice, monkeypatch):
    make_module(alice, "french")
    monkeypatch.setattr("modules_registry.quotas.MB", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "django.conf.settings.HUB_STORAGE_OF_OWNER_MB", storage_quota(alice.namespace).used + 100
        )
        make_module(alice, "copy", weights_file=weights_file(seed=0))  # its bytes are there already
        files, blobs = VersionFile.objects.count(), {blob.sha256 for blob in store().iter()}
        with pytest.raises(Refusal) as refused:
            make_module(alice, "spanish", seed=5)
    assert (refused.value.code, refused.value.status) == ("storage_full", 413)
    assert refused.value.headers["RateLimit-Policy"].startswith('"storage";q=')
    assert (VersionFile.objects.count(), {blob.sha256 for blob in store().iter()}) == (files, blobs)


def test_too_many_repositories_are_refused_drafts_among_them(alice, settings):
    settings.HUB_REPOSITORIES_OF_OWNER = 1
    repository_create(author=alice, namespace=alice.namespace, name="draft")
    with pytest.raises(Refusal) as refused:
        make_module(alice, "french")
    assert (refused.value.code, refused.value.status) == ("too_many_repositories", 403)
    assert Module.objects.count() == 1


def test_each_owner_has_quotas_of_their_own(alice, settings):
    settings.HUB_UPLOADS_AN_HOUR = 1
    lab = organization_create(founder=alice, name="lab")
    make_module(alice, "french")
    module_publish(author=alice, namespace=lab, name="spanish", **adapter_files(seed=1))
    for namespace in (alice.namespace, lab):
        with pytest.raises(Refusal) as refused:
            module_publish(author=alice, namespace=namespace, name="third", **adapter_files(seed=2))
        assert (refused.value.status, refused.value.retry_after_s > 3590) == (429, True)


def test_a_transfer_needs_room_with_the_new_owner(alice, settings):
    lab = organization_create(founder=alice, name="lab")
    french = make_module(alice, "french")
    repository_create(author=alice, namespace=lab, name="draft")
    settings.HUB_REPOSITORIES_OF_OWNER = 1
    with pytest.raises(Refusal, match="the most here"):
        repository_move(editor=alice, module=french, namespace=lab, name="french")
    assert Module.objects.filter(namespace=alice.namespace, name="french").exists()


def test_a_new_version_is_an_upload_and_an_import_is_none(alice, settings):
    french = make_module(alice, "french")
    settings.HUB_UPLOADS_AN_HOUR = 1
    with pytest.raises(Refusal):
        version_add(author=alice, module=french, **adapter_files(seed=1))
    _, is_new = version_add(author=alice, module=french, is_import=True, **adapter_files(seed=1))
    assert is_new
    assert used(alice.namespace)["uploads"] == 1


def test_the_page_and_a_hub_client_are_told_when_to_come_back(alice, browser_of, settings):
    french = make_module(alice, "french")
    settings.HUB_UPLOADS_AN_HOUR = 1
    page = browser_of(alice).post(f"/{french.full_name}/upload", adapter_files(seed=1))
    program = Uploader(alice).commit(file_line("README.md", b"# Another card"))
    for answer in (page, program):
        assert (answer.status_code, answer["RateLimit-Policy"]) == (429, '"uploads";q=1;w=3600')
        assert 0 < int(answer["Retry-After"]) <= 3600


def test_another_card_is_an_upload_by_program_and_on_the_page(alice, api_of, browser_of, settings):
    french = make_module(alice, "french")
    module_edit(editor=alice, module=french, card="# A second card")
    module_edit(editor=alice, module=french, prompt_template="Translate: {input}")
    assert used(alice.namespace)["uploads"] == 3
    settings.HUB_UPLOADS_AN_HOUR = 3
    program = api_of(alice).patch("/api/v1/modules/alice/french", {"card": "# A third card"}, format="json")
    described = {"sentence": "Says it in French.", "licence": "apache-2.0", "tags": ""}
    page = browser_of(alice).post("/alice/french/edit", described | {"card": "# A third card"})
    for answer in (page, program):
        assert (answer.status_code, answer["RateLimit-Policy"]) == (429, '"uploads";q=3;w=3600')
        assert answer["RateLimit"].startswith('"uploads";r=0;t=')
        assert 0 < int(answer["Retry-After"]) <= 3600
    assert french.versions.count() == 3
    assert Module.objects.get(pk=french.pk).current.number == 3


def test_an_edit_that_makes_no_version_is_no_upload(alice, api_of, settings):
    make_module(alice, "french")
    settings.HUB_UPLOADS_AN_HOUR = 1
    answer = api_of(alice).patch("/api/v1/modules/alice/french", {"sentence": "Another."}, format="json")
    assert answer.status_code == 200
    assert used(alice.namespace)["uploads"] == 1
