//! Default bounds of the protocol. A server tells its own in `welcome`; these are what it starts from.

/// Largest websocket message in either direction, in bytes: [`MESSAGE_CHARS`] fit with room to spare as UTF-8 (128,000 at
/// most), and with every character escaped as JSON allows (`\u1234` 192,000, as surrogate pairs 384,000).
pub const FRAME_BYTES: usize = 524_288;

/// Largest websocket message before `hello` was accepted, in bytes: a token fits, a stranger's memory does not.
pub const PRE_AUTH_FRAME_BYTES: usize = 16_384;

/// Longest text of one user message, in characters (Unicode scalar values): what the REST surface takes.
pub const MESSAGE_CHARS: usize = 32_000;

/// Where the server starts a new `events` frame, in encoded bytes: small enough that one slow frame blocks no other
/// session of the connection for long. One bigger entry still travels whole.
pub const BATCH_BYTES: usize = 8_192;

/// Sessions one connection may follow at once: a client shows few, and each costs a cursor and a parked pull.
pub const ATTACHMENTS_PER_CONNECTION: usize = 64;

/// Commands of one connection that wait for their reply: a client that sends more is not reading.
pub const PENDING_COMMANDS: usize = 64;

/// Longest title of a session, in characters: one line on a screen.
pub const TITLE_CHARS: usize = 200;

/// Most parts of one user message.
pub const PARTS: usize = 64;

/// Most toolkits named in settings or run options.
pub const TOOLKITS: usize = 64;

/// Longest system prompt in settings or run options, in characters: as long as a message may be.
pub const SYSTEM_PROMPT_CHARS: usize = MESSAGE_CHARS;

/// Longest `ref`, in characters: a UUID with a prefix.
pub const REF_CHARS: usize = 64;

/// Longest session id, in bytes: part of every storage key.
pub const SESSION_ID_BYTES: usize = 64;

/// Longest user id, in bytes: part of every storage key.
pub const USER_ID_BYTES: usize = 64;

/// Longest run id, in bytes: repeated in every entry of a log.
pub const RUN_ID_BYTES: usize = 64;

/// Longest message id, in characters: providers make up to 100.
pub const MESSAGE_ID_CHARS: usize = 128;

/// Longest connection id, in bytes.
pub const CONNECTION_ID_BYTES: usize = 64;

/// Longest epoch id, in bytes.
pub const EPOCH_ID_BYTES: usize = 64;

/// Longest interrupt id, in characters: often made from a tool call's id.
pub const INTERRUPT_ID_CHARS: usize = 128;

/// Longest memory id, in bytes.
pub const MEMORY_ID_BYTES: usize = 64;

/// Longest name or version of a client program, in characters: it is repeated in every `presence` frame.
pub const DEVICE_NAME_CHARS: usize = 64;

/// Deepest nesting of a frame. Real frames have under 20 levels; reading recurses, so this bounds the stack.
pub const DEPTH: usize = 64;

/// Longest reason of a close frame, in bytes (RFC 6455, section 5.5: 125 without the code).
pub const CLOSE_REASON_BYTES: usize = 123;

/// Seconds between the server's websocket pings: below the 30 s after which the strictest common proxies cut.
pub const PING_SECONDS: u32 = 25;

/// Seconds a connection may stay without `hello`.
pub const HELLO_SECONDS: u32 = 10;
