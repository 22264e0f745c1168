"""How to use this very adapter: what to type for peft, transformers and vLLM, and how to get it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from composer import selectors
from composer.core.spec.examples import Example
from composer.core.spec.templates import CHAT, fill_template, split_prompt
from composer.models import Composition
from modules_registry.core.serving import VLLM_RANKS, VLLM_WITHOUT_LORA, vllm_rank_limit
from modules_registry.models import BaseModel, Module
from modules_registry.snippets import ANSWER, AUTO_CLASS, BARE_INPUTS, CHAT_INPUTS, PEFT, quote

MERGED = """\
from peft import PeftModel
from transformers import {auto_class}, AutoTokenizer

base = {auto_class}.from_pretrained("{base}")
merged = PeftModel.from_pretrained(base, "{slug}").merge_and_unload()
merged.save_pretrained("{slug}-merged")
AutoTokenizer.from_pretrained("{base}").save_pretrained("{slug}-merged")

# From here on it is a plain model: no peft, and no adapter beside it.
tokenizer = AutoTokenizer.from_pretrained("{slug}-merged")
model = {auto_class}.from_pretrained("{slug}-merged")
{inputs}
output = model.generate(**inputs, do_sample=False, max_new_tokens={max_new_tokens})
print(tokenizer.decode({answer}, skip_special_tokens=True){cut})"""
VLLM_SERVE = "vllm serve {model} --enable-lora --max-lora-rank {limit} --lora-modules {slug}=./{slug}"
VLLM_ASK = """\
# then, in another terminal:
curl http://localhost:8000/v1/{path} -H 'Content-Type: application/json' -d {body}"""


@dataclass(frozen=True)
class Snippet:
    """Something to copy. Without code, why there is none."""

    key: str
    label: str
    code: str
    note: str = ""


@dataclass(frozen=True)
class SnippetQuestion:
    """What a snippet asks: an input in the template of the report, behind examples where these are advised.

    `recipe` is how the run put examples into prompts, the report's `examples_in_prompt`; None: without them.
    """

    template: str
    text: str
    recipe: Mapping[str, Any] | None = None
    shown: Sequence[Example] = ()

    def messages(self) -> list[dict[str, str]]:
        """The turns of a chat."""
        fill = (lambda text: text) if self.recipe is None else partial(fill_template, self.recipe["template"])
        turns = [("user", fill(self.text))]
        for example in reversed(self.shown if self.recipe else ()):
            turns = [("user", fill(example.input).strip()), ("assistant", example.output.strip()), *turns]
        return [{"role": role, "content": content} for role, content in turns]

    @property
    def is_chat(self) -> bool:
        return self.template == CHAT if self.recipe is None else self.recipe["as"] == "turns"

    @property
    def end(self) -> str | None:
        """The text that ends an answer, where no token does."""
        return self.recipe["end"] if self.recipe else None

    def prompt(self, base: BaseModel) -> str:
        """The prompt as the core reads it."""
        before, template = (
            (self.recipe["before"], self.recipe["template"]) if self.recipe else ("", self.template)
        )
        if base.kind == BaseModel.Kind.SEQ2SEQ:
            return f"{before}{fill_template(template, self.text)}"
        return f"{before}{split_prompt(template, self.text)[0]}"


def snippets(
    composition: Composition, *, rank: int | None, question: SnippetQuestion, get: Snippet
) -> list[Snippet]:
    """All ways to use it, the first to get it.

    Args:
        rank: of the written adapter; None if its report did not say.
        question: to ask it with.
    """
    words = python_words(composition, question)
    return [
        get,
        Snippet("peft", "Python, with peft", PEFT.format(**words)),
        Snippet(
            "merged",
            "Python, merged into the base (transformers)",
            MERGED.format(**words),
            "Merged, it is as fast and as large as the base alone, and carries no other adapter.",
        ),
        vllm(composition, rank, question),
    ]


def python_words(composition: Composition, question: SnippetQuestion) -> dict[str, object]:
    base = composition.base
    return {
        "auto_class": AUTO_CLASS[base.kind],
        "answer": ANSWER[base.kind],
        "base": base.name,
        "adapter": quote(composition.slug),
        "slug": composition.slug,
        "max_new_tokens": composition.max_new_tokens,
        "inputs": inputs(base, question),
        "cut": f".partition({quote(question.end)})[0]" if question.end else "",
    }


def inputs(base: BaseModel, question: SnippetQuestion) -> str:
    if question.is_chat:
        *before, asked = (
            f'{{"role": {quote(turn["role"])}, "content": {quote(turn["content"])}}}'
            for turn in question.messages()
        )
        messages = f"[{asked}]" if not before else "".join(f"\n        {turn}," for turn in (*before, asked))
        return CHAT_INPUTS.format(messages=messages if not before else f"[{messages}\n    ]")
    return BARE_INPUTS.format(prompt=quote(question.prompt(base)))


