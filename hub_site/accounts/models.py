"""Who is here: users, the names they own, and the tokens they hand to programs."""

import hashlib

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower, Now
from django.urls import reverse

from hub_site.accounts.names import NAME_LENGTH_MAX, name_key
from hub_site.common.models import TimeStamped


class User(AbstractUser):
    """A person, or a program that acts as one. Its username is also the name of its namespace."""

    username = models.CharField(
        max_length=NAME_LENGTH_MAX,
        unique=True,
        error_messages={"unique": "This name is taken. Choose another one."},
    )
    # Set by staff: it cannot sign in, its tokens count for nothing, its modules are nobody's to see.
    suspended_at = models.DateTimeField(null=True, blank=True, editable=False)
    suspension_reason = models.TextField(blank=True, editable=False)  # a sentence for its owner
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)  # by its owner; the row stays
    # Of a guest: it stands for a browser without an account until then, has no namespace and cannot sign in.
    guest_until = models.DateTimeField(null=True, blank=True, editable=False)
    guest_address = models.CharField(max_length=64, blank=True, db_default="", editable=False)  # a keyed hash

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="user_suspended_or_deleted_is_inactive",
                condition=models.Q(suspended_at=None, deleted_at=None) | models.Q(is_active=False),
            ),
            models.UniqueConstraint(Lower("username"), name="user_username_unique_in_any_case"),
        ]
        indexes = [
            models.Index(
                fields=["id"], name="user_suspended", condition=models.Q(suspended_at__isnull=False)
            ),  # every list of modules leaves theirs out
            models.Index(
                fields=["guest_until"], name="user_guest", condition=models.Q(guest_until__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.username

    @property
    def is_guest(self) -> bool:
        return self.guest_until is not None

    def clean(self) -> None:
        """The administration's form must not open what was closed elsewhere."""
        super().clean()
        if self.is_active and (self.suspended_at or self.deleted_at):
            message = (
                "It is suspended or deleted. Staff end a suspension on the page of the account's reports."
            )
            raise ValidationError({"is_active": message})


class Namespace(TimeStamped):
    """The first part of every module's address: a user's name, or an organization's."""

    class Kind(models.TextChoices):
        USER = "user", "User"
        ORGANISATION = "organisation", "Organization"

    name = models.CharField(max_length=NAME_LENGTH_MAX, unique=True)
    key = models.CharField(
        max_length=NAME_LENGTH_MAX, unique=True, editable=False, help_text="The name as a reader sees it."
    )
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.USER)
    # A user's own namespace; empty for an organization, whose people are its memberships.
    user = models.OneToOneField(
        User, on_delete=models.PROTECT, null=True, blank=True, related_name="namespace"
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="namespace_user_exactly_when_personal",
                condition=models.Q(kind="user", user__isnull=False)
                | models.Q(kind="organisation", user__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("modules_registry:namespace", args=[self.name])

    @classmethod
    def for_user(cls, user: User) -> "Namespace":
        return cls(name=user.username, key=name_key(user.username), kind=cls.Kind.USER, user=user)


class Membership(TimeStamped):
    """A person's part in an organization."""

    class Role(models.TextChoices):
        READ = "read", "Reader"
        WRITE = "write", "Writer"
        ADMIN = "admin", "Owner"

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role, default=Role.READ)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["namespace", "user"], name="membership_once_per_person"),
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.role} {self.namespace}"


class Invitation(TimeStamped):
    """Somebody is asked to join an organization: an account, or whoever reads a mail address."""

    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="invitations")
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, null=True, blank=True, related_name="invitations"
    )
    email = models.EmailField(blank=True)
    role = models.CharField(max_length=8, choices=Membership.Role, default=Membership.Role.READ)
    invited_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                name="invitation_of_an_account_or_an_address",
                condition=models.Q(user=None, email__gt="") | models.Q(user__isnull=False, email=""),
            ),
            models.UniqueConstraint(
                fields=["namespace", "user", "email"], name="invitation_once", nulls_distinct=False
            ),
        ]

    def __str__(self) -> str:
        return f"invitation {self.pk}"

    @property
    def of_whom(self) -> str:
        return self.user.username if self.user else self.email


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> "ApiTokenQuerySet":
        """Those that work, and those of suspended accounts: their users are to be told why these do not."""
        unexpired = models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=Now())
        not_revoked = self.filter(unexpired, revoked_at__isnull=True)
        return not_revoked.filter(models.Q(user__is_active=True) | models.Q(user__suspended_at__isnull=False))


class ApiToken(TimeStamped):
    """A bearer token for the API and for Hub clients. Only its hash is kept; it is shown once."""

    class Scope(models.TextChoices):
        READ = "read", "Read"
        WRITE = "write", "Read and write"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    label = models.CharField(max_length=60, help_text="Where you will use it, so that you can tell it apart.")
    scope = models.CharField(max_length=5, choices=Scope, default=Scope.READ)
    limited_to = models.CharField(
        max_length=2 * NAME_LENGTH_MAX + 1,
        blank=True,
        help_text="“owner” or “owner/name”; empty: everything.",
    )
    digest = models.CharField(max_length=64, unique=True, editable=False)  # sha256 of the whole token
    hint = models.CharField(max_length=12, editable=False)  # first characters, to recognize it in a list
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.label} ({self.hint}…)"

    @staticmethod
    def digest_of(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    def covers(self, address: str) -> bool:
        """Whether it may act as its user on an owner's things, or on a module: “owner” or “owner/name”."""
        limit, asked = self.limited_to.casefold(), address.casefold()
        return not limit or asked == limit or asked.startswith(f"{limit}/")

    @property
    def may_write(self) -> bool:
        return self.scope == self.Scope.WRITE
