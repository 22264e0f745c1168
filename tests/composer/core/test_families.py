"""Every family of base models: what is read, what is scored, what is answered, and what peft makes of it."""

import pytest
import torch
from peft import PeftModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from composer.core.evaluation.export import write_adapter
from composer.core.methods.exact import ExactSum
from composer.core.model.base_model import IGNORED, FrozenBaseModel
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.examples import Example
from tests.composer.core.tiny import FAMILIES, TARGETS, WORDS, make_base, make_module

DECODERS = [kind for kind in FAMILIES if not kind.startswith("t5")]
EXAMPLES = [
    Example("cat", "chat chien figue"),
    Example("dog fig saw bay leg hat cat dog", "scie"),
    Example("fig fig fig", "baie CAT"),
]
WEIGHTS = torch.tensor([[0.7, -0.4], [0.0, 0.0]])  # two candidates of two modules


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """(folder of the base, our base, a method over two modules) of one family."""
    kind = request.param
    root = tmp_path_factory.mktemp(kind)
    folder = make_base(root / "base", kind)
    modules = [
        read_module(make_module(root / str(i), folder, seed=i, targets=TARGETS[kind]), str(i))
        for i in range(2)
    ]
    base, method = FrozenBaseModel.load(folder), ExactSum(stack_modules(modules))
    base.hook(layer.path for layer in method.stack.layers)
    return folder, base, method


def bare(folder, base):
    kind = AutoModelForSeq2SeqLM if base.is_encoder_decoder else AutoModelForCausalLM
    return kind.from_pretrained(folder).eval()


@torch.no_grad()
def test_only_the_answer_and_its_end_are_scored(family):
    folder, base, _ = family
    model, tokenizer = bare(folder, base), AutoTokenizer.from_pretrained(folder)
    batch = base.encode(EXAMPLES)
    nats = base.token_nats(batch, {})[0]
    for example, ours, labels in zip(EXAMPLES, nats.tolist(), batch.labels, strict=True):
        prompt = tokenizer(example.input)["input_ids"]
        answer = [*tokenizer(example.output, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        assert labels[labels != IGNORED].tolist() == answer
        if base.is_encoder_decoder:
            started = torch.tensor([[model.config.decoder_start_token_id, *answer[:-1]]])
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=started).logits[0]
        else:
            assert labels[: len(prompt)].tolist() == [IGNORED] * len(prompt)
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        expected = -sum(float(row[token]) for row, token in zip(logits.log_softmax(-1), answer, strict=True))
        assert ours == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_padding_costs_nothing(family):
    _, base, method = family
    together = base.token_nats(base.encode(EXAMPLES), method.adapters(WEIGHTS), 2)
    alone = [base.token_nats(base.encode([example]), method.adapters(WEIGHTS), 2) for example in EXAMPLES]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), rtol=1e-4, atol=1e-4)
    assert (together[0] - together[1]).abs().min() > 0.01  # the candidates are not mixed up


def test_answers_of_a_batch_are_those_of_each_prompt_alone(family):
    folder, base, method = family
    prompts = [example.input for example in EXAMPLES]
    adapters = method.adapters(WEIGHTS)
    together = base.answers(prompts, 6, adapters, 2)
    alone = [base.answers([prompt], 6, adapters, 2) for prompt in prompts]
    assert together == [[own[p][0] for own in alone] for p in range(2)]
    assert together[0] != together[1]
    model, tokenizer = bare(folder, base), AutoTokenizer.from_pretrained(folder)
    for prompt, ours in zip(prompts, together[1], strict=True):  # the second candidate adds nothing
        tokens = tokenizer(prompt, return_tensors="pt")
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        answer = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=6, pad_token_id=0
        )
        begins = 0 if base.is_encoder_decoder else ids.shape[1]
        assert tokenizer.decode(answer[0, begins:], skip_special_tokens=True).strip() == ours