def vllm(composition: Composition, rank: int | None, question: SnippetQuestion) -> Snippet:
    """A server with the adapter beside the base, or with both merged where vLLM takes no such adapter."""
    base, slug = composition.base, composition.slug
    label = "Serve with vLLM"
    if base.kind == BaseModel.Kind.SEQ2SEQ:
        note = (
            f"vLLM does not serve {base.architecture}: it is an encoder-decoder model, and vLLM "
            "serves decoder-only ones. Use one of the two above."
        )
        return Snippet("vllm", label, "", note)
    ask = vllm_ask(composition, question)
    limit = vllm_rank_limit(rank) if rank is not None else None
    if base.architecture in VLLM_WITHOUT_LORA or limit is None:
        reason = (
            f"takes no LoRA on a {base.architecture}"
            if base.architecture in VLLM_WITHOUT_LORA
            else f"takes adapters up to rank {VLLM_RANKS[-1]}, and this one has {rank or 'an unknown one'}"
        )
        merged = f"vllm serve ./{slug}-merged --served-model-name {slug}"
        return Snippet("vllm", label, f"{merged}\n{ask}", f"vLLM {reason}, so it serves the merged model.")
    serve = VLLM_SERVE.format(model=shlex.quote(base.name), limit=limit, slug=slug)
    note = (
        f"The adapter's rank is {rank}; vLLM takes 16 at most unless --max-lora-rank says more, and only "
        f"{', '.join(map(str, VLLM_RANKS))}. Its list of supported models says whether {base.architecture} "
        "takes a LoRA."
    )
    return Snippet("vllm", label, f"{serve}\n{ask}", note)


def vllm_ask(composition: Composition, question: SnippetQuestion) -> str:
    asked: dict[str, object] = {"model": composition.slug}
    if question.is_chat:
        path = "chat/completions"
        asked["messages"] = question.messages()
    else:
        path = "completions"
        asked["prompt"] = question.prompt(composition.base)
        if question.end:
            asked["stop"] = question.end
    asked |= {"max_tokens": composition.max_new_tokens, "temperature": 0}
    return VLLM_ASK.format(path=path, body=shlex.quote(json.dumps(asked, ensure_ascii=False)))


# --- how to get it --------------------------------------------------------------


def get_published(composition: Composition, module: Module, site: str) -> Snippet:
    code = (
        f"export HF_ENDPOINT={shlex.quote(site)}\n"
        f"hf download {module.full_name} --local-dir {composition.slug}"
    )
    note = "It is private: add “--token” and one of your access tokens." if module.private else ""
    return Snippet("get", "Download with hf", code, note)


def get_by_token(composition: Composition, site: str) -> Snippet:
    """From the API, with an access token of the owner's; without an account by the page's button."""
    if composition.owner.is_guest:
        code = f"python -m zipfile -e {composition.slug}.zip ."
        return Snippet("get", "Shell, to unpack it", code, "Download the zip by the button above.")
    address = f"{site}/api/v1/compositions/{composition.pk}/adapter"
    code = (
        f"export HF_ENDPOINT={shlex.quote(site)}\n"
        f'curl -f -H "Authorization: Bearer $HF_TOKEN" -o {composition.slug}.zip {shlex.quote(address)}\n'
        f"python -m zipfile -e {composition.slug}.zip ."
    )
    note = "HF_TOKEN is one of your access tokens. Or use the download button above and unpack the zip."
    return Snippet("get", "Download with curl", code, note)


def get_shared(composition: Composition, site: str, address: str) -> Snippet:
    code = (
        f"export HF_ENDPOINT={shlex.quote(site)}\n"
        f"curl -f -o {composition.slug}.zip {shlex.quote(f'{site}{address}adapter.zip')}\n"
        f"python -m zipfile -e {composition.slug}.zip ."
    )
    return Snippet("get", "Download with curl", code)


def own_question(composition: Composition, report: Mapping[str, Any]) -> SnippetQuestion:
    """The shortest of the owner's examples; behind the others where the verdict advises that."""
    shown = selectors.few_shot_examples(composition)
    text = min((pair.input for pair in shown), key=len)
    recipe = report.get("examples_in_prompt") if report["verdict"]["decision"] == "prompt" else None
    return SnippetQuestion(
        report["template"], text, recipe, shown[: recipe.get("n_shown")] if recipe else shown
    )


def own_snippets(composition: Composition, site: str) -> list[Snippet]:
    """How to use it, asked with the shortest of the owner's examples."""
    report, module = composition.report or {}, composition.published_module
    return snippets(
        composition,
        rank=report["rank"],
        question=own_question(composition, report),
        get=get_published(composition, module, site) if module else get_by_token(composition, site),
    )
