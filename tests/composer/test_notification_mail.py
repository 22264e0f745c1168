"""The mail when a composition is done: asked for on its page or by the API, sent by the worker, once."""

import socket
import threading
from email import message_from_bytes
from email.policy import default

import pytest
from django.core import mail
from django.utils import timezone

from composer.models import Composition
from composer.run import selectors, tasks
from hub_site.jobs import leases
from hub_site.jobs.models import Status


@pytest.fixture(autouse=True)
def with_mail_server(settings):
    settings.MAIL_SERVER = {"EMAIL_HOST": "mail.example.org"}
    settings.PUBLIC_ADDRESS = "https://hub.example.org"


@pytest.fixture
def with_notification(done):
    """A finished composition whose owner asked for a mail."""

    def wish(**changes):
        composition = done()
        Composition.objects.filter(pk=composition.pk).update(mail_when_done=True, **changes)
        composition.refresh_from_db()
        return composition

    return wish


class SmtpServer(threading.Thread):
    """As much of RFC 5321 as a client needs to leave letters; it keeps what it was given."""

    def __init__(self, refuses: bool = False) -> None:
        super().__init__(daemon=True)
        self.refuses, self.letters = refuses, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, client.makefile("rwb", buffering=0) as line:
                line.write(b"220 ready\r\n")
                self.serve(line)

    def serve(self, line) -> None:
        while command := line.readline().strip().upper():
            if command.startswith(b"RCPT") and self.refuses:
                line.write(b"451 try again later\r\n")
            elif command == b"DATA":
                line.write(b"354 go on\r\n")
                self.letters.append(b"".join(iter(line.readline, b".\r\n")))
                line.write(b"250 kept\r\n")
            elif command == b"QUIT":
                line.write(b"221 bye\r\n")
                return
            else:
                line.write(b"250 fine\r\n")


@pytest.fixture
def smtp(settings):
    """The site's mail settings, pointed at a server of our own."""
    servers = []

    def start(**options) -> SmtpServer:
        server = SmtpServer(**options)
        servers.append(server)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", server.port, 5
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        return server

    yield start
    for server in servers:
        server.listener.close()


def test_the_letter_goes_out_over_smtp_with_verdict_and_link(with_notification, smtp, alice):
    server = smtp()
    composition = with_notification()
    tasks.send_notification_mail(str(composition.pk))
    (letter,) = server.letters
    letter = message_from_bytes(letter, policy=default)
    assert letter["To"] == alice.email
    assert letter["Subject"] == "Done: Fruit in capitals"
    text = letter.get_content()
    assert "Use the composition. It is right on 1 of 2." in text
    assert f"https://hub.example.org{composition.get_absolute_url()}" in text


def test_it_goes_once_however_often_it_is_rung_for(with_notification):
    composition = with_notification()
    for _ in range(3):
        tasks.send_notification_mail(str(composition.pk))
    assert len(mail.outbox) == 1
    assert selectors.mails_due() == []


def test_a_mail_server_that_is_away_is_tried_again_by_the_next_sweep(with_notification, smtp):
    composition = with_notification()
    smtp(refuses=True)
    with pytest.raises(OSError, match="try again later"):
        tasks.send_notification_mail(str(composition.pk))
    assert selectors.mails_due() == [composition.pk]
    server = smtp()
    tasks.send_notification_mail(str(composition.pk))
    assert len(server.letters) == 1
    assert selectors.mails_due() == []


def test_of_one_that_failed_it_says_why(ask):
    composition = leases.claim(Composition, ask().pk, worker="w")
    Composition.objects.update(mail_when_done=True)
    leases.finish(composition, Status.FAILED, error_code="deadline", error_message="It took “too” long.")
    tasks.send_notification_mail(str(composition.pk))
    (letter,) = mail.outbox
    assert letter.subject == "Failed: Fruit in capitals"
    assert "It took “too” long." in letter.body


def test_no_letter_of_what_runs_of_what_was_cancelled_or_where_none_is_wished(ask, done, with_notification):
    compositions = [ask(), done(), with_notification(status=Status.CANCELLED)]
    Composition.objects.filter(pk=compositions[0].pk).update(mail_when_done=True)
    for composition in compositions:
        tasks.send_notification_mail(str(composition.pk))
    assert mail.outbox == []
    assert selectors.mails_due() == []


def test_after_a_day_nobody_waits_for_it_any_more(with_notification):
    with_notification(finished_at=timezone.now() - timezone.timedelta(hours=25))
    assert selectors.mails_due() == []


def test_a_name_with_a_line_break_cannot_add_a_header(with_notification):
    composition = with_notification(name="Fruit\nBcc: everybody@example.org")
    tasks.send_notification_mail(str(composition.pk))
    (letter,) = mail.outbox
    assert letter.subject == "Done: Fruit Bcc: everybody@example.org"
    assert letter.recipients() == ["alice@example.org"]


def test_the_worker_rings_for_it_when_its_work_ends_and_the_sweep_when_it_did_not(
    with_notification, monkeypatch
):
    queued = []
    monkeypatch.setattr(tasks.send_notification_mail, "delay", queued.append)
    composition = with_notification()
    tasks.sweep()
    assert queued == [str(composition.pk)]


def test_it_is_wished_and_taken_back_on_the_page(browser_of, alice, ask):
    browser, composition = browser_of(alice), ask()
    address = composition.get_absolute_url()
    assert "Email alice@example.org when it is done" in browser.get(address).content.decode()
    browser.post(f"{address}mail/", {"mail_when_done": "on"})
    assert "checked" in browser.get(address).content.decode().partition('id="mail-when-done"')[2][:60]
    answer = browser.post(f"{address}mail/", {}, headers={"HX-Request": "true"})
    assert "no mail will be sent" in answer.content.decode()
    composition.refresh_from_db()
    assert not composition.mail_when_done


def test_it_is_wished_by_the_api(api_of, alice, charlie, ask):
    composition = ask()
    address = f"/api/v1/compositions/{composition.pk}/mail"
    assert api_of(alice).put(address, {"wanted": True}).data["mail_when_done"] is True
    assert api_of(alice).put(address, {}).status_code == 400
    assert api_of(alice, scope="read").put(address, {"wanted": False}).status_code == 403
    assert api_of(charlie).put(address, {"wanted": False}).status_code == 404
    composition.refresh_from_db()
    assert composition.mail_when_done


def test_an_account_without_an_address_is_told_so_on_the_page_and_by_the_api(browser_of, api_of, alice, ask):
    alice.email = ""
    alice.save()
    composition = ask()
    assert "has no e-mail address" in browser_of(alice).get(composition.get_absolute_url()).content.decode()
    answer = api_of(alice).put(f"/api/v1/compositions/{composition.pk}/mail", {"wanted": True})
    assert (answer.status_code, answer.data["error"]["code"]) == (409, "no_address")


def test_a_site_without_a_mail_server_promises_no_letter(browser_of, api_of, alice, ask, settings):
    settings.MAIL_SERVER = None
    composition = ask()
    page = browser_of(alice).get(composition.get_absolute_url()).content.decode()
    assert "has no mail server" in page
    assert 'name="mail_when_done"' not in page
    answer = api_of(alice).put(f"/api/v1/compositions/{composition.pk}/mail", {"wanted": True})
    assert (answer.status_code, answer.data["error"]["code"]) == (409, "no_mail_server")


def test_a_finished_one_takes_no_wish(api_of, alice, done):
    answer = api_of(alice).put(f"/api/v1/compositions/{done().pk}/mail", {"wanted": True})
    assert (answer.status_code, answer.data["error"]["code"]) == (409, "finished")
