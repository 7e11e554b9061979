"""Asks through the proxy with both SDKs: client.py BASE_URL TOKEN."""

import sys

import anthropic
import openai

base, token = sys.argv[1], sys.argv[2]
messages = [{"role": "user", "content": "apple"}]

claude = anthropic.Anthropic(base_url=base, api_key=token)
answer = claude.messages.create(model="m", max_tokens=10, messages=messages)
print("anthropic plain:", answer.content[0].text)
with claude.messages.stream(model="m", max_tokens=10, messages=messages) as stream:
    print("anthropic streamed:", "".join(stream.text_stream))

gpt = openai.OpenAI(base_url=f"{base}/openai/v1", api_key=token)
answer = gpt.chat.completions.create(model="m", messages=messages)
print("openai plain:", answer.choices[0].message.content)
stream = gpt.chat.completions.create(model="m", messages=messages, stream=True)
print("openai streamed:", "".join(chunk.choices[0].delta.content or "" for chunk in stream))
print("openai response:", gpt.responses.create(model="m", input="apple").output_text)

try:
    stranger = anthropic.Anthropic(base_url=base, api_key="placeholder")
    stranger.messages.create(model="m", max_tokens=10, messages=messages)
except anthropic.AuthenticationError as error:
    print("anthropic refused:", error.status_code)
try:
    openai.OpenAI(base_url=f"{base}/openai/v1", api_key="sk-other").models.list()
except openai.AuthenticationError as error:
    print("openai refused:", error.status_code)
