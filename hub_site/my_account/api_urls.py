from django.urls import path

from hub_site.my_account import api

urlpatterns = [
    path("account", api.AccountApi.as_view()),
    path("account/export", api.ExportApi.as_view()),
    path("account/sessions", api.SessionsApi.as_view()),
    path("account/sessions/<int:number>", api.SessionApi.as_view()),
    path("account/invitations", api.InvitationsApi.as_view()),
    path("account/invitations/<int:number>", api.InvitationApi.as_view()),
    path("account/notifications", api.NotificationsApi.as_view()),
    path("account/notifications/read", api.NotificationsReadApi.as_view()),
    path("account/notifications/mail", api.NotificationMailApi.as_view()),
    path("organizations", api.OrganizationsApi.as_view()),
    path("organizations/<namespace:namespace>/members", api.MembersApi.as_view()),
    path("organizations/<namespace:namespace>/members/<namespace:member>", api.MemberApi.as_view()),
]
