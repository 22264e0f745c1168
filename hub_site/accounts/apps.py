from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "hub_site.accounts"
    label = "accounts"

    def ready(self) -> None:
        from hub_site.accounts import openapi  # noqa: F401  drf-spectacular learns our bearer tokens by import
