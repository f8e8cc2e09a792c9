"""Checks a running simulator with Google's own Python SDK.

Usage: python check_python_sdk.py http://127.0.0.1:8090
Prints a line per check and ends with "N passed, M failed"; the exit code is 1 when one failed.
"""

import asyncio
import sys
import traceback

from google import genai
from google.genai import errors, types
from pydantic import BaseModel

MODEL = "gemini-3.8-flash"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def client(base, key="test-key", version=None):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=base, api_version=version))


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def weather(city: str) -> dict:
    """Weather for a city."""
    return {"temp": 21, "city": city}


WEATHER = types.FunctionDeclaration(
    name="get_weather",
    description="Weather for a city",
    parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")}, required=["city"]),
)
TIME = types.FunctionDeclaration(
    name="get_time",
    description="Time in a zone",
    parameters_json_schema={"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
)
TOOLS = [types.Tool(function_declarations=[WEATHER, TIME])]


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]


@check
def lists_models_in_pages(base, c):
    names = [model.name for model in c.models.list(config={"page_size": 4})]
    assert len(names) > 4 and f"models/{MODEL}" in names, names


@check
def gets_a_model(base, c):
    model = c.models.get(model=MODEL)
    assert model.input_token_limit == 1048576 and model.thinking, model


@check
def generates_text_in_all_versions(base, c):
    for version in [None, "v1", "v1beta", "v1alpha"]:
        other = client(base, version=version)
        answer = other.models.generate_content(model=MODEL, contents="What is the capital of France?")
        assert "Paris" in answer.text and answer.candidates[0].finish_reason == "STOP", answer
        assert answer.model_version == MODEL and answer.response_id and answer.usage_metadata.total_token_count > 0


@check
def chats_two_turns(base, c):
    chat = c.chats.create(model=MODEL)
    chat.send_message("I like otters")
    assert "otters" in chat.send_message("What did I say before?").text
    assert [content.role for content in chat.get_history()] == ["user", "model"] * 2


