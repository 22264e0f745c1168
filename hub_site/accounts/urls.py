from django.urls import path

from hub_site.accounts import views

app_name = "accounts"

urlpatterns = [
    path("settings/organizations/", views.organizations, name="organizations"),
    path("settings/organizations/<namespace:namespace>/", views.organization, name="organization"),
    path(
        "settings/organizations/<namespace:namespace>/members/<namespace:member>/",
        views.member,
        name="member",
    ),
    path(
        "settings/organizations/<namespace:namespace>/invitations/<int:number>/withdraw/",
        views.withdraw_invitation,
        name="invitation-withdraw",
    ),
    path("settings/invitations/<int:number>/", views.answer_invitation, name="invitation-answer"),
    path("settings/invitations/<str:token>/", views.invitation, name="invitation"),
    path("settings/history/", views.history, name="history"),
    path("settings/tokens/", views.tokens, name="tokens"),
    path("settings/tokens/<int:token_id>/revoke/", views.token_delete, name="token-revoke"),
]