@torch.no_grad()
def test_what_is_written_is_what_peft_computes(family, tmp_path):
    folder, base, method = family
    write_adapter(method.lora(WEIGHTS[0].tolist()), base, "tiny", tmp_path)
    batch = base.encode(EXAMPLES)
    theirs = PeftModel.from_pretrained(bare(folder, base), tmp_path).eval()
    real = (batch.labels != IGNORED) if base.is_encoder_decoder else batch.inputs["attention_mask"].bool()
    ours = base.logits(batch, method.adapters(WEIGHTS[:1]))[real]
    torch.testing.assert_close(ours, theirs(**batch.inputs).logits[real], rtol=1e-4, atol=1e-4)
    assert (ours - base.logits(batch, {})[real]).abs().max() > 0.01


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("keeps", [True, False])
@torch.no_grad()
def test_a_decoder_s_head_asked_at_some_positions_says_there_what_it_says_everywhere(tmp_path, kind, keeps):
    base = FrozenBaseModel.load(make_base(tmp_path, kind))
    assert base._keeps_positions
    base._keeps_positions = keeps  # an architecture that cannot be asked so is cut afterwards
    batch = base.encode(EXAMPLES)
    positions = torch.tensor([0, 3, 5])
    some, everywhere = base.logits(batch, {}, 2, positions), base.logits(batch, {}, 2)
    assert some.shape == (2 * len(EXAMPLES), 3, everywhere.shape[-1])
    torch.testing.assert_close(some, everywhere[:, positions], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("begin", ["cat", "cat dog fig saw"])
def test_a_beginning_that_prompts_share_changes_no_answer(family, begin):
    _, base, method = family
    prompts = [f"{begin} {text}" for text in ("leg", "hat bay", "leg leg leg bay")]
    adapters = method.adapters(WEIGHTS)
    alone = [base.answers([prompt], 6, adapters, 2) for prompt in prompts]
    assert base.answers(prompts, 6, adapters, 2) == [[own[p][0] for own in alone] for p in range(2)]


# --- tokenizers that add something by themselves ------------------------------

SPECIAL = ("<pad>", "</s>", "<unk>", "<s>")
IDS = {word: i for i, word in enumerate((*SPECIAL, *WORDS[:-1]))}


def tokenizer_adding(pattern: str, bos: str | None = "<s>") -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("<s>", IDS["<s>"]), ("</s>", IDS["</s>"])]
    inner.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


@pytest.mark.parametrize("pattern", ["$A", "<s> $A", "$A </s>", "<s> $A </s>"])
def test_a_decoder_reads_prompt_answer_and_one_end_whatever_its_tokenizer_adds(tmp_path, pattern):
    base = FrozenBaseModel.load(make_base(tmp_path, "llama"))
    base.tokenizer = tokenizer_adding(pattern)
    batch = base.encode([Example("cat dog", "chat")])
    begin = [IDS["<s>"]] if "<s>" in pattern else []
    answer = [IDS["chat"], IDS["</s>"]]
    assert batch.inputs["input_ids"].tolist() == [[*begin, IDS["cat"], IDS["dog"], *answer]]
    assert batch.labels.tolist() == [[IGNORED] * (len(begin) + 2) + answer]


@pytest.mark.parametrize("pattern", ["$A", "$A </s>"])
def test_an_encoder_decoder_s_answer_ends_once_whatever_its_tokenizer_adds(tmp_path, pattern):
    base = FrozenBaseModel.load(make_base(tmp_path, "t5"))
    base.tokenizer = tokenizer_adding(pattern, bos=None)
    batch = base.encode([Example("cat dog", "chat"), Example("cat", "chien chien")])
    chat, chien, end = IDS["chat"], IDS["chien"], IDS["</s>"]
    assert batch.labels.tolist() == [[chat, end, IGNORED], [chien, chien, end]]
    assert batch.label_tokens.tolist() == [2, 3]
    read = [IDS["cat"], IDS["dog"], end] if "</s>" in pattern else [IDS["cat"], IDS["dog"]]
    assert batch.inputs["input_ids"][0].tolist() == read


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_an_end_that_the_output_already_holds_is_not_doubled(tmp_path, kind):
    base = FrozenBaseModel.load(make_base(tmp_path, kind))
    plain, ended = (base.encode([Example("cat", output)]).labels for output in ("chat", "chat </s>"))
    assert ended.tolist() == plain.tolist()


def test_a_begin_that_the_template_writes_out_is_not_doubled(tmp_path):
    base = FrozenBaseModel.load(make_base(tmp_path, "llama"))
    base.tokenizer = tokenizer_adding("<s> $A")
    written, added = (
        base.encode([Example("cat", "chat")], template) for template in ("<s> {input}", "{input}")
    )
    assert written.inputs["input_ids"].tolist() == added.inputs["input_ids"].tolist()


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("begin", ["<pad>", "<s>"])  # the first has the id 0
def test_an_empty_input_is_read_as_a_begin_alone(tmp_path, kind, begin):
    base = FrozenBaseModel.load(make_base(tmp_path, kind))
    base.tokenizer = tokenizer_adding("$A", bos=begin)
    batch = base.encode([Example("", "chat")])
    assert batch.inputs["input_ids"][0, 0] == IDS[begin]
    assert batch.inputs["input_ids"].shape[1] == (1 if base.is_encoder_decoder else 3)
    assert base.token_nats(batch, {}).isfinite().all()
    assert len(base.answers([""], 2, {})[0]) == 1