@check
def streams(base, c):
    chunks = list(c.models.generate_content_stream(model=MODEL, contents="[[tokens 40]]"))
    assert len(chunks) >= 4 and len("".join(x.text or "" for x in chunks).split()) == 40
    assert [x.candidates[0].finish_reason is not None for x in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len({x.response_id for x in chunks}) == 1
    totals = [x.usage_metadata.total_token_count for x in chunks]
    assert totals == sorted(totals) and totals[0] < totals[-1]
    assert chunks[-1].candidates[0].content.parts[0].thought_signature


@check
def streams_async(base, c):
    async def run():
        stream = await c.aio.models.generate_content_stream(model=MODEL, contents="Tell me a story")
        return [chunk.text async for chunk in stream]

    assert len(asyncio.run(run())) > 3


@check
def takes_the_stamp_of_chunks(base, c):
    import json
    import urllib.request

    def put(on):
        body = json.dumps({"stamp_chunks": on}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{base}/sim/config", data=body, method="PUT")).read()

    put(True)
    try:
        # The SDK drops the two fields; it must not trip over them.
        assert "".join(x.text or "" for x in c.models.generate_content_stream(model=MODEL, contents="hello"))
        assert c.models.generate_content(model=MODEL, contents="hello").text
    finally:
        put(False)


@check
def takes_all_of_the_config(base, c):
    parts = [
        types.Part(text="Describe"),
        types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png"),
        types.Part.from_uri(file_uri="https://generativelanguage.googleapis.com/v1beta/files/abc", mime_type="application/pdf"),
    ]
    config = types.GenerateContentConfig(
        system_instruction="Be brief.", temperature=0.5, top_p=0.9, top_k=40, candidate_count=1, max_output_tokens=500,
        stop_sequences=["END"], presence_penalty=0.1, frequency_penalty=0.2, seed=7, response_modalities=["TEXT"],
        media_resolution="MEDIA_RESOLUTION_LOW", labels={"team": "k"}, cached_content="cachedContents/abc",
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level="LOW"),
        safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_ONLY_HIGH")],
    )
    assert c.models.generate_content(model=MODEL, contents=parts, config=config).text


@check
def counts_tokens(base, c):
    assert c.models.count_tokens(model=MODEL, contents="How many tokens is this?").total_tokens > 0


@check
def calls_a_function_by_hand(base, c):
    config = types.GenerateContentConfig(
        tools=TOOLS, automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )
    user = types.Content(role="user", parts=[types.Part(text="What is the weather in Paris?")])
    first = c.models.generate_content(model=MODEL, contents=[user], config=config)
    call = first.function_calls[0]
    assert call.name == "get_weather" and call.args == {"city": "Paris"} and call.id, call
    assert first.candidates[0].content.parts[0].thought_signature
    result = types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": {"temp": 21}}))
    follow = [user, first.candidates[0].content, types.Content(role="user", parts=[result])]
    assert "21" in c.models.generate_content(model=MODEL, contents=follow, config=config).text
    unsigned = types.Content(role="model", parts=[types.Part(function_call=call)])
    error = fails(errors.ClientError, lambda: c.models.generate_content(model=MODEL, contents=[user, unsigned, follow[2]], config=config))
    assert error.code == 400 and "thought_signature" in error.message


@check
def calls_a_function_automatically(base, c):
    answer = c.models.generate_content(model=MODEL, contents="weather please", config=types.GenerateContentConfig(tools=[weather]))
    assert "21" in answer.text and len(answer.automatic_function_calling_history) >= 3


@check
def streams_parallel_calls_that_must_happen(base, c):
    mode = types.FunctionCallingConfig(mode="ANY", allowed_function_names=["get_weather", "get_time"])
    config = types.GenerateContentConfig(
        tools=TOOLS, tool_config=types.ToolConfig(function_calling_config=mode),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    parts = [
        part
        for chunk in c.models.generate_content_stream(model=MODEL, contents="weather and time", config=config)
        for part in chunk.candidates[0].content.parts
    ]
    calls = [part for part in parts if part.function_call]
    assert [part.function_call.name for part in calls] == ["get_weather", "get_time"]
    assert [bool(part.thought_signature) for part in calls] == [True, False]


@check
def never_calls_when_told_not_to(base, c):
    mode = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="NONE"))
    config = types.GenerateContentConfig(tools=TOOLS, tool_config=mode)
    answer = c.models.generate_content(model=MODEL, contents="weather in Rome?", config=config)
    assert not answer.function_calls and answer.text


@check
def fills_a_schema(base, c):
    for config in [
        {"response_mime_type": "application/json", "response_schema": Person},
        {"response_mime_type": "application/json", "response_json_schema": Person.model_json_schema()},
    ]:
        answer = c.models.generate_content(model=MODEL, contents="Give me a person", config=config)
        Person.model_validate_json(answer.text)


@check
def streams_thoughts(base, c):
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level="HIGH"))
    chunks = list(c.models.generate_content_stream(model=MODEL, contents="why?", config=config))
    assert chunks[0].candidates[0].content.parts[0].thought and chunks[0].usage_metadata.thoughts_token_count > 0
    assert "".join(chunk.text or "" for chunk in chunks)


@check
def fails_with_quota_details(base, c):
    error = fails(errors.ClientError, lambda: c.models.generate_content(model=MODEL, contents="[[429;retry_after=2.5]] hi"))
    details = {entry["@type"].rsplit(".", 1)[1]: entry for entry in error.details["error"]["details"]}
    assert error.code == 429 and error.status == "RESOURCE_EXHAUSTED"
    assert details["RetryInfo"]["retryDelay"] == "2.500s" and details["QuotaFailure"]["violations"]


