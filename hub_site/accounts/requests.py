"""Requests whose sender is signed in, for the annotations of views. No request is made from these classes."""

from rest_framework.request import Request

from hub_site.accounts.models import User
from hub_site.common.requests import PageRequest


class SignedInRequest(PageRequest):
    """What a view behind `login_required` receives."""

    user: User


class SignedInApiRequest(Request):
    """What an API view receives when its permission classes require an account."""

    user: User
