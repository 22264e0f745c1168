"""An operator is told why a server is not reached, and no secret; a traceback is for those who ask for it."""

import logging
import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from django.conf import settings as site_settings
from django.db import OperationalError
from kombu.exceptions import OperationalError as BrokerError

from hub_site.common import secret_key_mark
from hub_site.common.operator_texts import log_failure, operator_text
from modules_registry.storage import StorageError
from modules_registry.storage.object_client import error_of
from tests.served_site import free_port

logger = logging.getLogger(__name__)
PASSWORD = "a-password-of-the-tests"


def caused(error, cause):
    error.__cause__ = cause
    return error


def refused_by_storage(code, status):
    said = {
        "Error": {"Code": code, "Message": f"It is {code}."},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    cause = ClientError(said, "PutObject")
    return caused(error_of(cause, ""), cause)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            caused(
                OperationalError("away"), OSError('FATAL:  password authentication failed for user "hub"')
            ),
            'database could not be reached: FATAL: password authentication failed for user "hub". Look at '
            "DATABASE_URL",
        ),
        (
            BrokerError(f"WRONGPASS for {PASSWORD}"),
            "queue could not be reached: WRONGPASS for …. Look at CELERY_BROKER_URL",
        ),
        (refused_by_storage("SignatureDoesNotMatch", 403), "refused this site's key"),
        (refused_by_storage("SignatureDoesNotMatch", 403), "It is SignatureDoesNotMatch."),
        (refused_by_storage("SignatureDoesNotMatch", 403), "Look at HUB_STORE_KEY and HUB_STORE_SECRET"),
        (refused_by_storage("AccessDenied", 403), "what that key may do in HUB_STORE_BUCKET"),
        (refused_by_storage("NoSuchBucket", 404), "NoSuchBucket"),
        (refused_by_storage("NoSuchBucket", 404), "The object storage has no such bucket"),
        (refused_by_storage("NoSuchBucket", 404), "Look at HUB_STORE_BUCKET; if its name is right"),
        (refused_by_storage("SlowDown", 503), "Look at HUB_STORE_ENDPOINT"),
    ],
)
def test_the_reason_and_the_setting_are_told_without_secrets(error, told, settings):
    settings.CELERY_BROKER_URL = f"redis://:{PASSWORD}@localhost/0"
    text = operator_text(error)
    assert told in text
    assert PASSWORD not in text
    assert len(text.splitlines()) == 1


def test_a_fault_of_the_site_is_logged_without_a_traceback_and_a_mistake_of_ours_with_it(caplog):
    refused = caused(OperationalError("away"), OSError("password authentication failed"))
    log_failure(logger, "the worker could not announce itself", refused)
    assert caplog.messages == [
        "the worker could not announce itself: The site's database could not be reached: password "
        "authentication failed. Look at DATABASE_URL and DATABASE_PASSWORD."
    ]
    assert "Traceback" not in caplog.text
    try:
        raise KeyError("odd")
    except KeyError as error:
        log_failure(logger, "a duty", error)
    assert "Traceback" in caplog.text


def test_what_is_no_fault_of_the_site_stays_what_it_is():
    assert operator_text(KeyError("odd")) is None
    assert operator_text(StorageError("odd")) is None


def test_another_secret_key_is_told_from_that_of_the_site(db, settings):
    assert secret_key_mark.is_the_key_of_the_site() is None
    secret_key_mark.leave_mark()
    assert secret_key_mark.is_the_key_of_the_site() is True
    settings.SECRET_KEY = "of another machine, and as long as the first"
    assert secret_key_mark.is_the_key_of_the_site() is False


def manage(*words, data, **environment):
    return subprocess.run(
        [sys.executable, "manage.py", *words], cwd=site_settings.BASE_DIR, capture_output=True, text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "hub_site.settings.prod", "HUB_SECRET_KEY": "k" * 40,
             "HUB_DATA": str(data), **environment}, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.slow  # processes of their own import the whole site
def test_every_command_ends_with_a_sentence_where_the_database_is_not_reached(tmp_path):
    address = f"postgresql://hub:{PASSWORD}@127.0.0.1:{free_port()}/hub"
    for command in (["prepare"], ["backup", str(tmp_path / "site.tar")]):
        done = manage(*command, data=tmp_path, DATABASE_URL=address)
        assert done.returncode == 1
        assert "Connection refused" in done.stderr
        assert "Look at DATABASE_URL" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert PASSWORD not in done.stderr


@pytest.mark.slow
def test_the_doctor_says_what_is_wrong_with_each_server(db, tmp_path):
    own = urlsplit(os.environ["DATABASE_URL"])
    port = free_port()
    said = manage(
        "doctor", data=tmp_path, HUB_DATABASE_POOL="4",
        DATABASE_URL=own._replace(path="/a_database_that_is_none").geturl(),
        CELERY_BROKER_URL=f"redis://:{PASSWORD}@127.0.0.1:{port}/0",
        HUB_STORE="s3", HUB_STORE_BUCKET="b", HUB_STORE_ENDPOINT=f"http://127.0.0.1:{port}",
        HUB_STORE_KEY="k", HUB_STORE_SECRET=PASSWORD,
    )  # fmt: skip
    assert said.returncode == 1
    wrong = [line for line in said.stdout.splitlines() if line.startswith("WRONG")]
    told = "\n".join(wrong)
    assert 'database "a_database_that_is_none" does not exist' in told
    assert len(re.findall("could not be reached", told)) == 3  # each server once
    assert "Connection refused" in told
    assert "Could not connect to the endpoint URL" in told
    assert PASSWORD not in said.stdout + said.stderr
