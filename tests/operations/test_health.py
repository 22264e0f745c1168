from django.db import DatabaseError, connection


def test_it_is_well_while_the_database_answers(client, db):
    answer = client.get("/health/")
    assert (answer.status_code, answer.json()) == (200, {"web": "ok", "database": "ok"})


def test_it_says_so_when_the_database_does_not(client, db, monkeypatch):
    def broken():
        raise DatabaseError

    with monkeypatch.context() as patched:
        patched.setattr(connection, "cursor", broken)
        answer = client.get("/health/")
    assert (answer.status_code, answer.json()["database"]) == (503, "unreachable")
