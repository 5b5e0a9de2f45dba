r"""ChatML, a way to write conversations for models that were never taught one.

    <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n

As OpenAI described it in 2023 and SmolLM2 and Qwen follow it; tools are called as Qwen calls them.
"""

from __future__ import annotations

from tokenizers import AddedToken
from tokenizers import Tokenizer as RustTokenizer

from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

BEGIN, END = "<|im_start|>", "<|im_end|>"  # of a turn

# Without line breaks of its own: whether a block swallows the one behind it is a setting elsewhere.
SOURCE = (
    "{%- set told = messages[0]['content'] if messages[0]['role'] == 'system' else '' -%}"
    "{%- if told or tools -%}"
    "{{ '<|im_start|>system\\n' + told }}"
    "{%- if tools -%}"
    "{{ ('\\n\\n' if told else '') + 'There are tools. To use one, write "
    '<tool_call>{"name": ..., "arguments": {...}}</tool_call>\' }}'
    "{%- for tool in tools -%}{{ '\\n' + (tool | tojson) }}{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{%- for message in messages if message['role'] != 'system' -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{%- for call in message['tool_calls'] or [] -%}"
    "{{ '<tool_call>' + ((call['function'] or call) | tojson) + '</tool_call>' }}"
    "{%- endfor -%}"
    "{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


def with_chatml(tokenizer: Tokenizer) -> tuple[Tokenizer, ChatTemplate]:
    """A copy of a tokenizer in which turns have tokens, added behind the others where they are
    missing, and the template that writes them."""
    rust = RustTokenizer.from_str(tokenizer.rust.to_str())
    rust.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (BEGIN, END)])
    return Tokenizer(rust), ChatTemplate(SOURCE, {"eos_token": END})


def first_vectors(old: Tokenizer, new: Tokenizer) -> dict[int, int]:
    """Which added token may begin as a copy of which old one: the end of a turn as that of a text.

    A model knows when a text ends; it then has to learn only that a turn is one.
    """
    known = next(
        (old.control_ids[t] for t in (END_OF_TEXT, "</s>", "<eos>") if t in old.control_ids), None
    )
    added = new.control_ids[END]
    return {} if known is None or added < old.vocab_size else {added: known}
