from django.urls import path

from composer import views
from composer.models import Example
from composer.publish.views import composition_publish_page
from composer.report.exports import FILES
from composer.report.views import (
    composition_adapter,
    composition_baseline_adapter,
    composition_examples,
    composition_file,
)
from composer.request.views import (
    chooser,
    composition_new,
    draft_discard_page,
    draft_keep_page,
    examples_read,
    file_reading,
)
from composer.share.views import example_report, share_renew_page, share_withdraw_page
from composer.watch.views import (
    composition_events,
    composition_mail_page,
    composition_progress,
    composition_stream,
)

app_name = "composer"

urlpatterns = [
    path("", views.composition_list, name="list"),
    path("example/", example_report, name="example"),
    path("new/", composition_new, name="new"),
    path("new/examples/", examples_read, name="examples-read"),
    path("new/modules/", chooser, name="chooser"),
    path("new/<str:group>/file/", file_reading, name="file-reading"),
    path("drafts/", draft_keep_page, name="draft-keep"),
    path("drafts/<str:key>/discard/", draft_discard_page, name="draft-discard"),
    path("<uuid:composition_id>/", views.composition_page, name="composition"),
    path("<uuid:composition_id>/progress/", composition_progress, name="progress"),
    path("<uuid:composition_id>/events/", composition_events, name="events"),
    path("<uuid:composition_id>/stream/", composition_stream, name="stream"),
    path("<uuid:composition_id>/mail/", composition_mail_page, name="mail"),
    path("<uuid:composition_id>/cancel/", views.composition_cancel_page, name="cancel"),
    path("<uuid:composition_id>/stop/", views.composition_stop_page, name="stop"),
    path("<uuid:composition_id>/delete/", views.composition_delete_page, name="delete"),
    path(
        "<uuid:composition_id>/examples.jsonl",
        composition_examples,
        {"role": Example.Role.SHOT},
        name="shots",
    ),
    path(
        "<uuid:composition_id>/held_out.jsonl",
        composition_examples,
        {"role": Example.Role.HELD_OUT},
        name="held-out",
    ),
    path("<uuid:composition_id>/publish/", composition_publish_page, name="publish"),
    path("<uuid:composition_id>/share/", share_renew_page, name="share"),
    path("<uuid:composition_id>/share/withdraw/", share_withdraw_page, name="withdraw"),
    path("<uuid:composition_id>/adapter.zip", composition_adapter, name="adapter"),
    path(
        "<uuid:composition_id>/adapters/<str:key>.zip", composition_baseline_adapter, name="baseline-adapter"
    ),
    *(path(f"<uuid:composition_id>/{name}", composition_file, {"name": name}) for name in FILES),
]
