//! The rows of `[session]`.

use kronos_actors::config::{AbortAt, Durability};

use crate::config::value::Kind;

use super::{
    Setting, narrow,
    rows::{DAY, GIB, HOUR, KIB, MIB, MS, SECOND, bytes, integer, span, word},
    size,
};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "session.durability",
        "DURABILITY",
        "commit",
        word(Durability::WORDS, |c, v| {
            c.session.durability = Durability::from_word(v)
        }),
        "When readers see an event: after its commit, or (`relaxed`) text of an answer before it; a crash may then take back the last of it.",
    ),
    Setting::new(
        "session.relaxed_flush",
        "RELAXED_FLUSH",
        "50ms",
        span(MS, 10 * SECOND, |c, v| c.session.relaxed_flush = v),
        "With DURABILITY=relaxed: how long text that was shown may wait for a commit.",
    ),
    Setting::new(
        "session.idle_timeout",
        "SESSION_IDLE_TIMEOUT",
        "60s",
        span(100 * MS, DAY, |c, v| c.session.idle_timeout = v),
        "Time without a run and an input before a session leaves memory; its sockets stay attached.",
    ),
    Setting::new(
        "session.tail_bytes",
        "SESSION_TAIL_BYTES",
        "256KiB",
        bytes(4 * KIB, GIB, |c, v| c.session.tail_bytes = size(v)),
        "Bytes of its log that a live session keeps in memory.",
    ),
    Setting::new(
        "session.batch_bytes",
        "SESSION_BATCH_BYTES",
        "8KiB",
        bytes(KIB, MIB, |c, v| c.session.batch_bytes = size(v)),
        "Bytes of events in one batch to a reader; one larger event is a batch of its own.",
    ),
    Setting::new(
        "session.inbox_messages",
        "SESSION_INBOX_MESSAGES",
        "16",
        integer(1, 10_000, |c, v| c.session.inbox_messages = size(v)),
        "Messages that may wait behind a run.",
    ),
    Setting::new(
        "session.attachments",
        "SESSION_ATTACHMENTS",
        "64",
        integer(1, 100_000, |c, v| c.session.attachments = size(v)),
        "Sockets that may be attached to one session.",
    ),
    Setting::new(
        "session.message_chars",
        "MAX_MESSAGE_CHARS",
        "32000",
        integer(1, 1_000_000, |c, v| c.session.message_chars = size(v)),
        "Characters of one user message.",
    ),
    Setting::new(
        "session.title_chars",
        "MAX_TITLE_CHARS",
        "200",
        integer(1, 10_000, |c, v| c.session.title_chars = size(v)),
        "Characters of a title.",
    ),
    Setting::new(
        "session.import_messages",
        "MAX_IMPORT_MESSAGES",
        "1000",
        integer(1, 100_000, |c, v| c.session.import_messages = size(v)),
        "Messages with which a conversation may begin.",
    ),
    Setting::new(
        "session.import_chars",
        "MAX_IMPORT_CHARS",
        "500000",
        integer(1, 10_000_000, |c, v| c.session.import_chars = size(v)),
        "Characters of the messages with which a conversation may begin, without the last.",
    ),
    Setting::new(
        "session.run_deadline",
        "RUN_DEADLINE",
        "10m",
        span(100 * MS, DAY, |c, v| c.session.run_deadline = v),
        "Wall time of one run.",
    ),
    Setting::new(
        "session.max_run_attempts",
        "MAX_RUN_ATTEMPTS",
        "3",
        integer(1, 100, |c, v| c.session.max_run_attempts = narrow(v)),
        "Runs of one turn when crashes interrupt them; the last one stays interrupted.",
    ),
    Setting::new(
        "session.max_steps",
        "MAX_STEPS",
        "25",
        integer(1, 1000, |c, v| c.session.max_steps = narrow(v)),
        "Steps of one turn: answers of the model, each with its calls. In the last one it may make none.",
    ),
    Setting::new(
        "session.max_calls_per_step",
        "MAX_CALLS_PER_STEP",
        "16",
        integer(1, 256, |c, v| c.session.max_calls_per_step = size(v)),
        "Tool calls that the model may make at once.",
    ),
    Setting::new(
        "session.max_call_mends",
        "MAX_CALL_MENDS",
        "3",
        integer(0, 100, |c, v| c.session.max_call_mends = narrow(v)),
        "How often in a turn the model is told that it made a call that cannot be made, before the run fails.",
    ),
    Setting::new(
        "session.tool_result_bytes",
        "TOOL_RESULT_BYTES",
        "32KiB",
        bytes(KIB, MIB, |c, v| c.session.tool_result_bytes = size(v)),
        "Bytes of a tool's result that the model and clients read; a larger one is cut for them and stored whole.",
    ),
    Setting::new(
        "session.stored_result_bytes",
        "STORED_RESULT_BYTES",
        "8MiB",
        bytes(KIB, 64 * MIB, |c, v| c.session.stored_result_bytes = size(v)),
        "Bytes of a tool's result that are stored whole when it is too large for the model; of larger ones the beginning is all there is.",
    ),
    Setting::new(
        "session.question_timeout",
        "APPROVAL_TIMEOUT",
        "1d",
        span(100 * MS, 30 * DAY, |c, v| c.session.question_timeout = v),
        "Time in which somebody must answer a question of a run: an approval, an account to connect, an unknown outcome.",
    ),
    Setting::new(
        "session.context_tokens",
        "CONTEXT_TOKENS",
        "200000",
        integer(256, 10_000_000, |c, v| c.session.context_tokens = size(v)),
        "Tokens of a conversation, about, that the model reads; beyond them the beginning is summed up, by whole turns.",
    ),
    Setting::new(
        "session.max_restarts",
        "SESSION_MAX_RESTARTS",
        "5",
        integer(0, 1000, |c, v| c.session.max_restarts = narrow(v)),
        "Panics within the restart window before a session is parked.",
    ),
    Setting::new(
        "session.restart_window",
        "SESSION_RESTART_WINDOW",
        "60s",
        span(SECOND, HOUR, |c, v| c.session.restart_window = v),
        "The window in which panics are counted.",
    ),
    Setting::new(
        "session.hang_timeout",
        "SESSION_HANG_TIMEOUT",
        "30s",
        span(100 * MS, HOUR, |c, v| c.session.hang_timeout = v),
        "Time without progress after which a session that has work counts as dead and is started again.",
    ),
    Setting::new(
        "session.abort_at",
        "ABORT_AT",
        "",
        Kind::Other {
            allowed: "submit:SEQ, commit:SEQ or leave:SEQ",
            read: |c, v| {
                c.session.abort_at = AbortAt::parse(v);
                c.session.abort_at.is_some()
            },
        },
        "The process aborts at this event of a conversation's log: for tests of what a crash leaves. Refused in staging and production.",
    ),
    Setting::new(
        "session.fault_injection",
        "FAULT_INJECTION",
        "false",
        Kind::Bool(|c, v| c.session.fault_injection = v),
        "A message with `[[panic]]`, `[[disorder]]` or `[[hang]]` in it makes its session fail: for tests of the supervision. Refused in staging and production.",
    ),
    Setting::new(
        "session.mailbox",
        "SESSION_MAILBOX",
        "64",
        integer(1, 100_000, |c, v| c.session.mailbox = size(v)),
        "Commands that may wait in a session's mailbox.",
    ),
];
