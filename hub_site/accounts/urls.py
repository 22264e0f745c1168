from django.urls import path

from hub_site.accounts import views

app_name = "accounts"

urlpatterns = [
    path("settings/history/", views.history, name="history"),
    path("settings/tokens/", views.tokens, name="tokens"),
    path("settings/tokens/<int:token_id>/revoke/", views.token_delete, name="token-revoke"),
]
