"""People make an organisation, invite others by name or mail, change roles and leave; one owner is left."""

import re

import pytest
from django.core import mail

from hub_site.accounts.models import Invitation, Membership
from hub_site.accounts.organizations import (
    invitation_accept,
    member_change,
    member_invite,
    member_remove,
)
from hub_site.accounts.services import organization_create
from hub_site.audit.models import AuditEntry
from hub_site.common.errors import Refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def lab(alice):
    return organization_create(founder=alice, name="lab")


def roles(lab):
    return dict(lab.memberships.values_list("user__username", "role"))


def test_it_is_founded_and_joined_on_the_pages(alice, bob, browser_of):
    browser_of(alice).post("/settings/organizations/", {"name": "lab"})
    browser_of(alice).post("/settings/organizations/lab/", {"who": "bob", "role": "write"})
    assert "invites you to" in browser_of(bob).get("/settings/organizations/").content.decode()
    browser_of(bob).post(f"/settings/invitations/{Invitation.objects.get().pk}/", {"accept": ""})
    page = browser_of(alice).get("/settings/organizations/lab/").content.decode()
    assert "Remove" in page
    browser_of(alice).post("/settings/organizations/lab/members/bob/", {"role": "read"})
    assert Membership.objects.get(user=bob).role == "read"
    answer = browser_of(bob).post("/settings/organizations/lab/members/bob/", {"remove": ""})
    assert answer["Location"] == "/settings/organizations/"
    assert not Membership.objects.filter(user=bob).exists()


def test_the_same_by_programs(alice, bob, charlie, api_of):
    assert api_of(alice).post("/api/v1/organizations", {"name": "lab"}).json()["role"] == "admin"
    members = "/api/v1/organizations/lab/members"
    assert api_of(alice).post(members, {"who": "bob", "role": "write"}).status_code == 201
    (invitation,) = api_of(bob).get("/api/v1/account/invitations").json()
    address = f"/api/v1/account/invitations/{invitation['id']}"
    assert api_of(charlie).post(address).status_code == 404
    assert api_of(bob).post(address).json()["role"] == "write"
    assert len(api_of(bob).get(members).json()) == 2
    assert api_of(charlie).get(members).status_code == 404
    assert api_of(bob).post(members, {"who": "charlie"}).status_code == 403
    assert api_of(alice).patch(f"{members}/bob", {"role": "admin"}).json()["role"] == "admin"
    assert api_of(bob).delete(f"{members}/alice").status_code == 204
    answer = api_of(bob).delete(f"{members}/bob")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "last_owner")


def test_a_mail_invites_whoever_reads_it(lab, alice, charlie, browser_of, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        member_invite(actor=alice, namespace=lab, who="new@example.org", role="read")
    (letter,) = mail.outbox
    assert letter.recipients() == ["new@example.org"]
    path = re.search(r"/settings/invitations/\S+", letter.body)[0]
    assert "Join lab" in browser_of(charlie).get(path).content.decode()
    browser_of(charlie).post(path, {"accept": ""})
    assert roles(lab) == {"alice": "admin", "charlie": "read"}
    assert browser_of(charlie).get(path).status_code == 404  # once
    assert browser_of(charlie).get("/settings/invitations/forged/").status_code == 404


def test_an_invitation_by_name_is_for_that_account(lab, alice, bob, charlie):
    invitation = member_invite(actor=alice, namespace=lab, who="bob", role="write")
    with pytest.raises(Refusal, match="another account"):
        invitation_accept(user=charlie, invitation=invitation)
    with pytest.raises(Refusal, match="invited already"):
        member_invite(actor=alice, namespace=lab, who="bob", role="read")


def test_only_owners_decide_and_one_is_left(lab, alice, bob, charlie):
    lab.memberships.create(user=bob, role="write")
    for attempt in (
        lambda: member_invite(actor=bob, namespace=lab, who="charlie", role="read"),
        lambda: member_change(actor=bob, namespace=lab, member="bob", role="admin"),
        lambda: member_remove(actor=bob, namespace=lab, member="alice"),
    ):
        with pytest.raises(Refusal, match="Only an owner"):
            attempt()
    for attempt in (
        lambda: member_change(actor=alice, namespace=lab, member="alice", role="read"),
        lambda: member_remove(actor=alice, namespace=lab, member="alice"),
    ):
        with pytest.raises(Refusal, match="only owner"):
            attempt()
    assert roles(lab) == {"alice": "admin", "bob": "write"}


def test_who_came_and_went_is_written_down(lab, alice, bob):
    invitation_accept(user=bob, invitation=member_invite(actor=alice, namespace=lab, who="bob", role="write"))
    member_change(actor=alice, namespace=lab, member="bob", role="read")
    member_remove(actor=bob, namespace=lab, member="bob")
    entries = AuditEntry.objects.filter(thing=f"namespace:{lab.pk}").order_by("pk")
    assert [(entry.action, entry.actor.username) for entry in entries] == [
        ("organization.create", "alice"),
        ("member.invite", "alice"),
        ("member.add", "bob"),
        ("member.change", "alice"),
        ("member.remove", "bob"),
    ]
