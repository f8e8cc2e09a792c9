//! Shared state, messages as a whole, and activities.

use serde_json::{Map, Value};

use super::event;
use crate::ids::MessageId;
use crate::message::Message;
use crate::patch::PatchOp;

event! {
    /// STATE_SNAPSHOT: the shared state as a whole.
    pub struct StateSnapshot in lane {
        any {
            /// Any JSON.
            snapshot: Value = "snapshot",
        }
    }
}

event! {
    /// STATE_DELTA: a change of the shared state. A client on which it does not apply keeps its state and warns.
    pub struct StateDelta in lane {
        required {
            /// Operations in order (RFC 6902).
            delta: Vec<PatchOp> = "delta",
        }
    }
}

event! {
    /// MESSAGES_SNAPSHOT: the messages as a whole. Replaces by id and deletes local messages it does not list.
    pub struct MessagesSnapshot {
        listed {
            /// Every message, oldest first; those with a role this version does not know are left out.
            messages: Message = "messages",
        }
    }
}

event! {
    /// ACTIVITY_SNAPSHOT: an activity as a whole: progress, a plan, a widget.
    pub struct ActivitySnapshot in lane {
        required {
            /// The activity's message.
            message_id: MessageId = "messageId",
            /// What kind it is, such as `kronos.tool_progress`.
            activity_type: String = "activityType",
            /// What to show.
            content: Map<String, Value> = "content",
        }
        optional {
            /// Whether it replaces what was there; absent: it does.
            replace: bool = "replace",
        }
    }
}

event! {
    /// ACTIVITY_DELTA: a change of an activity.
    pub struct ActivityDelta in lane {
        required {
            /// The activity's message.
            message_id: MessageId = "messageId",
            /// What kind it is.
            activity_type: String = "activityType",
            /// Operations in order (RFC 6902).
            patch: Vec<PatchOp> = "patch",
        }
    }
}