@check
def fails_with_503_and_then_recovers(base, c):
    ask = lambda: list(c.models.generate_content_stream(model=MODEL, contents=f"[[503x2]] hi {id(c)}"))
    for _ in range(2):
        assert fails(errors.ServerError, ask).code == 503
    assert ask()


@check
def fails_by_header(base, c):
    config = types.GenerateContentConfig(http_options=types.HttpOptions(headers={"x-kronos-sim-fault": "500"}))
    assert fails(errors.ServerError, lambda: c.models.generate_content(model=MODEL, contents="hi", config=config)).code == 500


@check
def refuses_an_invalid_key(base, c):
    other = client(base, "not-a-key")
    error = fails(errors.ClientError, lambda: other.models.generate_content(model=MODEL, contents="hi"))
    assert error.code == 400 and error.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"


@check
def refuses_an_unknown_model(base, c):
    error = fails(errors.ClientError, lambda: c.models.generate_content(model="gemini-0.1-nothing", contents="hi"))
    assert error.code == 404 and error.status == "NOT_FOUND"


@check
def raises_on_an_error_in_mid_stream(base, c):
    for word in ["midstream", "midstream-raw"]:
        seen = []

        def read():
            for chunk in c.models.generate_content_stream(model=MODEL, contents=f"[[{word}]] tell me a story"):
                seen.append(chunk.text)

        assert fails(errors.ServerError, read).code == 503 and len(seen) == 2, (word, seen)


@check
def notices_a_dropped_connection(base, c):
    for word in ["cut", "truncate"]:
        fails(Exception, lambda: list(c.models.generate_content_stream(model=MODEL, contents=f"[[{word}]] tell me a story")))
    chunks = list(c.models.generate_content_stream(model=MODEL, contents="[[truncate-clean]] tell me a story"))
    assert len(chunks) == 2 and chunks[-1].candidates[0].finish_reason is None


@check
def blocks_a_prompt(base, c):
    answer = c.models.generate_content(model=MODEL, contents="[[blocked]] hi")
    assert not answer.candidates and answer.prompt_feedback.block_reason == "PROHIBITED_CONTENT"
    chunks = list(c.models.generate_content_stream(model=MODEL, contents="[[blocked]] hi"))
    assert len(chunks) == 1 and chunks[0].prompt_feedback


@check
def stops_for_safety_and_recitation(base, c):
    for word, reason in [("safety", "SAFETY"), ("recitation", "RECITATION"), ("malformed", "MALFORMED_FUNCTION_CALL")]:
        chunks = list(c.models.generate_content_stream(model=MODEL, contents=f"[[{word}]] hi"))
        assert chunks[-1].candidates[0].finish_reason == reason, (word, chunks)


@check
def stops_at_max_tokens(base, c):
    answer = c.models.generate_content(model=MODEL, contents="hello there you", config={"max_output_tokens": 2})
    assert answer.candidates[0].finish_reason == "MAX_TOKENS" and len(answer.text.split()) == 2
    assert answer.usage_metadata.candidates_token_count == 2
    assert c.models.generate_content(model=MODEL, contents="[[max-tokens-empty]]").text is None


@check
def continues_a_long_answer(base, c):
    assert c.models.generate_content(model=MODEL, contents="[[continue]] go").text == "First half, second half."


@check
def embeds_and_caches(base, c):
    config = {"output_dimensionality": 3}
    assert len(c.models.embed_content(model="gemini-embedding-2", contents="a", config=config).embeddings[0].values) == 3
    cache = c.caches.create(model=MODEL, config={"contents": "long text", "ttl": "3600s", "display_name": "d"})
    assert cache.name.startswith("cachedContents/") and cache.expire_time


def main():
    base = sys.argv[1].rstrip("/")
    failed = 0
    sdk = client(base)
    for function in CHECKS:
        try:
            function(base, sdk)
            print(f"ok    {function.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL  {function.__name__}\n{traceback.format_exc()}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
