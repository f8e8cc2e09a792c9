//! What Gemini's reasons for ending mean. The list is `FinishReason` and `BlockReason` of its API; an unknown word means
//! the same as `OTHER`.

use kronos_protocol::error::RunErrorCode;

use super::failure::{Failure, Retry};

/// What a finish reason makes of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ending {
    /// It is complete.
    Complete,
    /// It was cut off at a bound of tokens.
    Truncated,
    /// It failed; what came before stays.
    Failed(Failure),
}

const REFUSED: &str = "The AI model declined to answer for safety reasons.";
const CHANCE: &str = "The AI model could not complete its answer. Please try again.";
const TOOLS: &str = "The AI model used its tools in a way that does not work. Please try again.";

/// Returns what `reason`, the finish reason of a candidate, means.
pub(crate) fn ending(reason: &str) -> Ending {
    let failure = match reason {
        "STOP" => return Ending::Complete,
        // CONTINUATION: the cap of one request, below the bound that was asked for.
        "MAX_TOKENS" | "CONTINUATION" => return Ending::Truncated,
        "SAFETY" | "MODEL_ARMOR" | "IMAGE_SAFETY" => blocked(REFUSED),
        "PROHIBITED_CONTENT" | "IMAGE_PROHIBITED_CONTENT" => {
            blocked("The AI model declined to answer: the content is prohibited.")
        }
        "BLOCKLIST" => blocked("The AI model declined to answer: the text holds a blocked word."),
        "SPII" => blocked("The AI model declined to answer: the text may hold sensitive personal data."),
        "RECITATION" | "IMAGE_RECITATION" => {
            blocked("The AI model stopped because the answer quoted protected material.").retry(Retry::Once)
        }
        "LANGUAGE" => blocked("The AI model does not support this language."),
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
            Failure::new(RunErrorCode::MalformedCall, TOOLS).retry(Retry::Otherwise)
        }
        // Our history lost a signature: a bug, and no retry mends it.
        "MISSING_THOUGHT_SIGNATURE" => Failure {
            retry: Retry::Never,
            ..Failure::internal()
        },
        "ESCALATION" | "PUP_LIMITED_DISABLED" => Failure {
            operator: true,
            ..Failure::new(
                RunErrorCode::UpstreamAuth,
                "The provider of the AI model has restricted this server's account.",
            )
        },
        // OTHER, FINISH_REASON_UNSPECIFIED, MALFORMED_RESPONSE, IMAGE_OTHER, NO_IMAGE, and what is not known yet.
        _ => Failure::new(RunErrorCode::UpstreamError, CHANCE).retry(Retry::Once),
    };
    Ending::Failed(Failure {
        reason: Some(known_word(reason)),
        ..failure
    })
}

/// Returns the failure of a prompt that was refused for `reason`, the block reason of its feedback. It stays refused.
pub(crate) fn prompt_blocked(reason: &str) -> Failure {
    let message = match reason {
        "SAFETY" | "IMAGE_SAFETY" | "MODEL_ARMOR" => "The AI model refused the message for safety reasons.",
        "BLOCKLIST" => "The AI model refused the message: it holds a blocked word.",
        "PROHIBITED_CONTENT" => "The AI model refused the message: its content is prohibited.",
        "JAILBREAK" => "The AI model refused the message: it tries to get around its rules.",
        // OTHER, BLOCKED_REASON_UNSPECIFIED, and what is not known yet.
        _ => "The AI model refused the message.",
    };
    Failure {
        reason: Some(known_word(reason)),
        ..blocked(message)
    }
}

fn blocked(message: &'static str) -> Failure {
    Failure::new(RunErrorCode::Blocked, message)
}

/// Returns a reason as it is shown and logged: an enum's word, or `OTHER` for anything that is none.
fn known_word(reason: &str) -> String {
    const LONGEST: usize = 64;
    let is_word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let sound = !reason.is_empty() && reason.len() <= LONGEST && reason.bytes().all(is_word);
    if sound { reason.to_owned() } else { "OTHER".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: &str) -> Failure {
        match ending(reason) {
            Ending::Failed(failure) => failure,
            other => panic!("{reason}: {other:?}"),
        }
    }

    #[test]
    fn every_finish_reason_has_its_code_and_rule() {
        use RunErrorCode::*;
        assert_eq!(ending("STOP"), Ending::Complete);
        assert_eq!(ending("MAX_TOKENS"), Ending::Truncated);
        assert_eq!(ending("CONTINUATION"), Ending::Truncated);
        for (reason, code, retry) in [
            ("SAFETY", Blocked, Retry::Never),
            ("PROHIBITED_CONTENT", Blocked, Retry::Never),
            ("BLOCKLIST", Blocked, Retry::Never),
            ("SPII", Blocked, Retry::Never),
            ("IMAGE_SAFETY", Blocked, Retry::Never),
            ("MODEL_ARMOR", Blocked, Retry::Never),
            ("LANGUAGE", Blocked, Retry::Never),
            ("RECITATION", Blocked, Retry::Once),
            ("OTHER", UpstreamError, Retry::Once),
            ("FINISH_REASON_UNSPECIFIED", UpstreamError, Retry::Once),
            ("MALFORMED_RESPONSE", UpstreamError, Retry::Once),
            ("MALFORMED_FUNCTION_CALL", MalformedCall, Retry::Otherwise),
            ("UNEXPECTED_TOOL_CALL", MalformedCall, Retry::Otherwise),
            ("TOO_MANY_TOOL_CALLS", MalformedCall, Retry::Otherwise),
            ("NO_IMAGE", UpstreamError, Retry::Once),
            ("SOMETHING_NEW_OF_2027", UpstreamError, Retry::Once),
            ("MISSING_THOUGHT_SIGNATURE", Internal, Retry::Never),
            ("ESCALATION", UpstreamAuth, Retry::Never),
            ("PUP_LIMITED_DISABLED", UpstreamAuth, Retry::Never),
        ] {
            let failure = failure(reason);
            assert_eq!((failure.code, failure.retry), (code, retry), "{reason}");
            assert_eq!(failure.reason.as_deref(), Some(reason));
            assert!(!failure.outage, "{reason}");
        }
    }

    #[test]
    fn a_reason_that_is_no_word_is_other() {
        for odd in ["", "stop", "<script>", "A B", &"A".repeat(65)] {
            assert_eq!(failure(odd).reason.as_deref(), Some("OTHER"), "{odd}");
        }
    }

    #[test]
    fn a_blocked_prompt_is_never_tried_again() {
        for reason in [
            "SAFETY",
            "OTHER",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "IMAGE_SAFETY",
            "JAILBREAK",
            "NEW",
        ] {
            let failure = prompt_blocked(reason);
            assert_eq!((failure.code, failure.retry), (RunErrorCode::Blocked, Retry::Never));
            assert_eq!(failure.reason.as_deref(), Some(reason));
        }
    }
}
