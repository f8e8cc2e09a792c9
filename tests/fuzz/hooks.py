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


def a_user(token):
    body = {"username": "target", "email": "target@example.com", "password": PASSWORD}
    return ask("POST", "/api/v1/users/", body, token)["id"]


TOKEN = login()
ROOT = ask("GET", "/api/v1/auth/me", token=TOKEN)["id"]
CONVERSATION = a_conversation(TOKEN)
TARGET = a_user(TOKEN)


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode == schemathesis.GenerationMode.POSITIVE


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Some of the ids exist: the short ones that were drawn become the one that does."""
    operation = context.operation
    lasting = operation is not None and operation.method.lower() != "delete"
    if lasting and path_parameters and len(str(path_parameters.get("id", ""))) <= 2:
        if operation.path.startswith("/api/v1/chat/{id}"):
            path_parameters["id"] = CONVERSATION
        if operation.path.startswith("/api/v1/users/{id}"):
            path_parameters["id"] = TARGET
    return path_parameters


@schemathesis.hook
def after_call(context, case, response):
    """A parked session is unavailable to everybody, as it should be: it comes back, so that what follows can find it."""
    if case.operation.path.endswith("/park") and response.status_code < 300:
        ask("POST", case.formatted_path.removesuffix("/park") + "/unpark", token=TOKEN)


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    # The one whose token this is stays as it is.
    if case.path_parameters and case.path_parameters.get("id") == ROOT:
        case.path_parameters["id"] = TARGET
    # An event stream has no end: read what there is.
    if path.endswith("/events"):
        case.headers["Accept"] = "application/x-ndjson"
    body = case.body
    # Which models there are is the upstream's to say: one that does not exist is a failure of it.
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        del body["model"]
    if not is_positive(case):
        return
    # What a schema cannot say: two fields that must be equal, who speaks last, and places that this server must have named.
    if isinstance(body, dict) and isinstance(body.get("confirm_password"), str):
        body["confirm_password"] = body.get("password")
    if isinstance(body, dict):
        for place in ("callback_url", "redirect_url"):
            body.pop(place, None)
    if path.endswith("/chat/conversation") and isinstance(body, dict) and body.get("messages"):
        body["messages"][-1]["role"] = "user"
    if case.query:
        for place in ("after", "before", "cursor"):
            case.query.pop(place, None)
