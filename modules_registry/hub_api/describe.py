"""Modules, files and commits in the protocol's JSON."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from modules_registry import selectors
from modules_registry.hub_api.told import Told, told_of
from modules_registry.models import BaseModel, Module, StoredFile, Version

Json = dict[str, Any]
RevisionSource = Version | BaseModel


def date_of(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def module_json(
    module: Module,
    version: Version,
    *,
    blobs: bool = False,
    with_card: bool = True,
    told: Told | None = None,
) -> Json:
    """A module as model_info() and list_models() read it; the card costs a look into a file.

    Args:
        told: the languages and tasks of its card, where they are known without it.
    """
    told = told or told_of(module, version)
    answer: Json = {
        "_id": f"{module.pk:024x}",
        "id": module.full_name,
        "modelId": module.full_name,
        "author": module.namespace.name,
        "sha": version.commit_id,
        "lastModified": date_of(version.created_at),
        "createdAt": date_of(module.created_at),
        "private": module.private or module.current_id is None,
        "gated": False,
        "disabled": False,
        "downloads": module.downloads,
        "downloadsAllTime": module.downloads,
        "likes": module.likes,
        "tags": tags_of(module, version, told),
        "library_name": "peft",
        "cardData": card_data(module, version) if with_card else None,
        "siblings": siblings(version, blobs=blobs),
        "usedStorage": version.size_bytes,
    }
    if version.is_complete:
        answer |= {
            "config": {
                "peft": {"base_model_name_or_path": version.base_name, "task_type": version.task_type or None}
            },
            "safetensors": {"parameters": {version.dtype: version.parameters}, "total": version.parameters},
        }
    if told.tasks:
        answer["pipeline_tag"] = told.tasks[0]
    return answer


def storage_json(module: Module, sizes: Mapping[int, int]) -> Json:
    """A module as list_user_repos() reads it. Args: sizes: bytes by module, of everything of its owner."""
    size_bytes, total = sizes.get(module.pk, 0), sum(sizes.values())
    return {
        "id": module.full_name,
        "type": "model",
        "updatedAt": date_of(module.updated_at),
        "visibility": "private" if module.private or module.current_id is None else "public",
        "storage": size_bytes,
        "storagePercent": 100 * size_bytes / total if total else 0,
    }


def base_json(base: BaseModel, *, blobs: bool = False) -> Json:
    """A base model of the library, the same way."""
    pipeline = "text-generation" if base.kind == BaseModel.Kind.CAUSAL else "text2text-generation"
    files = base.files.all()
    return {
        "_id": f"{base.pk:024x}",
        "id": base.name,
        "modelId": base.name,
        "author": base.name.rpartition("/")[0] or None,
        "sha": base.revision,
        "lastModified": date_of(base.created_at),
        "createdAt": date_of(base.created_at),
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "library_name": "transformers",
        "pipeline_tag": pipeline,
        "tags": ["transformers", "safetensors", pipeline, *license_tag(base.licence)],
        "cardData": {"license": base.licence} if base.licence else {},
        "config": {"architectures": [base.architecture]},
        "safetensors": {"parameters": {}, "total": base.parameters},
        "siblings": siblings(base, blobs=blobs),
        "usedStorage": sum(file.size_bytes for file in files),
    }


def tags_of(module: Module, version: Version, told: Told) -> list[str]:
    """What list_models() can be filtered by, each once."""
    tags = ["peft"]
    if version.is_complete:
        tags += ["safetensors", f"base_model:{version.base_name}", f"base_model:adapter:{version.base_name}"]
    tags += [*told.tasks, *told.languages, *license_tag(module.licence)]
    return list(dict.fromkeys([*tags, *(tag.name for tag in module.tags.all())]))


def license_tag(licence: str) -> list[str]:
    return [f"license:{licence}"] if licence else []


def card_data(module: Module, version: Version) -> Json:
    """The card's front matter, with what the site knows better."""
    known: Json = {"library_name": "peft"}
    if version.base_name:
        known["base_model"] = version.base_name
    if module.licence:
        known["license"] = module.licence
    return selectors.front_matter_of(version) | known


def siblings(source: RevisionSource, *, blobs: bool) -> list[Json]:
    return [sibling(file, blobs=blobs) for file in source.files.all()]


def sibling(file: StoredFile, *, blobs: bool) -> Json:
    answer: Json = {"rfilename": file.path}
    if blobs:
        answer |= {"size": file.size_bytes, "blobId": selectors.git_blob_id(file)}
        if selectors.is_listed_as_lfs(file):
            answer["lfs"] = {"sha256": file.sha256, **pointer(file)}
    return answer


def tree_item(file: StoredFile, source: RevisionSource, *, expand: bool) -> Json:
    answer: Json = {
        "type": "file",
        "oid": selectors.git_blob_id(file),
        "size": file.size_bytes,
        "path": file.path,
    }
    if selectors.is_listed_as_lfs(file):
        answer["lfs"] = {"oid": file.sha256, **pointer(file)}
    if expand:
        answer["lastCommit"] = last_commit(source)
        answer["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
    return answer


def pointer(file: StoredFile) -> Json:
    return {"size": file.size_bytes, "pointerSize": len(selectors.lfs_pointer(file))}


def last_commit(source: RevisionSource) -> Json:
    title = source.message if isinstance(source, Version) else "Add to the library"
    return {"id": source.commit_id, "title": title, "date": date_of(source.created_at)}


def commit_json(source: RevisionSource) -> Json:
    authors = [{"user": source.author.username}] if isinstance(source, Version) else []
    description = source.description if isinstance(source, Version) else ""
    return {**last_commit(source), "message": description, "authors": authors}


def refs_json(module: Module | BaseModel, head: RevisionSource) -> Json:
    branches, tags = [ref_json("main", "heads", head)], []
    if isinstance(module, Module):
        refs = list(module.refs.select_related("version"))
        branches += [ref_json(ref.name, "heads", ref.version) for ref in refs if ref.kind == ref.Kind.BRANCH]
        tags = [ref_json(ref.name, "tags", ref.version) for ref in refs if ref.kind == ref.Kind.TAG]
        named = {ref.name for ref in refs}
        numbered = [each for each in selectors.versions_of(module) if each.revision not in named]
        tags += [ref_json(each.revision, "tags", each) for each in numbered]
    return {"branches": branches, "converts": [], "tags": tags, "pullRequests": []}


def ref_json(name: str, kind: str, source: RevisionSource) -> Json:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": source.commit_id}


def only(answer: Json, expand: Iterable[str]) -> Json:
    """Of a model's JSON what was asked for, if anything was."""
    asked = set(expand)
    if not asked:
        return answer
    return {key: value for key, value in answer.items() if key in asked | {"_id", "id", "modelId"}}
