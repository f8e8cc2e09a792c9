//! What a conversation wants done, and what it waits for.

use std::time::Duration;

use kronos_protocol::{ClientFrame, ClientInfo, InterruptId, MessageId};

use crate::chat::transcript::News;
use crate::chat::view::Remark;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::chat) enum Step {
    /// Send a frame.
    Send(ClientFrame),
    /// Show what is new in the conversation.
    News(News),
    /// Show a remark.
    Remark(Remark),
    /// A message was taken off the screen's account: it is queued and will be shown when its turn comes.
    ShowAgain(MessageId),
    /// The connection is good, and the server pings that often.
    Healthy { ping: Option<Duration> },
    /// The server goes away: when the connection has ended, connect again after this time.
    ComeBack(Duration),
    /// Give this connection up and connect again after this time.
    Reconnect(Duration),
    /// Call [`Conversation::send_pending`] after this time.
    SendLater(Duration),
    /// There is no point in going on.
    Fail(String),
}

/// What a reply will be about.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Hello,
    Attach { from_start: bool },
    Say(MessageId),
    Cancel,
    Detach,
    Resume(InterruptId),
    Unqueue,
    Edit,
    Regenerate,
    Settings,
}

/// Who this client is.
#[derive(Debug, Clone)]
pub(in crate::chat) struct Identity {
    /// The access token.
    pub(in crate::chat) token: Option<String>,
    /// This program, as other devices see it.
    pub(in crate::chat) client: Option<ClientInfo>,
}
