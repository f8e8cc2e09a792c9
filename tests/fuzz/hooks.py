"""What schemathesis cannot know from the document alone: a token for each call, ids that exist, an end for endless streams."""

import json
import os
import urllib.request

import schemathesis

URL = os.environ["KRONOS_URL"]
PASSWORD = os.environ["KRONOS_PASSWORD"]


def ask(method, path, body=None, token=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def login():
    return ask("POST", "/api/v1/auth/login", {"username": "root", "password": PASSWORD})["access_token"]


@schemathesis.auth(refresh_interval=600)
class Token:
    """A superuser's. A logout ends the token it comes with, so it gets one of its own."""

    def get(self, case, context):
        return login()

    def set(self, case, data, context):
        token = login() if case.operation.path.endswith("/logout") else data
        case.headers["Authorization"] = f"Bearer {token}"


def a_conversation(token):
    answer = ask("POST", "/api/v1/chat/message", {"message": "Hello!"}, token)
    return answer["conversation_id"]


CONVERSATION = a_conversation(login())


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Half of the conversations exist: those with a short id that was drawn become the one that does."""
    operation = context.operation
    is_chat = operation is not None and operation.path.startswith("/api/v1/chat/{id}")
    lasting = is_chat and operation.method.lower() != "delete"
    if lasting and path_parameters and len(str(path_parameters.get("id", ""))) <= 2:
        path_parameters["id"] = CONVERSATION
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    """A schema cannot say that two fields must be equal."""
    if isinstance(body, dict) and isinstance(body.get("confirm_password"), str):
        body["confirm_password"] = body.get("password")
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    """The event stream of a conversation has no end: read what there is."""
    if case.operation.path.endswith("/events"):
        case.headers["Accept"] = "application/x-ndjson"
