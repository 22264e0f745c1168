from django.urls import path

from hub_site.my_account import views

app_name = "my_account"

urlpatterns = [
    path("settings/", views.account, name="account"),
    path("settings/export/", views.export, name="export"),
    path("settings/sessions/<int:number>/end/", views.end_session, name="session-end"),
    path("settings/delete/", views.delete, name="delete"),
    path("notifications/", views.notifications, name="notifications"),
    path("notifications/read/", views.read, name="notifications-read"),
    path("notifications/mail/", views.choose_mail, name="notifications-mail"),
]
