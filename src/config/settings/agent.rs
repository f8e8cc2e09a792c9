//! The rows of `[agent]`.

use super::{
    Setting,
    rows::{MINUTE, integer, span},
    size,
};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "agent.context_chars",
        "AGENT_CONTEXT_CHARS",
        "16000",
        integer(1, 1_000_000, |c, v| c.agent.context_chars = size(v)),
        "Characters of the context that comes with a message to the agent.",
    ),
    Setting::new(
        "agent.client_tools",
        "AGENT_CLIENT_TOOLS",
        "64",
        integer(0, 512, |c, v| c.agent.client_tools = size(v)),
        "Tools that an AG-UI client may bring and run itself.",
    ),
    Setting::new(
        "agent.disconnect_grace",
        "AG_UI_DISCONNECT_GRACE",
        "5s",
        span(0, 10 * MINUTE, |c, v| c.agent.disconnect_grace = v),
        "Time after which the run of an AG-UI client that closed its connection is stopped, unless somebody follows it again.",
    ),
];
