from django.urls import include, path
from django.views.generic import RedirectView

from modules_registry import views

app_name = "modules_registry"

urlpatterns = [
    path("modules/", views.module_list, name="list"),
    path("modules/suggestions/", views.module_suggestions, name="suggestions"),
    path("modules/new/", views.module_new, name="new"),
    path("modules/check/", views.upload_check, name="check"),
    path("modules/compare/", views.module_compare, name="compare"),
    path("tags/<str:tag>/", views.tag_page, name="tag"),
    path("modules/imports/", include("modules_registry.importing.urls")),
    path("<namespace:namespace>", views.namespace_page, name="namespace"),
    path("<namespace:namespace>/", RedirectView.as_view(pattern_name="modules_registry:namespace")),
    path("<namespace:namespace>/<repo:name>", views.module_page, name="module"),
    path("<namespace:namespace>/<repo:name>/", RedirectView.as_view(pattern_name="modules_registry:module")),
    path("<namespace:namespace>/<repo:name>/tree/<path:revision>", views.module_page, name="version"),
    path("<namespace:namespace>/<repo:name>/versions/<int:number>", views.numbered_page, name="numbered"),
    # Where a Hub has pages of their own, and clients print their addresses.
    path("<namespace:namespace>/<repo:name>/commit/<path:address>", views.revision_page),
    path("<namespace:namespace>/<repo:name>/commits/<path:address>", views.revision_page),
    path("<namespace:namespace>/<repo:name>/raw/<path:address>", views.raw_file),
    path("<namespace:namespace>/<repo:name>/picture.png", views.module_picture, name="picture"),
    path("<namespace:namespace>/<repo:name>/like", views.module_like_change, name="like"),
    path("<namespace:namespace>/<repo:name>/", include("modules_registry.explore.urls")),
    path("<namespace:namespace>/<repo:name>/edit", views.module_edit_page, name="edit"),
    path("<namespace:namespace>/<repo:name>/upload", views.version_new, name="version-new"),
    path("<namespace:namespace>/<repo:name>/move", views.module_move_page, name="move"),
    path("<namespace:namespace>/<repo:name>/history", views.module_history, name="history"),
    path("<namespace:namespace>/<repo:name>/delete", views.module_delete_page, name="delete"),
]
