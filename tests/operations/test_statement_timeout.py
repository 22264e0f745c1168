"""No query of a visitor may occupy the database for long."""

import pytest
from django.db import OperationalError, connection, transaction

from hub_site.common.site_faults import http_status, site_fault_code, visitor_text
from hub_site.settings.env import env_database


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("?host=/run/postgresql", "-c jit=off -c random_page_cost=1.1 -c statement_timeout=7s"),
        (
            "?host=/run/postgresql&options=-c%20work_mem%3D8MB",
            "-c work_mem=8MB -c jit=off -c random_page_cost=1.1 -c statement_timeout=7s",
        ),
    ],
)
def test_the_limit_joins_the_options_of_the_database(monkeypatch, query, options):
    monkeypatch.setenv("DATABASE_URL", f"postgresql://hub@localhost/hub{query}")
    assert env_database("DATABASE_URL", pool_size=0, statement_timeout_s=7)["OPTIONS"]["options"] == options


@pytest.mark.django_db
def test_a_query_that_takes_too_long_is_told_as_such():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '20ms'")
        with pytest.raises(OperationalError) as failed, transaction.atomic():
            cursor.execute("SELECT pg_sleep(30)")
    code = site_fault_code(failed.value)
    assert code == "query_too_slow"
    assert http_status(code) == 503
    assert "Ask for less" in visitor_text(code)
