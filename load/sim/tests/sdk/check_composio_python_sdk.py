"""Checks a running Composio simulator with Composio's own Python SDK.

Usage: python check_composio_python_sdk.py http://127.0.0.1:8091
Prints a line per check and ends with "N passed, M failed"; the exit code is 1 when one failed.
"""

import json
import sys
import threading
import traceback
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import composio_client
from composio import Composio
from composio import exceptions as errors

CHECKS = []
VERSION = "20261015_00"


def check(function):
    CHECKS.append(function)
    return function


def client(base, key="ak_test"):
    return Composio(api_key=key, base_url=base, allow_tracking=False)


def control(base, path, body):
    request = urllib.request.Request(base + path, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind}")


def connected(base, user, toolkit):
    return control(base, "/sim/accounts", {"user_id": user, "toolkit": toolkit})["id"]


def press(url, decision):
    """Presses a button of the page and returns where it leads."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *arguments):
            return None

    try:
        urllib.request.build_opener(Stay).open(url, f"decision={decision}".encode())
    except urllib.error.HTTPError as answer:
        return answer.headers["location"]
    raise AssertionError("no redirect")


@check
def lists_toolkits(base, c):
    slugs = [toolkit.slug for toolkit in c.toolkits.list(limit=100).items]
    assert {"github", "gmail", "slack", "googlecalendar", "notion"} <= set(slugs), slugs
    first = c.toolkits.list(limit=2)
    second = c.toolkits.list(limit=2, cursor=first.next_cursor)
    assert [item.slug for item in [*first.items, *second.items]] == slugs[:4]


@check
def gets_a_toolkit_and_the_fields_it_needs(base, c):
    toolkit = c.toolkits.get("github")
    assert toolkit.meta.available_versions[0] == VERSION, toolkit.meta
    fields = c.toolkits.get_auth_config_creation_fields(toolkit="github", auth_scheme="OAUTH2", required_only=True)
    assert len(fields) == 2, fields
    fields = c.toolkits.get_connected_account_initiation_fields(toolkit="perplexityai", auth_scheme="API_KEY")
    assert "generic_api_key" in str(fields), fields


@check
def gets_tools(base, c):
    tools = c.tools.get(user_id="anna", toolkits=["github", "gmail"], limit=100)
    names = [tool["function"]["name"] for tool in tools]
    assert "GITHUB_CREATE_ISSUE" in names and "GMAIL_SEND_EMAIL" in names, names
    tools = c.tools.get(user_id="anna", search="send email", limit=1)
    assert tools[0]["function"]["name"] == "GMAIL_SEND_EMAIL", tools
    tool = c.tools.get_raw_composio_tool_by_slug("GITHUB_CREATE_ISSUE")
    assert tool.toolkit.slug == "github" and "important" in tool.tags, tool


@check
def keeps_auth_configs(base, c):
    made = c.auth_configs.create("github", {"type": "use_composio_managed_auth", "name": "Checked"})
    found = c.auth_configs.get(made.id)
    assert (found.name, found.status, found.is_composio_managed) == ("Checked", "ENABLED", True), found
    own = {"client_id": "cid", "client_secret": "secret-value"}
    custom = c.auth_configs.create(
        "github", {"type": "use_custom_auth", "auth_scheme": "OAUTH2", "credentials": own, "name": "Own"}
    )
    assert c.auth_configs.get(custom.id).credentials["client_secret"] == "secr...", "masked"
    c.auth_configs.disable(made.id)
    assert made.id not in [item.id for item in c.auth_configs.list(limit=100).items]
    assert made.id in [item.id for item in c.auth_configs.list(limit=100, show_disabled=True).items]
    c.auth_configs.enable(made.id)
    c.auth_configs.update(custom.id, options={"type": "custom", "credentials": {"client_secret": "other-value"}})
    assert c.auth_configs.get(custom.id).credentials["client_id"] == "cid", "merged"
    for each in [made, custom]:
        c.auth_configs.delete(each.id)
    fails(composio_client.NotFoundError, lambda: c.auth_configs.get(made.id))


@check
def connects_by_a_link(base, c):
    config = c.auth_configs.create("slack", {"type": "use_composio_managed_auth"})
    request = c.connected_accounts.link("lena", config.id, callback_url="https://kronos.example/back?x=1")
    target = press(request.redirect_url, "approve")
    assert f"connected_account_id={request.id}" in target and "status=success" in target and "x=1" in target, target
    account = request.wait_for_connection(timeout=10)
    assert account.status == "ACTIVE" and account.user_id == "lena", account
    fails(errors.ComposioMultipleConnectedAccountsError, lambda: c.connected_accounts.link("lena", config.id))
    c.connected_accounts.link("lena", config.id, allow_multiple=True)
    listed = c.connected_accounts.list(user_ids=["lena"], statuses=["ACTIVE"])
    assert [item.id for item in listed.items] == [request.id], listed


@check
def waits_until_somebody_approves(base, c):
    config = c.auth_configs.create("notion", {"type": "use_composio_managed_auth"})
    request = c.connected_accounts.link("mia", config.id)
    approve = lambda: control(base, f"/sim/connections/{request.id}", {"status": "ACTIVE"})
    threading.Timer(1.5, approve).start()
    assert request.wait_for_connection(timeout=20).status == "ACTIVE"
    denied = c.connected_accounts.link("mia", config.id, allow_multiple=True)
    control(base, f"/sim/connections/{denied.id}", {"status": "FAILED"})
    fails(errors.SDKError, lambda: denied.wait_for_connection(timeout=10))


@check
def is_told_that_initiate_is_retired(base, c):
    config = c.auth_configs.create("gmail", {"type": "use_composio_managed_auth"})
    error = fails(Exception, lambda: c.connected_accounts.initiate("nora", config.id))
    assert "link" in str(error), error
    keyed = c.auth_configs.create("perplexityai", {"type": "use_custom_auth", "auth_scheme": "API_KEY", "credentials": {}})
    made = c.connected_accounts.initiate(
        "nora", keyed.id, config={"auth_scheme": "API_KEY", "val": {"status": "ACTIVE", "generic_api_key": "k-123456"}}
    )
    assert c.connected_accounts.get(made.id).status == "ACTIVE"


@check
def manages_accounts(base, c):
    account = connected(base, "olga", "github")
    c.connected_accounts.disable(account)
    assert c.connected_accounts.get(account).status == "INACTIVE"
    c.connected_accounts.enable(account)
    assert c.connected_accounts.get(account).status == "ACTIVE"
    c.connected_accounts.update(account, alias="work")
    assert c.connected_accounts.get(account).alias == "work"
    assert c.connected_accounts.refresh(account).redirect_url
    assert c.connected_accounts.get(account).status == "INITIATED"
    control(base, f"/sim/connections/{account}", {"status": "ACTIVE"})
    assert c.connected_accounts.revoke(account).connected_account.status == "REVOKED"
    c.connected_accounts.delete(account)
    fails(composio_client.NotFoundError, lambda: c.connected_accounts.get(account))


@check
def executes_tools(base, c):
    account = connected(base, "petra", "github")
    run = lambda slug, arguments, **more: c.tools.execute(slug, arguments, user_id="petra", version=VERSION, **more)
    place = {"owner": "octocat", "repo": "checked"}
    made = run("GITHUB_CREATE_ISSUE", {**place, "title": "From Python"}, connected_account_id=account)
    assert made["successful"] and made["error"] is None, made
    listed = run("GITHUB_LIST_REPOSITORY_ISSUES", place)
    assert "From Python" in [issue["title"] for issue in listed["data"]["issues"]], listed
    wrong = run("GITHUB_CREATE_ISSUE", {"owner": "octocat"})
    assert not wrong["successful"] and "`title`" in wrong["error"], wrong
    free = c.tools.execute("HACKERNEWS_GET_FRONTPAGE", {}, user_id="petra", dangerously_skip_version_check=True)
    assert free["data"]["hits"], free
    fails(errors.ToolVersionRequiredError, lambda: c.tools.execute("GITHUB_CREATE_ISSUE", {}, user_id="petra"))
    answer = c.tools.proxy(endpoint="/user", method="GET", connected_account_id=account)
    assert answer.status == 200 and answer.data["login"] == "octocat", answer


@check
def raises_errors(base, c):
    connected(base, "quinn", "github")
    arguments = {"owner": "octocat", "repo": "checked", "title": "x"}
    run = lambda **more: c.tools.execute("GITHUB_CREATE_ISSUE", arguments, version=VERSION, **more)
    other = connected(base, "rosa", "github")
    error = fails(composio_client.BadRequestError, lambda: run(user_id="quinn", connected_account_id=other))
    assert "1812" in str(error.body), error.body
    error = fails(composio_client.NotFoundError, lambda: run(user_id="nobody"))
    assert "1810" in str(error.body), error.body
    control(base, "/sim/script", {"tool": "GITHUB_CREATE_ISSUE", "fault": "429"})
    fails(composio_client.RateLimitError, lambda: run(user_id="quinn"))
    control(base, "/sim/script", {"tool": "GITHUB_CREATE_ISSUE", "fault": "503"})
    fails(composio_client.InternalServerError, lambda: run(user_id="quinn"))
    control(base, "/sim/script", {"tool": "GITHUB_CREATE_ISSUE", "fault": "cut-after-effect"})
    fails(composio_client.APIConnectionError, lambda: run(user_id="quinn"))
    fails(composio_client.AuthenticationError, lambda: client(base, "bad-key").toolkits.list())
    # Reading is tried again.
    control(base, "/sim/script", {"path": "/toolkits", "fault": "503", "times": 2})
    assert c.toolkits.list().items


@check
def keeps_triggers(base, c):
    connected(base, "sara", "github")
    assert "GITHUB_COMMIT_EVENT" in [kind.slug for kind in c.triggers.list(toolkit_slugs=["github"]).items]
    made = c.triggers.create("GITHUB_COMMIT_EVENT", user_id="sara", trigger_config={"owner": "o", "repo": "r"})
    active = c.triggers.list_active(trigger_ids=[made.trigger_id])
    assert [item.id for item in active.items] == [made.trigger_id], active
    c.triggers.disable(made.trigger_id)
    assert not c.triggers.list_active(trigger_ids=[made.trigger_id]).items
    c.triggers.enable(made.trigger_id)
    c.triggers.delete(made.trigger_id)


@check
def verifies_webhooks(base, c):
    got = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.headers, self.rfile.read(int(self.headers["content-length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    own = c.webhooks.subscriptions
    subscription = own.set(webhook_url=f"http://127.0.0.1:{server.server_port}/hook")
    subscription = own.set(webhook_url=f"http://127.0.0.1:{server.server_port}/hook2")
    for order in [{}, {"forged": True}, {"stale": True}]:
        control(base, "/sim/webhooks", order)
    server.shutdown()

    def verify(at, secret):
        headers, body = got[at]
        return c.triggers.verify_webhook(
            id=headers["webhook-id"],
            payload=body,
            secret=secret,
            signature=headers["webhook-signature"],
            timestamp=headers["webhook-timestamp"],
        )

    secret = subscription["secret"]
    result = verify(0, secret)
    assert str(result["version"]).endswith("V3") and result["payload"]["trigger_slug"] == "GITHUB_COMMIT_EVENT", result
    for at in [1, 2]:
        fails(errors.WebhookSignatureVerificationError, lambda: verify(at, secret))
    rotated = own.rotate_secret(subscription["id"])
    assert "whsec_" in str(rotated), rotated


@check
def uses_a_session(base, c):
    connected(base, "tess", "github")
    session = c.create(user_id="tess", toolkits=["github"])
    assert session.mcp.url.startswith("http"), session
    assert session.toolkits().items[0].slug == "github"


def main():
    base = sys.argv[1].rstrip("/")
    failed = 0
    for function in CHECKS:
        try:
            function(base, client(base))
            print(f"ok    {function.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL  {function.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
