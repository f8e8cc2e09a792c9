//! Events whose content AG-UI leaves open.

use serde_json::Value;

use super::event;

event! {
    /// CUSTOM: an application's own event. Ours are named `kronos.*`.
    pub struct Custom in lane {
        required {
            /// What it is, with a namespace.
            name: String = "name",
        }
        any {
            /// Any JSON, null included.
            value: Value = "value",
        }
    }
}

event! {
    /// RAW: a foreign event, passed on.
    pub struct Raw in lane {
        any {
            /// The event as it was.
            event: Value = "event",
        }
        optional {
            /// Where it is from.
            source: String = "source",
        }
    }
}
