"""Staff get one mail each time the disk becomes nearly full."""

from smtplib import SMTPServerDisconnected

import pytest

from hub_site.celery import app
from hub_site.common import disk
from hub_site.jobs.low_disk import watch_disk
from hub_site.jobs.models import LowDisk
from hub_site.jobs.upkeep import upkeep

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def staff(alice, bob, charlie):
    """Alice and Bob; Bob has no mail address."""
    for user in (alice, bob):
        user.is_staff = True
    alice.email, bob.email, charlie.email = "alice@example.org", "", "charlie@example.org"
    for user in (alice, bob, charlie):
        user.save()


@pytest.fixture
def free_bytes(monkeypatch):
    """Say how much is free, as a share of what is to stay free."""

    def tell(share: float) -> None:
        monkeypatch.setattr(disk, "least_free_bytes", lambda: int(share * 500 * disk.MB))

    return tell


def test_staff_get_one_mail_when_a_real_disk_is_nearly_full(settings, mailoutbox):
    watch_disk()
    assert mailoutbox == []
    settings.HUB_DISK_SPARE_MB = 10**12
    for _ in range(3):
        watch_disk()
    (sent,) = mailoutbox
    assert sent.to == ["alice@example.org"]
    assert "is nearly full" in sent.subject
    assert f"Less than {10**12} MB are free" in sent.body
    assert str(settings.HUB_DATA) in sent.body


def test_the_next_mail_comes_only_after_there_was_enough_space_again(settings, free_bytes, mailoutbox):
    settings.HUB_DISK_SPARE_MB = 500
    for share, n_mails in ((0.9, 1), (0.5, 1), (1.1, 1), (0.9, 1), (1.3, 1), (0.9, 2), (2, 2), (0.1, 3)):
        free_bytes(share)
        watch_disk()
        assert len(mailoutbox) == n_mails, share
    free_bytes(2)
    watch_disk()
    assert not LowDisk.objects.exists()


def test_a_mail_that_could_not_be_sent_is_sent_at_the_next_look(settings, monkeypatch, mailoutbox):
    def broken(*_, **__):
        raise SMTPServerDisconnected("Connection unexpectedly closed")

    settings.HUB_DISK_SPARE_MB = 10**12
    with monkeypatch.context() as patch:
        patch.setattr("hub_site.jobs.low_disk.send_mail", broken)
        with pytest.raises(SMTPServerDisconnected):
            watch_disk()
    watch_disk()
    watch_disk()
    assert len(mailoutbox) == 1


def test_each_machine_looks_by_itself():
    app.loader.import_default_modules()
    assert watch_disk in [duty.do for duty in upkeep.duties]
